"""The doctor on the page: a button, and one line for each finding, the worst first."""

import sqlite3
from contextlib import closing

import pytest

from companion.app import build
from companion.config import Settings
from companion.doctor.findings import Finding
from companion.domain import LOCAL_OWNER
from companion.ui.render.doctor import examination
from tests.browser import chromium, expect, free_port, require_chromium, serving
from tests.desk import at_a_desk
from tests.fakes import FakeEmbedder, ScriptedEngine

FOUND = (
    Finding("gpu", "info", "There is no card."),
    Finding("disk", "ok", "The disk has 9 GB free."),
    Finding("database", "error", "The database is <b>torn</b>.", "Restore a backup."),
    Finding("folder", "warning", "Others may look in.", "Run: chmod 700 /data"),
)


def test_before_anybody_looked_there_is_only_the_button():
    shown = examination(None)
    assert "Examine now" in shown
    assert "<li" not in shown


def test_what_does_not_work_comes_first_with_what_to_do():
    shown = examination(FOUND)
    places = [shown.index(f'data-code="{code}"') for code in ("database", "folder", "gpu", "disk")]
    assert places == sorted(places)
    assert "1 thing does not work." in shown
    assert "<small>Restore a backup.</small>" in shown


def test_nothing_of_a_finding_is_taken_for_markup():
    assert "&lt;b&gt;torn&lt;/b&gt;" in examination(FOUND)


def test_without_an_error_everything_works():
    assert "Everything that is needed works." in examination(FOUND[:2])


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_a_person_asks_the_doctor_in_the_settings(tmp_path):
    with at_a_desk(tmp_path) as desk:
        page = desk.sit_down()
        page.get_by_role("tab", name="Settings").click()
        pane = page.locator("#lc-doctorpane")
        expect(pane).to_be_hidden()
        page.locator("#lc-setnav").get_by_role("button", name="Doctor").click()
        expect(page.locator("#lc-setpane")).to_be_hidden()
        # Whoever comes is examined.
        expect(pane.locator("[data-code=database]")).to_contain_text("The database is sound")
        expect(pane.locator("[data-code=exposure]")).to_contain_text("Only this machine can reach the app")
        pane.get_by_role("button", name="Examine now").click()
        expect(pane.get_by_role("button", name="Examine now")).to_be_enabled()
        page.locator("#lc-setnav").get_by_role("button", name="General").click()
        expect(pane).to_be_hidden()
        expect(page.locator("#lc-setpane")).to_be_visible()
        desk.leave()


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore")
def test_a_torn_database_is_said_and_leads_to_the_doctor(tmp_path):
    require_chromium()
    settings = Settings(data_dir=tmp_path / "data", port=free_port(), offline=True)
    companion = build(settings, engines=[ScriptedEngine()], light=FakeEmbedder())
    for number in range(20):
        companion.library.add(LOCAL_OWNER, f"{number}.md", f"Room {number} has a lamp. ".encode() * 200)
    companion.close()
    with closing(sqlite3.connect(settings.database_path)) as reader:
        (root,) = reader.execute("SELECT rootpage FROM sqlite_master WHERE name = 'documents'").fetchone()
    with settings.database_path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    companion = build(settings, engines=[ScriptedEngine()], light=FakeEmbedder())
    with serving(companion, settings) as url, chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator("#lc-banner")).to_contain_text("The database file is damaged")
        page.get_by_role("button", name="Ask the doctor").click()
        database = page.locator('.lc-findings [data-code="database"]')
        expect(database).to_contain_text("Restore a backup", timeout=60_000)
