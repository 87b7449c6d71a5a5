"""The page in a real browser, in front of a real server; only the model is scripted."""

import re
from pathlib import Path

import pytest

from companion.domain import LOCAL_OWNER, ModelInfo, Thought
from companion.errors import CompanionError
from tests.browser import PHONE, expect
from tests.desk import ANSWER, CITATION, NOTE, answered, ask, choose, row, session_of, upload
from tests.fakes import MODEL, THINKER, TINY, Gate, done
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]


def test_a_question_is_answered_word_by_word_with_its_thoughts_apart(desk):
    first, second = Gate(), Gate()
    desk.ollama.offered = [THINKER]
    desk.companion.store.settings.save({"model_name": THINKER.name, "thinking_mode": "hybrid"})
    desk.says(Thought("First I look into the guide."), first, "Files are ", second, "read at once [1].")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.get_by_test_id("user")).to_contain_text("How do I add documents?")
    expect(page.locator(".thought-group")).to_have_count(2)
    expect(page.locator(".thought-group").first).to_contain_text("Searched your documents")
    expect(page.locator(".thought-group").last).to_contain_text("First I look into the guide.")
    first.open.set()
    expect(page.locator("#lc-chat")).to_contain_text("Files are")
    expect(page.locator("#lc-chat")).not_to_contain_text("read at once")
    second.open.set()
    answered(page)
    expect(page.locator("#lc-chat")).to_contain_text("read at once")
    expect(page.locator(".thought-group").last).to_contain_text(re.compile(r"Thinking.*\d", re.DOTALL))
    assert desk.watch.errors == []
    assert desk.watch.strangers == []


def test_the_question_stands_there_before_the_model_says_anything(desk):
    gate = Gate()
    desk.says(gate, "Done.")
    page = desk.sit_down()
    ask(page, "Which formats can it read?")
    expect(page.get_by_test_id("user")).to_contain_text("Which formats can it read?")
    expect(page.locator("#lc-box textarea")).to_have_value("")
    gate.open.set()
    answered(page)


