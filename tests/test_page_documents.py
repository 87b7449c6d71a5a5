"""Documents, the passages behind an answer, and the scope of a chat, in a real browser."""

import json
import re
import threading
from collections import namedtuple

import pytest

from companion.domain import LOCAL_OWNER
from tests.browser import PHONE, expect, heard
from tests.desk import CITATION, answered, ask, row, session_of, upload

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

GUIDE = """# Lighthouses

The **lighthouse** of Skagen was painted green in 1998.

| lamp | year |
|------|------|
| oil  | 1858 |
"""
KEEPER = "The lighthouse keeper of Skagen was called Ingrid Holm.\n  # This is no heading."
NARROW = "() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


@pytest.fixture
def folder(tmp_path):
    """Two files of the same name in different folders, a broken one, and one that nobody means."""
    papers = tmp_path / "papers"
    (papers / "old").mkdir(parents=True)
    (papers / "notes.md").write_text(GUIDE, encoding="utf-8")
    (papers / "old" / "notes.md").write_text(KEEPER, encoding="utf-8")
    (papers / "broken.pdf").write_bytes(b"%PDF-1.4 not really")
    (papers / ".DS_Store").write_bytes(b"x")
    return papers


def names(page):
    return page.locator(".lc-doc:not(.lc-samples *)").evaluate_all(
        "rows => rows.map(row => row.dataset.name)"
    )


def doc(page, name):
    return page.locator(f'.lc-doc[data-name="{name}"]')


def add(desk, name, text):
    return desk.companion.library.add(LOCAL_OWNER, name, text.encode())


def is_focused(page, selector):
    expect(page.locator(selector)).to_be_focused()


