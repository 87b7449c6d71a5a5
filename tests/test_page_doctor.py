"""The doctor on the page: a button, and one line for each finding, the worst first."""

import pytest

from companion.doctor.findings import Finding
from companion.ui.render.doctor import examination
from tests.browser import expect
from tests.desk import at_a_desk

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