def test_an_example_question_can_be_clicked(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    page.locator(".lc-example").first.click()
    expect(page.get_by_test_id("user")).to_contain_text("How do I add documents?")
    answered(page)


def test_a_citation_opens_the_passage_it_stands_on_also_after_a_reload(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    expect(page.locator(".lc-sources")).to_have_count(0)
    ask(page, "How do I add documents?")
    answered(page)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_visible()
    shown = page.locator(".lc-card.is-hit .lc-text").inner_text()
    stored = desk.companion.store.sessions.messages(LOCAL_OWNER, session_of(page))[-1].sources[0]
    passage, _ = desk.companion.library.passage(LOCAL_OWNER, stored.chunk_id)
    words = re.compile(r"\w+")
    assert words.findall(shown) == words.findall(passage.text)
    page.locator(".lc-close").click()
    expect(page.locator(".lc-sources")).not_to_be_visible()
    page.reload()
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_visible()
    assert desk.watch.errors == []


def test_a_citation_of_an_answer_in_the_making_opens_too(desk):
    gate = Gate()
    desk.says("It says so here [1]. ", gate, "And more.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_visible()
    gate.open.set()
    answered(page)


def test_an_old_citation_says_that_its_passage_is_gone(desk, note):
    page = desk.sit_down()
    upload(page, note)
    expect(row(page, note).locator(".is-searchable")).to_be_visible()
    page.get_by_role("tab", name="Chat").click()
    desk.says("It was painted green [1].")
    ask(page, "What colour is the lighthouse of Skagen?")
    answered(page)
    document = desk.companion.library.documents(LOCAL_OWNER)[0]
    desk.companion.library.delete(LOCAL_OWNER, document.doc_id)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("deleted since")


def test_an_answer_goes_on_over_a_reload(desk):
    gate = Gate()
    asked = len(desk.ollama.requests)
    desk.says("The first half ", gate, "and the second half.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("The first half")
    page.reload()
    expect(page.locator("#lc-chat")).to_contain_text("The first half")
    expect(page.locator("#lc-box .stop-button")).to_be_visible()
    gate.open.set()
    expect(page.locator("#lc-chat")).to_contain_text("and the second half.")
    answered(page)
    assert len(desk.ollama.requests) == asked + 1


def test_stop_reaches_the_model_and_keeps_what_was_said(desk):
    gate = Gate()
    desk.says("As far as this ", gate, "and no further.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("As far as this")
    page.locator("#lc-box .stop-button").click()
    expect(page.locator("#lc-chat")).to_contain_text("You stopped this answer.")
    assert desk.ollama.cancelled.wait(60)
    answered(page)
    page.reload()
    expect(page.locator("#lc-chat")).to_contain_text("As far as this")
    expect(page.locator("#lc-chat")).to_contain_text("You stopped this answer.")


def test_escape_stops_an_answer(desk):
    desk.says("Begun ", Gate(), "never said.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("Begun")
    page.keyboard.press("Escape")
    expect(page.locator("#lc-chat")).to_contain_text("You stopped this answer.")


def test_another_chat_can_be_looked_at_while_one_is_answered(desk):
    gate = Gate()
    desk.says("Half of it ", gate, "and the rest.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("Half of it")
    busy = page.url
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_visible()
    expect(page.locator(".lc-session.is-busy")).to_have_count(1)
    gate.open.set()
    expect(page.locator(".lc-session.is-busy")).to_have_count(0)
    expect(page.locator(".lc-welcome")).to_be_visible()
    expect(page.locator("#lc-chat")).not_to_contain_text("and the rest.")
    page.locator(".lc-open").first.click()
    expect(page.locator("#lc-chat")).to_contain_text("and the rest.")
    expect(page).to_have_url(busy)


def test_two_tabs_see_the_same_answer(desk):
    gate = Gate()
    desk.says("Seen by ", gate, "both.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("Seen by")
    other = desk.open(page.context.new_page(), "/?session=" + session_of(page))
    expect(other.locator("#lc-chat")).to_contain_text("Seen by")
    gate.open.set()
    for tab in (page, other):
        expect(tab.locator("#lc-chat")).to_contain_text("both.")


def test_mode_and_model_are_kept_over_a_reload(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    choose(page, "#lc-model", THINKER.name)
    choose(page, "#lc-mode", "Thinking (cot)")
    ask(page, "What is two and two?")
    answered(page)
    assert desk.ollama.requests[-1].model == THINKER.name
    expect(page.locator("#lc-chat")).not_to_contain_text("Searched your documents")
    page.reload()
    expect(page.locator("#lc-model input")).to_have_value(THINKER.name)
    expect(page.locator("#lc-mode input")).to_have_value("Thinking (cot)")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#lc-model input")).to_have_value(THINKER.name)


def test_a_model_that_appears_is_listed_without_a_reload(desk):
    page = desk.sit_down()
    desk.ollama.offered = [MODEL, THINKER, ModelInfo("brand-new:1b", "ollama", 1, 8192)]
    page.locator("#lc-model input").click()
    expect(page.get_by_role("option", name="brand-new:1b")).to_be_visible()


def test_the_models_of_an_engine_that_went_away_are_soon_not_offered(desk):
    page = desk.sit_down()
    page.locator("#lc-model input").click()
    expect(page.get_by_role("option", name=THINKER.name)).to_be_visible()
    desk.ollama.offered = []
    expect(page.get_by_role("option", name=THINKER.name)).to_have_count(0)
    page.keyboard.press("Escape")
    page.locator(".lc-welcome h1").click()
    expect(page.locator("#lc-model input")).to_have_value(f"{MODEL.name} (not available)")
    page.locator("#lc-model input").click()
    expect(page.get_by_role("option", name=f"{MODEL.name} (not available)")).to_have_count(1)
    expect(page.get_by_role("option", name=TINY.name)).to_have_count(1)


def test_a_mode_belongs_to_the_chat_it_was_chosen_in(desk):
    desk.companion.store.settings.save({"thinking_mode": "hybrid"})
    desk.ollama.scripts = [["One.", done()], ["Two.", done()]]
    page = desk.sit_down()
    mode = page.locator("#lc-mode input")
    choose(page, "#lc-mode", "Thinking (cot)")
    ask(page, "A question about apples")
    answered(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_visible()
    expect(mode).to_have_value("Hybrid")
    ask(page, "A question about pears")
    answered(page)
    expect(mode).to_have_value("Hybrid")
    page.locator(".lc-session", has_text="apples").locator(".lc-open").click()
    expect(mode).to_have_value("Thinking (cot)")
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lc-set-top_k input").fill("6")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.get_by_role("button", name="New chat").click()
    expect(mode).to_have_value("Hybrid")


def test_with_a_chat_open_nothing_is_saved_when_one_setting_is_invalid(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    page.get_by_role("tab", name="Settings").click()
    top_k = page.locator("#lc-set-top_k input")
    before = top_k.input_value()
    assert before != "9"
    top_k.fill("9")
    page.locator("#lc-set-cot_iterations input").fill("0")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-set-cot_iterations .lc-error")).to_contain_text("from 1 to 3")
    expect(page.locator("#lc-saved")).to_contain_text("Not saved")
    # In this tab what was typed stays; another one shows what is stored.
    other = desk.open(page.context.new_page(), "/?session=" + session_of(page))
    other.get_by_role("tab", name="Settings").click()
    expect(other.locator("#lc-set-top_k input")).to_have_value(before)
    expect(other.locator("#lc-set-cot_iterations input")).to_have_value("2")


def test_settings_are_labelled_with_the_names_they_have_elsewhere(desk):
    page = desk.sit_down()
    page.get_by_role("tab", name="Settings").click()
    names = {"top_k": "Passages", "idle_threshold_s": "Quiet time", "thinking_mode": "How to answer"}
    for name, label in names.items():
        field = page.locator(f"#lc-set-{name}")
        expect(field.get_by_text(label, exact=True)).to_be_visible()
        expect(field.locator("code")).to_have_text(name)


def test_settings_are_kept_over_a_reload(desk):
    page = desk.sit_down()
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lc-set-top_k input").fill("7")
    page.locator("#lc-set-cot_iterations input").fill("3")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.reload()
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#lc-set-top_k input")).to_have_value("7")
    expect(page.locator("#lc-set-cot_iterations input")).to_have_value("3")
    assert desk.companion.sessions.preferences().top_k == 7


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("top_k", "500", "from 1 to 50"),
        ("cot_iterations", "0", "from 1 to 3"),
        ("idle_threshold_s", "", "from 10 to"),
        ("embed_light", "no such/folder/at all", "neither the name of a model nor"),
    ],
)
def test_an_invalid_setting_says_why_beside_the_field_and_nothing_is_lost(desk, field, value, reason):
    page = desk.sit_down()
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lc-set-gpu_idle_percent input").fill("33")
    page.locator(f"#lc-set-{field} input, #lc-set-{field} textarea").first.fill(value)
    page.locator("#lc-save").click()
    expect(page.locator(f"#lc-set-{field} .lc-error")).to_contain_text(reason)
    expect(page.locator("#lc-saved")).to_contain_text("Not saved")
    expect(page.locator("#lc-set-gpu_idle_percent input")).to_have_value("33")
    assert desk.companion.sessions.preferences().gpu_idle_percent != 33


def test_an_uploaded_file_is_listed_and_answers_come_from_it(desk, note):
    page = desk.sit_down()
    upload(page, note)
    mine = row(page, note)
    expect(mine.locator(".is-searchable")).to_be_visible()
    mine.locator(".lc-docname").click()
    expect(page.locator(".lc-sources")).to_contain_text("Ingrid Holm")
    page.locator(".lc-close").click()
    page.get_by_role("tab", name="Chat").click()
    desk.says("It was painted green [1].")
    ask(page, "What colour is the lighthouse of Skagen?")
    answered(page)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("lighthouse notes.txt")
    expect(page.locator(".lc-card.is-hit")).to_contain_text("painted green in 1998")
    assert desk.watch.errors == []


def test_the_same_file_again_is_said_to_be_there_already(desk, note):
    page = desk.sit_down()
    upload(page, note)
    expect(page.locator(".lc-results")).to_contain_text("1 file taken in")
    upload(page, note)
    expect(page.locator(".lc-results")).to_contain_text("lighthouse notes.txt is already there.")
    expect(page.locator(".lc-results")).not_to_contain_text("taken in")
    expect(row(page, note)).to_have_count(1)


def test_a_file_that_cannot_be_read_says_why_and_the_others_go_on(desk, note, tmp_path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 not really")
    strange = tmp_path / "strange.xyz"
    strange.write_bytes(bytes(range(256)) * 40)
    page = desk.sit_down()
    upload(page, broken, note, strange)
    expect(page.locator(".lc-doc", has_text="lighthouse").locator(".is-searchable")).to_be_visible(
        timeout=60_000
    )
    expect(page.locator(".lc-results")).to_contain_text("broken.pdf", timeout=60_000)
    expect(page.locator(".lc-results")).to_contain_text("strange.xyz")
    expect(page.locator(".lc-results")).to_contain_text("1 file taken in")


def test_a_deleted_document_can_be_brought_back(desk, note):
    page = desk.sit_down()
    upload(page, note)
    mine = row(page, note)
    expect(mine.locator(".is-searchable")).to_be_visible()
    mine.get_by_role("button", name="Delete").click()
    expect(mine).to_have_count(0)
    page.locator(".lc-undo button").click()
    expect(mine.locator(".is-searchable")).to_be_visible()
    expect(page.locator(".lc-undo")).not_to_be_visible()


def is_found(desk, words):
    hits = desk.companion.library.search(LOCAL_OWNER, words).hits
    return any(words in hit.passage.text for hit in hits)


def test_replacing_a_document_keeps_one_and_keeping_both_makes_two(desk, note):
    page = desk.sit_down()
    upload(page, note)
    rows = page.locator(".lc-doc", has_text="lighthouse notes")
    expect(rows.locator(".is-searchable")).to_have_count(1)
    note.write_text(NOTE + "\n\nThe lamp was lit with whale oil.", encoding="utf-8")
    upload(page, note)
    until(lambda: is_found(desk, "whale oil"))
    rows.first.locator(".lc-docname").click()
    expect(page.locator(".lc-sources")).to_contain_text("whale oil")
    expect(rows).to_have_count(1)
    page.locator(".lc-close").click()
    page.get_by_label("keep both").check()
    note.write_text("Quite another text about the sea.", encoding="utf-8")
    upload(page, note)
    expect(rows.locator(".is-searchable")).to_have_count(2)


def test_documents_are_found_by_name_and_samples_are_read_only(desk, note):
    page = desk.sit_down()
    upload(page, note)
    expect(page.locator(".lc-doc", has_text="lighthouse")).to_be_visible()
    assert page.locator(".lc-samples .lc-doc").count() > 0
    expect(page.locator(".lc-samples")).to_contain_text("not searched any more")
    expect(page.locator(".lc-samples [data-act=delete]")).to_have_count(0)
    page.get_by_label("Search documents by name").fill("LIGHT")
    expect(page.locator(".lc-doc:visible")).to_have_count(1)


def test_a_link_to_a_chat_opens_it_and_a_dead_one_says_so(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    link = "/?session=" + session_of(page)
    other = desk.open(page.context.new_page(), link)
    expect(other.get_by_test_id("user")).to_contain_text("How do I add documents?")
    dead = desk.open(page.context.new_page(), "/?session=nobody")
    expect(dead.get_by_text("This chat does not exist any more.")).to_be_visible()
    expect(dead.locator(".lc-welcome")).to_be_visible()


def test_chats_are_found_renamed_and_deleted(desk):
    desk.ollama.scripts = [["One.", done()], ["Two.", done()]]
    page = desk.sit_down()
    ask(page, "A question about apples")
    answered(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_visible()
    ask(page, "A question about pears")
    answered(page)
    expect(page.locator(".lc-session")).to_have_count(2)
    page.keyboard.press("Control+k")
    expect(page.locator("#lc-search")).to_be_focused()
    page.keyboard.type("apples")
    expect(page.locator(".lc-session:visible")).to_have_count(1)
    page.locator("#lc-search").fill("")
    pears = page.locator(".lc-session", has_text="pears")
    pears.hover()
    pears.get_by_role("button", name="Rename").click()
    page.locator(".lc-rename").fill("All about <b>fruit</b> ${1+1}")
    page.keyboard.press("Enter")
    fruit = page.locator(".lc-session", has_text="All about <b>fruit</b> ${1+1}")
    expect(fruit).to_be_visible()
    fruit.hover()
    fruit.get_by_role("button", name="Delete").click()
    expect(page.locator(".lc-session")).to_have_count(1)
    expect(page.locator(".lc-welcome")).to_be_visible()


def test_text_of_models_and_documents_runs_nothing_and_calls_nobody(desk, tmp_path):
    hostile = (
        "![spy](http://evil.example/a.png) <img src=http://evil.example/b.png onerror=alert(1)> "
        "${document.title='owned'} {{constructor}} `${document.title='owned'}` "
        "<script>document.title='owned'</script> [click](javascript:alert(1)) [1]\n\n"
        "[x]: http://evil.example/c.png\n\n![y][x]\n\n```mermaid\ngraph TD; A[<img src=http://evil.example/d.png>]\n```"
    )
    page_of_evil = tmp_path / "evil ${document.title='owned'} lighthouse.md"
    page_of_evil.write_text(f"# {hostile}\n\nThe lighthouse says {hostile}", encoding="utf-8")
    page = desk.sit_down()
    upload(page, page_of_evil)
    expect(row(page, page_of_evil).locator(".is-searchable")).to_be_visible()
    row(page, page_of_evil).locator(".lc-docname").click()
    expect(page.locator(".lc-sources")).to_contain_text("The lighthouse says")
    page.locator(".lc-close").click()
    page.get_by_role("tab", name="Chat").click()
    desk.says(hostile)
    ask(page, "What does the lighthouse say? " + hostile.replace("\n", " "))
    answered(page)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_visible()
    assert page.title() == "LLM Companion"
    assert desk.watch.strangers == []
    expect(page.locator("#lc-chat img, #lc-chat .mermaid, #lc-chat a[href^='javascript']")).to_have_count(0)
    assert desk.watch.errors == []


def test_a_broken_model_is_said_in_one_sentence(desk):
    desk.says("It began ", CompanionError("The model ran out of memory; choose a smaller one."))
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    expect(page.locator("#lc-chat")).to_contain_text("It began")
    expect(page.locator("#lc-chat")).to_contain_text("The model ran out of memory")
    expect(page.locator(".lc-note.is-failed")).to_be_visible()


def test_a_keystroke_is_a_sign_of_the_user(desk):
    page = desk.sit_down()
    before = desk.companion.work.deepening._last_sign
    page.locator("#lc-box textarea").press_sequentially("Hel")
    until(lambda: desk.companion.work.deepening._last_sign != before)


def test_a_phone_shows_one_thing_at_a_time_and_never_scrolls_sideways(desk):
    desk.says(
        "| a | b |\n|---|---|\n| " + "x" * 200 + " | y |\n\n",
        "```\n" + "long " * 80 + "\n```\n\nSo it is [1].",
    )
    page = desk.sit_down(viewport=PHONE, has_touch=True)
    expect(page.locator("#lc-side")).not_to_be_in_viewport()
    ask(page, "How do I add documents?")
    answered(page)
    narrow = (
        "() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"
    )
    assert page.evaluate(narrow)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_in_viewport()
    box = page.locator(".lc-sources").bounding_box()
    assert (box["x"], box["width"]) == (0, PHONE["width"])
    page.locator(".lc-close").click()
    page.get_by_role("button", name="Show the chats").click()
    expect(page.locator("#lc-side")).to_be_in_viewport()
    page.locator(".lc-open").first.click()
    expect(page.locator("#lc-side")).not_to_be_in_viewport()
    for tab in ("Documents", "Settings"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate(narrow)
    assert desk.watch.errors == []


def test_nothing_above_moves_when_a_passage_opens_and_it_covers_nothing(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    above = page.locator("#lc-tabs [role=tab], #lc-model, #lc-mode, #lc-status")
    boxes = "all => all.map(each => { const {x, y} = each.getBoundingClientRect(); return [x, y]; })"
    before = above.evaluate_all(boxes)
    page.locator(CITATION).first.click()
    panel = page.locator(".lc-sources")
    expect(panel).to_be_visible()
    assert above.evaluate_all(boxes) == before
    for part in ("#lc-box", "#lc-chat"):
        box = page.locator(part).bounding_box()
        assert box["x"] + box["width"] <= panel.bounding_box()["x"]
    page.locator(".lc-pill").click()
    expect(page.locator("#lc-states")).to_be_visible()
    page.locator("#lc-states .lc-remedy").first.click(trial=True)


def test_the_header_is_one_line_on_a_phone(desk):
    page = desk.sit_down(viewport=PHONE, has_touch=True)
    parts = ("#lc-menu", "#lc-model", "#lc-mode", "#lc-status")
    boxes = [page.locator(part).bounding_box() for part in parts]
    middles = [box["y"] + box["height"] / 2 for box in boxes]
    assert max(middles) - min(middles) < 4
    assert min(box["width"] for box in boxes[1:3]) > 100
    for box, right in zip(boxes, [*(box["x"] for box in boxes[1:]), PHONE["width"]], strict=True):
        assert box["x"] + box["width"] <= right


def test_the_page_follows_the_light_and_dark_of_the_system(desk):
    shades = []
    for scheme in ("light", "dark"):
        page = desk.sit_down(color_scheme=scheme)
        colour = page.evaluate(
            "getComputedStyle(document.querySelector('#lc-main').closest('.gradio-container')).backgroundColor"
        )
        shades.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
    assert shades[0] > 600
    assert shades[1] < 150


def test_nothing_of_the_page_is_a_public_interface(desk):
    page = desk.sit_down()
    listed = page.request.get(desk.url + "/gradio_api/info").json()
    assert listed["named_endpoints"] == {}
    assert listed["unnamed_endpoints"] == {}


def test_a_path_that_was_not_uploaded_is_refused(desk):
    from companion.errors import InvalidInput
    from companion.ui.here import uploaded

    for path in ("/etc/passwd", str(Path(__file__)), "../../etc/passwd"):
        with pytest.raises(InvalidInput):
            uploaded(desk.companion.arrivals, LOCAL_OWNER, path)