def test_what_is_added_while_other_files_are_read_is_kept_and_listed_at_once(desk, tmp_path):
    for name, text in (("first.md", GUIDE), ("second.md", KEEPER)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    page = desk.sit_down()
    with desk.companion.library._lock.ingesting("another"):
        upload(page, tmp_path / "first.md")
        expect(doc(page, "first.md")).to_be_visible()
        upload(page, tmp_path / "second.md")
        expect(doc(page, "second.md")).to_contain_text("Waiting")
    for name in ("first.md", "second.md"):
        expect(doc(page, name).locator(".is-searchable")).to_be_visible()


def test_what_is_typed_while_the_list_is_on_its_way_is_looked_for_too(desk, monkeypatch):
    add(desk, "lamp.md", GUIDE)
    add(desk, "keeper.md", KEEPER)
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    expect(doc(page, "lamp.md")).to_be_visible()
    documents = desk.companion.library.documents
    asked, gates = threading.Semaphore(0), [threading.Event(), threading.Event()]
    waiting = iter(gates)

    def slow(owner):
        gate = next(waiting, None)
        asked.release()
        assert gate is None or gate.wait(30)
        return documents(owner)

    monkeypatch.setattr(desk.companion.library, "documents", slow)
    for words in ("lamp", "keeper"):
        page.get_by_placeholder("Search documents by name").fill(words)
        assert asked.acquire(timeout=30), "what came while another answer was on its way was dropped"
    for gate, found, other in zip(gates, ("lamp.md", "keeper.md"), ("keeper.md", "lamp.md"), strict=True):
        gate.set()
        expect(doc(page, other)).to_have_count(0)
        expect(doc(page, found)).to_be_visible()


def test_a_folder_comes_with_its_paths_and_each_file_says_how_it_is(desk, folder):
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(str(folder))
    expect(doc(page, "papers/old/notes.md").locator(".is-searchable")).to_be_visible()
    expect(doc(page, "papers/notes.md").locator(".is-searchable")).to_be_visible()
    broken = doc(page, "papers/broken.pdf")
    expect(broken.locator(".is-failed")).to_be_visible()
    expect(broken).to_contain_text("save it as a new PDF and add that")
    results = page.locator(".lc-results")
    expect(results).to_contain_text("2 files taken in")
    expect(results).to_contain_text("papers/broken.pdf")
    expect(results).to_contain_text("the sample library is left out")
    assert sorted(names(page)) == ["papers/broken.pdf", "papers/notes.md", "papers/old/notes.md"]
    expect(page.locator("#lc-doclist h2").first).to_contain_text(
        re.compile(r"3 documents, 2 passages, \d+ B")
    )

    with page.expect_file_chooser() as chooser:
        broken.get_by_role("button", name="Choose another file").click()
    good = folder / "whole.txt"
    good.write_text("It is whole now.", encoding="utf-8")
    chooser.value.set_files(str(good))
    expect(doc(page, "papers/whole.txt").locator(".is-searchable")).to_be_visible()

    page.get_by_label("Order").select_option("name")
    expect(page.locator(".lc-doc").first).to_have_attribute("data-name", "papers/notes.md")
    assert names(page) == ["papers/notes.md", "papers/old/notes.md", "papers/whole.txt"]
    page.get_by_label("Search documents by name").fill("OLD notes")
    expect(page.locator(".lc-doc")).to_have_count(1)
    page.get_by_label("Search documents by name").fill("")
    expect(doc(page, "papers/notes.md")).to_be_visible()

    doc(page, "papers/notes.md").get_by_role("button", name="Delete").click()
    expect(page.locator(".lc-undo")).to_contain_text("What chats have said about it stays.")
    page.locator(".lc-undo button").click()
    expect(doc(page, "papers/notes.md")).to_be_visible()
    assert desk.watch.errors == []
    assert desk.watch.strangers == []


def test_each_file_on_its_way_has_a_line_that_says_how_it_is(desk, tmp_path):
    files = [tmp_path / f"note {number}.txt" for number in range(4)]
    for file in files:
        file.write_text(f"{file.name} is about lighthouses.", encoding="utf-8")
    (tmp_path / "scan.zzz").write_bytes(b"\0\1\2")
    page = desk.sit_down()
    held = []
    page.route(
        re.compile("/upload"), lambda route: held.append(route) if len(held) < 2 else route.continue_()
    )
    upload(page, *files, tmp_path / "scan.zzz")
    line = page.locator(".lc-coming li")
    expect(line).to_have_count(5)
    expect(line.nth(0)).to_have_text("note 0.txtuploading")
    for number in (1, 2, 3):
        expect(line.nth(number)).to_have_text(f"note {number}.txtwaiting")
    heard(page, lambda: held)[0].continue_()
    expect(line.filter(has_text="note 1.txt")).to_contain_text("uploading")
    heard(page, lambda: held[1:])[0].fulfill(status=500, body="no")
    # What did not arrive says so in its line; the others go on, and have lines in the list instead.
    expect(line.filter(has_text="note 1.txt")).to_have_text("note 1.txt did not arrive; add it again.")
    for number in (0, 2, 3):
        expect(doc(page, f"note {number}.txt").locator(".is-searchable")).to_be_visible()
    expect(line).to_have_count(1)
    expect(page.locator(".lc-results")).to_contain_text("scan.zzz")
    expect(page.locator(".lc-uploading")).not_to_be_visible()
    upload(page, files[1])
    expect(doc(page, "note 1.txt").locator(".is-searchable")).to_be_visible()
    expect(line).to_have_count(0)


def test_a_file_that_is_refused_on_its_way_says_why(desk, tmp_path):
    """Over one's quota it was said that it did not arrive, and should be added again."""
    (tmp_path / "large.txt").write_text("Lighthouses.", encoding="utf-8")
    page = desk.sit_down()
    why = "Your files may take 1 MB; delete some, or add a smaller one."
    refused = json.dumps({"error": {"code": "too_many", "message": why}})
    page.route(re.compile("/upload"), lambda route: route.fulfill(status=429, body=refused))
    upload(page, tmp_path / "large.txt")
    expect(page.locator(".lc-coming li")).to_have_text(f"large.txt: {why}")


def test_a_folder_can_be_dropped(desk, folder):
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    box = page.locator(".lc-drop").bounding_box()
    wire = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
        place = {"x": box["x"] + 40, "y": box["y"] + 40}
        wire.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})
    expect(doc(page, "papers/old/notes.md").locator(".is-searchable")).to_be_visible()
    expect(page.locator(".lc-doc:not(.lc-samples *)")).to_have_count(3)


def test_a_document_is_looked_into_and_asked_alone(desk):
    add(desk, "guide.md", GUIDE)
    add(desk, "keeper.txt", KEEPER)
    page = desk.sit_down()
    scope = page.locator(".lc-scope")
    expect(scope).to_contain_text("All documents · 2")
    page.get_by_role("tab", name="Documents").click()
    doc(page, "guide.md").locator(".lc-docname").press("Enter")
    panel = page.locator(".lc-sources")
    expect(panel.locator("h3")).to_have_text("Lighthouses")
    expect(panel.locator("td").first).to_have_text("oil")
    expect(panel).not_to_contain_text("**")
    expect(panel.locator(".lc-card .lc-score")).to_contain_text("tokens")
    is_focused(page, ".lc-sources h2")
    page.keyboard.press("Escape")
    expect(panel).not_to_be_visible()
    is_focused(page, '.lc-doc[data-name="guide.md"] .lc-docname')

    with page.expect_download() as saved:
        doc(page, "guide.md").get_by_role("link", name="Download guide.md").click()
    assert saved.value.suggested_filename == "guide.md"
    assert saved.value.path().read_text(encoding="utf-8") == GUIDE

    doc(page, "keeper.txt").get_by_role("button", name="Ask only keeper.txt").click()
    expect(scope).to_contain_text("keeper.txt")
    expect(page.locator("#lc-box textarea")).to_be_visible()
    desk.says("Ingrid [1].")
    ask(page, "Who kept the lighthouse of Skagen?")
    answered(page)
    message = desk.companion.store.sessions.messages(LOCAL_OWNER, session_of(page))[-1]
    assert {source.document_name for source in message.sources} == {"keeper.txt"}
    assert desk.watch.errors == []
    page.reload()
    expect(scope).to_contain_text("keeper.txt")
    page.get_by_role("button", name="New chat").click()
    expect(scope).to_contain_text("All documents · 2")


