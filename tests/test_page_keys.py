"""The page without a mouse, and for those who see it otherwise: keys, focus, labels, contrast."""

import re
from contextlib import suppress

import pytest

from companion.domain import LOCAL_OWNER
from tests.browser import DESKTOP, PHONE, expect
from tests.desk import ANSWER, CITATION, answered, ask, upload
from tests.fakes import done
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

TABS = ("chat", "documents", "index", "quality", "settings")
MOST_STEPS = 90
SETTLED = """document.getAnimations().every(a =>
  a.playState !== 'running' || a.effect.getTiming().iterations === Infinity)"""

FOCUSED = """() => {
  const at = document.activeElement, style = getComputedStyle(at);
  const ring = at.closest('.input-container, .wrap, label, .lc-drop') ?? at;
  return {
    tag: at.tagName, text: (at.innerText || '').trim(), name: at.getAttribute('aria-label') || at.title || '',
    seen: at.matches(':focus-visible') && (style.outlineStyle !== 'none' || style.boxShadow !== 'none'
      || getComputedStyle(ring).outlineStyle !== 'none' || ring.matches(':focus-within')),
  };
}"""


def press_until(page, target, key="Tab"):
    """Go on with one key until the focus is there."""
    expect(target.first).to_be_attached()
    for _ in range(MOST_STEPS):
        if target.first.evaluate("e => e === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {target}")


def dialog_by_key(page):
    """Chromium without a screen forgets a dialog now and then."""
    from playwright.sync_api import TimeoutError

    for _ in range(4):
        with suppress(TimeoutError), page.expect_file_chooser(timeout=10_000) as chooser:
            page.keyboard.press("Space")
        with suppress(TimeoutError):
            return chooser.value
    raise AssertionError("no key opens the dialog to choose files")


def go_to_tab(page, name):
    """From wherever one is: the tabs are one stop, and the arrows go along them."""
    tab = page.locator(f"#lc-tabs [role=tab][data-tab-id={name}]")
    press_until(page, tab)
    page.keyboard.press("Enter")
    expect(tab).to_have_attribute("aria-selected", "true")


def test_everything_can_be_done_by_keys_alone(desk, note):
    desk.ollama.scripts = [[*ANSWER, done()]]
    page = desk.sit_down()
    # Ask: the box has the focus from the beginning.
    page.keyboard.type("How do I add documents?")
    page.keyboard.press("Enter")
    answered(page)
    # Open a citation, read it, close it: back at the citation.
    link = page.locator(CITATION).first
    press_until(page, link, "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".lc-card.is-hit summary")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".lc-sources")).not_to_be_visible()
    expect(link).to_be_focused()
    # Upload.
    go_to_tab(page, "documents")
    expect(page.locator(".lc-doc").first).to_be_visible()
    field = page.locator("#lc-dropzone input[type=file]").first
    press_until(page, field)
    dialog_by_key(page).set_files(str(note))
    row = page.locator(".lc-doc", has_text=note.stem)
    expect(row.locator(".is-searchable")).to_be_visible()
    # Delete the document, and undo it.
    press_until(page, row.get_by_role("button", name="Delete"))
    page.keyboard.press("Enter")
    expect(row).to_have_count(0)
    press_until(page, page.locator("#lc-undo button"))
    page.keyboard.press("Enter")
    expect(row).to_be_visible()
    # Find the chat, rename it, delete it, and undo it.
    page.keyboard.press("Control+k")
    expect(page.locator("#lc-search")).to_be_focused()
    page.keyboard.type("documents")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".lc-open")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".lc-rename")).to_be_focused()
    page.keyboard.type("About documents")
    page.keyboard.press("Enter")
    expect(page.locator(".lc-open")).to_have_text("About documents")
    press_until(page, page.get_by_role("button", name="Delete About documents"))
    page.keyboard.press("Enter")
    expect(page.locator(".lc-session")).to_have_count(0)
    expect(page.locator("#lc-sideundo")).to_contain_text("About documents is deleted.")
    expect(page.locator("#lc-sideundo button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".lc-session.is-current")).to_contain_text("About documents")
    expect(page.locator("#lc-chat")).to_contain_text("keeps your files")
    # How the app is.
    press_until(page, page.locator(".lc-pill"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="How the app is")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".lc-pill")).to_be_focused()
    assert desk.watch.errors == []


def test_a_search_without_a_match_says_so_and_escape_brings_all_back(desk):
    page = desk.sit_down()
    desk.says("One.")
    ask(page, "A question about apples")
    answered(page)
    page.keyboard.press("Control+k")
    page.keyboard.type("zebra")
    expect(page.locator(".lc-missed")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".lc-missed")).not_to_be_visible()
    expect(page.locator(".lc-session")).to_be_visible()


def test_a_chat_that_was_deleted_and_not_brought_back_is_gone_for_good(desk):
    page = desk.sit_down()
    desk.says("One.")
    ask(page, "A question about apples")
    answered(page)
    page.locator(".lc-session").hover()
    page.get_by_role("button", name=re.compile("^Delete A question")).click()
    expect(page.locator(".lc-session")).to_have_count(0)
    until(lambda: desk.companion.sessions.list(LOCAL_OWNER) == [])
    page.reload()
    expect(page.locator("#lc-sideundo button")).to_have_count(0)
    expect(page.locator(".lc-session")).to_have_count(0)


@pytest.mark.parametrize("tab", TABS)
def test_each_control_is_reached_with_a_visible_focus_and_has_a_name(desk, tab):
    page = desk.sit_down()
    page.locator(f"#lc-tabs [data-tab-id={tab}]").click()
    for _ in range(40):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at["tag"] == "BODY":
            break
        assert at["seen"], at


def test_the_language_of_the_page_is_said_and_motion_is_reduced_where_it_is_wished(desk):
    page = desk.sit_down(reduced_motion="reduce")
    assert page.locator("html").get_attribute("lang") == "en"
    moving = """() => [...document.querySelectorAll('*')].filter(e => {
      const s = getComputedStyle(e);
      return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0.001;
    }).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(moving) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious_on_any_tab(desk, note, viewport, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = desk.sit_down(viewport=viewport, color_scheme=scheme)
    desk.says(*ANSWER)
    ask(page, "How do I add documents?")
    answered(page)
    upload(page, note)
    expect(page.locator(".lc-doc", has_text=note.stem).locator(".is-searchable")).to_be_visible()
    found = {}
    for place in (*TABS, "sources", "states"):
        show(page, place)
        # Colours fade in; what is measured is what stays.
        page.wait_for_function(SETTLED)
        for each in Axe().run(page).response["violations"]:
            if each["impact"] in ("serious", "critical"):
                where = [node["html"][:160] for node in each["nodes"]]
                found[f"{place}: {each['id']}"] = where
    assert found == {}


def show(page, place):
    if place == "sources":
        page.locator("#lc-tabs [data-tab-id=chat]").click()
        page.locator(CITATION).first.click()
        expect(page.locator(".lc-card.is-hit")).to_be_visible()
    elif place == "states":
        page.keyboard.press("Escape")
        page.locator(".lc-pill").click()
        expect(page.locator(".lc-states")).to_be_visible()
    else:
        page.locator(f"#lc-tabs [data-tab-id={place}]").click()