def test_a_long_document_is_read_on_where_one_was(desk):
    parts = (f"# Part {number}\n\n" + f"lamp{number} of the lighthouse " * 25 for number in range(210))
    add(desk, "long.md", "\n\n".join(parts))
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    doc(page, "long.md").locator(".lc-docname").click()
    panel = page.locator(".lc-sources")
    expect(panel.locator(".lc-card")).to_have_count(200)
    expect(panel.locator("header")).to_contain_text("the first 200 of 210")
    more = panel.get_by_role("button", name="Show 10 more")
    more.scroll_into_view_if_needed()
    more.press("Enter")
    expect(panel.locator(".lc-card")).to_have_count(210)
    expect(panel.locator(".lc-card").nth(200).locator("summary")).to_be_focused()
    expect(panel.locator(".lc-card").nth(199)).to_be_in_viewport()
    expect(more).to_have_count(0)
    expect(panel.locator("header")).to_contain_text("210 passages")
    assert desk.watch.errors == []


def test_the_scope_is_chosen_with_the_keyboard_and_says_what_is_gone(desk):
    page = desk.sit_down()
    scope = page.locator(".lc-scope")
    expect(scope).to_contain_text("Sample library ·")
    guide, keeper = add(desk, "guide.md", GUIDE), add(desk, "keeper.txt", KEEPER)
    expect(scope).to_contain_text("All documents · 2")
    scope.press("Enter")
    is_focused(page, ".lc-every")
    expect(page.locator(".lc-every")).to_be_checked()
    page.get_by_label("Find documents by name").fill("keep")
    expect(page.locator(".lc-pick:visible")).to_have_count(1)
    page.get_by_label("keeper.txt").press("Space")
    expect(page.locator(".lc-every")).not_to_be_checked()
    expect(scope).to_contain_text("keeper.txt")
    page.get_by_label("Find documents by name").fill("")
    page.get_by_label("guide.md", exact=False).first.press("Space")
    expect(scope).to_contain_text("2 of 2 documents")
    page.keyboard.press("Escape")
    expect(page.locator(".lc-choice")).not_to_be_visible()
    is_focused(page, ".lc-scope")
    desk.says("Green [1].")
    ask(page, "What colour is the lighthouse of Skagen?")
    answered(page)
    assert desk.companion.sessions.config(LOCAL_OWNER, session_of(page)).scope is not None

    desk.companion.library.delete(LOCAL_OWNER, guide.doc_id)
    expect(scope).to_contain_text("1 deleted since")
    desk.companion.library.delete(LOCAL_OWNER, keeper.doc_id)
    expect(scope).to_contain_text("Nothing to answer from")
    scope.click()
    page.locator(".lc-every").check()
    expect(scope).to_contain_text("Sample library ·")
    assert desk.companion.sessions.config(LOCAL_OWNER, session_of(page)).scope is None
    assert desk.watch.errors == []


def test_a_citation_shows_what_was_quoted_between_its_neighbours_and_leads_to_its_document(desk):
    before, after = ("Long ago the harbour was busy. " * 110, "Today the harbour is quiet. " * 110)
    add(desk, "harbour.md", f"# Before\n\n{before}\n\n{GUIDE}\n\n# After\n\n{after}")
    desk.says("The lighthouse of Skagen was painted green in 1998. [1][2][3][4]")
    page = desk.sit_down()
    ask(page, "What colour is the lighthouse of Skagen?")
    answered(page)
    sources = desk.companion.store.sessions.messages(LOCAL_OWNER, session_of(page))[-1].sources
    texts = desk.companion.store.passages.by_id([source.chunk_id for source in sources])
    number = next(source.number for source in sources if "green" in texts[source.chunk_id][0].text)
    citation = f"{CITATION}[href$='-{number}']"
    page.locator(citation).focus()
    page.keyboard.press("Enter")
    hit = page.locator(".lc-card.is-hit")
    expect(hit.locator(".lc-text mark").first).to_be_in_viewport()
    assert (
        " ".join(hit.locator(".lc-text mark").all_inner_texts()).split()[:4]
        == "The lighthouse of Skagen".split()
    )
    expect(hit.locator(".lc-near").first).to_contain_text("harbour")
    is_focused(page, ".lc-card.is-hit summary")
    page.keyboard.press("Escape")
    expect(hit).not_to_be_visible()
    is_focused(page, citation)
    page.keyboard.press("Enter")
    hit.get_by_role("button", name="Show in Documents").click()
    expect(doc(page, "harbour.md")).to_be_in_viewport()
    is_focused(page, '.lc-doc[data-name="harbour.md"] .lc-docname')
    assert desk.watch.errors == []


def test_on_a_phone_panel_and_choice_cover_the_page_and_can_be_left(desk):
    add(desk, "a folder/with quite a long name for a guide about lighthouses.md", GUIDE)
    desk.says("It was painted green [1].")
    page = desk.sit_down(viewport=PHONE, has_touch=True, color_scheme="dark")
    ask(page, "What colour is the lighthouse of Skagen?")
    answered(page)
    page.locator(CITATION).first.tap()
    expect(page.locator(".lc-card.is-hit summary")).to_be_focused()
    box = page.locator(".lc-sources").bounding_box()
    assert (box["x"], box["y"], box["width"], box["height"]) == (0, 0, PHONE["width"], PHONE["height"])
    expect(page.locator("#lc-tabs")).to_have_js_property("inert", True)
    close = page.locator(".lc-sources .lc-close")
    expect(close).to_have_text("Close")
    assert close.bounding_box()["height"] >= 40
    close.tap()
    expect(page.locator(".lc-sources")).not_to_be_visible()
    expect(page.locator("#lc-tabs")).to_have_js_property("inert", False)
    page.locator(".lc-scope").tap()
    choice = page.locator(".lc-choice")
    expect(choice).to_be_in_viewport(ratio=1)
    assert choice.bounding_box()["width"] == PHONE["width"]
    heights = [pick.bounding_box()["height"] for pick in choice.locator(".lc-pick").all()]
    assert min(heights) >= 40
    choice.get_by_role("button", name="Done").tap()
    expect(choice).not_to_be_visible()
    page.locator(CITATION).first.tap()
    page.get_by_role("button", name="Show in Documents").tap()
    expect(page.locator(".lc-sources")).not_to_be_visible()
    expect(page.locator(".lc-doc").first).to_be_in_viewport()
    small = page.locator(".lc-doc .lc-acts > *").evaluate_all(
        "acts => acts.filter(act => act.offsetParent && act.getBoundingClientRect().height < 40).length"
    )
    assert small == 0
    assert page.evaluate(NARROW)
    assert desk.watch.errors == []


def test_without_room_nothing_can_be_added_and_a_sentence_says_why(desk, note, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("companion.storage.space.shutil.disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    expect(page.locator(".lc-noroom")).to_contain_text("The disk is nearly full")
    expect(page.locator("#lc-dropzone input[type=file]")).to_be_disabled()
    expect(page.get_by_role("button", name="Choose a folder")).to_be_disabled()
    monkeypatch.undo()
    expect(page.locator("#lc-dropzone input[type=file]")).to_be_enabled()
    upload(page, note)
    expect(row(page, note).locator(".is-searchable")).to_be_visible()


def test_without_room_a_document_is_not_replaced_and_a_sentence_says_why(desk, note, monkeypatch):
    desk.companion.library.add(LOCAL_OWNER, "broken.pdf", b"%PDF-1.4 not really")
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    with page.expect_file_chooser() as chooser:
        doc(page, "broken.pdf").get_by_role("button", name="Choose another file").click()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("companion.storage.space.shutil.disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    chooser.value.set_files(str(note))
    expect(page.get_by_text("The disk has only 1 MB left").first).to_be_visible()
    expect(doc(page, "broken.pdf")).to_be_visible()


def test_a_list_of_many_documents_shows_a_part_and_the_rest_on_demand(desk):
    for number in range(104):
        add(desk, f"note {number:03}.txt", f"Note number {number}.")
    page = desk.sit_down()
    page.get_by_role("tab", name="Documents").click()
    expect(page.locator("#lc-doclist section:first-child .lc-doc")).to_have_count(100)
    page.get_by_role("button", name="Show 4 more").click()
    expect(page.locator("#lc-doclist section:first-child .lc-doc")).to_have_count(104)
    assert desk.watch.errors == []
