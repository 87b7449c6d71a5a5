"""The conversation in a real browser: how it streams, what can be done with it, how tabs agree."""

import json
import re

import pytest

from companion.domain import LOCAL_OWNER, MessageState, Thought
from companion.errors import CompanionError
from tests.browser import PHONE, expect, heard
from tests.desk import ANSWER, answered, ask, choose, session_of
from tests.fakes import THINKER, Gate, done

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

BELOW = "e => e.scrollHeight - e.clientHeight - e.scrollTop"
PLACE = """words => [...document.querySelectorAll('[data-testid=user]')]
  .find(message => message.textContent.includes(words)).getBoundingClientRect().y"""
SECONDS = re.compile(r"[1-9]\d* s\b")
LATEST = "Jump to the latest"
RICH = [
    "An integral: $$\\int_0^1 x\\,dx = \\frac12$$ and a wide one:\n\n$$"
    + " + ".join(["x^2"] * 40)
    + "$$\n\n",
    "| a | b |\n|---|---|\n| " + "x" * 120 + " | y |\n\n",
    "```python\nprint('" + "long " * 60 + "')\n```\n\nSo it is [1].",
]
NARROW = "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


def chat(page):
    return page.locator("#lc-chat")


def stored(desk, page):
    return desk.companion.store.sessions.messages(LOCAL_OWNER, session_of(page))


def action(page, name):
    page.locator("#lc-log .message-row").last.hover()
    return page.locator("#lc-log").get_by_role("button", name=name, exact=True).last


def edit(page, question, words):
    bubble = page.get_by_test_id("user").filter(has_text=question)
    bubble.hover()
    bubble.get_by_role("button", name="Edit").click()
    field = page.get_by_label("The question in other words")
    expect(field).to_have_value(question)
    field.fill(words)
    return field


def test_what_is_asked_before_the_page_is_whole_is_asked_when_it_is(desk):
    """Whoever types at once must not see the question vanish under the first view."""
    desk.says(*ANSWER)
    held = []
    page = desk.browser_page()
    page.route("**/run/predict*", lambda route: route.continue_() if held else held.append(route))
    page.goto(desk.url)
    ask(page, "How do I add documents?")
    first = heard(page, lambda: held)[0]
    expect(page.get_by_test_id("user")).to_have_count(0)
    first.continue_()
    expect(page.get_by_test_id("user")).to_have_text(re.compile("How do I add documents"))
    answered(page)
    expect(page.locator("#lc-box textarea")).to_have_value("")
    assert len(desk.companion.sessions.list(LOCAL_OWNER)) == 1


@pytest.mark.parametrize("way", ["a new chat", "another chat"])
def test_what_is_asked_before_the_chosen_chat_is_there_is_asked_in_it(desk, way):
    page = desk.sit_down()
    ask(page, "First question")
    answered(page)
    first = session_of(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_visible()
    ask(page, "Second question")
    answered(page)
    held = []
    page.route("**/run/predict*", lambda route: route.continue_() if held else held.append(route))
    if way == "a new chat":
        page.get_by_role("button", name="New chat").click()
    else:
        page.locator(f".lc-session[data-id='{first}'] .lc-open").click()
    turning = heard(page, lambda: held)[0]
    ask(page, "Third question")
    page.wait_for_timeout(300)
    turning.continue_()
    expect(chat(page)).to_contain_text("Third question")
    answered(page)
    asked = [message.content for message in stored(desk, page) if message.role == "user"]
    assert asked == (["Third question"] if way == "a new chat" else ["First question", "Third question"])


def test_a_question_waits_for_no_chat_that_cannot_be_opened(desk):
    page = desk.sit_down()
    ask(page, "First question")
    answered(page)
    stays = session_of(page)
    page.evaluate("lcEarly.patience = 1; lcEarly.turn('gone')")
    ask(page, "Second question")
    expect(chat(page)).to_contain_text("Second question")
    assert session_of(page) == stays


def test_a_reader_is_never_moved_and_jumps_to_the_end_when_they_like(desk):
    first, second = Gate(), Gate()
    lines = [f"Line {number} of a long answer.\n\n" for number in range(60)]
    later = [f"Later line {number}.\n\n" for number in range(20)]
    desk.says(*lines, first, *later, second, *[f"Last line {number}.\n\n" for number in range(20)])
    page = desk.sit_down()
    ask(page, "Tell me everything about documents")
    expect(chat(page)).to_contain_text("Line 59")
    log = chat(page).element_handle()
    page.wait_for_function(f"{BELOW} < 3", arg=log)
    jump = page.get_by_role("button", name=LATEST)
    expect(jump).not_to_be_visible()
    chat(page).hover()
    page.mouse.wheel(0, -900)
    page.wait_for_function(f"{BELOW} > 500", arg=log)
    before = log.evaluate("e => e.scrollTop")
    first.open.set()
    expect(chat(page)).to_contain_text("Later line 19")
    assert abs(log.evaluate("e => e.scrollTop") - before) < 5
    jump.click()
    page.wait_for_function(f"{BELOW} < 3", arg=log)
    expect(jump).not_to_be_visible()
    second.open.set()
    expect(chat(page)).to_contain_text("Last line 19")
    answered(page)
    page.wait_for_function(f"{BELOW} < 3", arg=log)
    assert desk.watch.errors == []
    page.reload()
    expect(chat(page)).to_contain_text("Last line 19")
    page.wait_for_function(f"{BELOW} < 3", arg=chat(page).element_handle())


def test_what_goes_wrong_is_said_to_those_who_have_scrolled_up_too(desk):
    sessions = desk.companion.sessions
    desk.says(*[f"Line {number} of a long answer.\n\n" for number in range(60)])
    page = desk.sit_down()
    ask(page, "Tell me everything about documents")
    answered(page)
    mine = session_of(page)
    page.locator(".lc-new").click()
    expect(chat(page)).not_to_contain_text("Line 59")
    desk.says("Another.")
    ask(page, "How do I add documents?")
    answered(page)
    page.locator(f".lc-session[data-id='{mine}'] .lc-open").click()
    expect(chat(page)).to_contain_text("Line 59")
    chat(page).hover()
    page.mouse.wheel(0, -900)
    expect(page.get_by_role("button", name=LATEST)).to_be_visible()
    other = next(each for each in sessions.list(LOCAL_OWNER) if each.session_id != mine)
    sessions.delete(LOCAL_OWNER, other.session_id)
    page.locator(f".lc-session[data-id='{other.session_id}'] .lc-open").click()
    expect(page.get_by_role("alert")).to_be_visible()


def test_each_paragraph_begins_where_its_writing_begins(desk):
    desk.says("The app stays here.\n\n", "يعمل التطبيق على جهازك فقط.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    sides = page.locator("#lc-log .bot-row .message-content p").evaluate_all(
        """all => all.map(paragraph => {
          const first = document.createRange(), box = paragraph.getBoundingClientRect();
          first.setStart(paragraph.firstChild, 0);
          first.setEnd(paragraph.firstChild, 1);
          return first.getBoundingClientRect().x - box.x < box.width / 2 ? 'left' : 'right';
        })"""
    )
    assert sides[-2:] == ["left", "right"]


def test_earlier_messages_come_in_above_what_is_read(desk):
    desk.says("The newest answer.")
    page = desk.sit_down()
    ask(page, "The very first question")
    answered(page)
    for number in range(60):
        desk.companion.store.sessions.add_message(
            LOCAL_OWNER, session_of(page), "user", f"Question number {number}"
        )
    page.reload()
    expect(chat(page)).to_contain_text("Question number 59")
    expect(page.get_by_test_id("user")).to_have_count(40)
    chat(page).evaluate("e => e.scrollTop = 0")
    where = page.evaluate(PLACE, "Question number 20")
    page.get_by_role("button", name="Show earlier").click()
    expect(chat(page)).to_contain_text("The very first question")
    page.wait_for_function("document.querySelector('#lc-chat').scrollTop > 300")
    page.wait_for_function(
        f"([words, y]) => Math.abs(({PLACE})(words) - y) < 5", arg=["Question number 20", where]
    )


def test_thoughts_are_timed_while_they_last_and_the_search_says_what_it_found(desk):
    gate = Gate()
    desk.ollama.offered = [THINKER]
    desk.companion.store.settings.save({"model_name": THINKER.name, "thinking_mode": "hybrid"})
    desk.says(Thought("First I look into the guide."), gate, "It is so [1].")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    search, thinking = (page.locator("#lc-live .thought-group").nth(number) for number in (0, 1))
    expect(search).to_contain_text(
        re.compile(r"Searched your documents.*\d passages?, .* index, \d+ m?s", re.DOTALL)
    )
    expect(thinking).to_contain_text("First I look into the guide.")
    expect(thinking).to_contain_text(SECONDS)
    shown = SECONDS.search(thinking.inner_text())[0]
    expect(thinking).not_to_contain_text(shown)
    expect(thinking).to_contain_text(SECONDS)
    gate.open.set()
    answered(page)
    expect(page.locator("#lc-live .message-row")).to_have_count(0)
    kept = page.locator("#lc-log .thought-group")
    expect(kept.last).to_contain_text(re.compile(r"Thinking.*[1-9].*s", re.DOTALL))
    expect(kept.first.get_by_text("user-guide.md").first).not_to_be_visible()
    kept.first.get_by_text("Searched your documents").click()
    expect(kept.first.get_by_text("user-guide.md").first).to_be_visible()
    assert desk.watch.errors == []


def test_stopping_is_said_in_every_tab_until_the_engine_has_let_go(desk):
    desk.says("Begun ", Gate(), "never said.")
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    expect(chat(page)).to_contain_text("Begun")
    other = desk.open(page.context.new_page(), "/?session=" + session_of(page))
    expect(chat(other)).to_contain_text("Begun")
    run = desk.companion.runs.get(session_of(page))
    cancel, run._cancel = run._cancel, lambda: None
    page.locator("#lc-box .stop-button").click()
    for tab in (page, other):
        expect(chat(tab)).to_contain_text("Stopping…")
        expect(tab.locator("#lc-box .stop-button")).to_contain_text("Stopping…")
    cancel()
    for tab in (page, other):
        expect(chat(tab)).to_contain_text("You stopped this answer.")
        expect(chat(tab)).not_to_contain_text("Stopping…")
        expect(tab.locator("#lc-box .submit-button")).to_be_visible()


def test_what_can_be_done_stands_under_the_last_answer_and_under_others_when_one_points_at_them(desk):
    usage = {"answer_tokens": 300, "answer_ms": 6000.0, "prompt_tokens": 900}
    desk.ollama.scripts = [["An earlier one.", done()], [*ANSWER, done(**usage)]]
    page = desk.sit_down()
    for question, said in (
        ("How do I add documents?", "An earlier one."),
        ("What does hybrid mode do with documents?", "leaves it"),
    ):
        ask(page, question)
        expect(chat(page)).to_contain_text(said)
        answered(page)
    rows = page.locator("#lc-log .bot-row .lc-does")
    page.mouse.move(5, 5)
    expect(rows.last).to_have_css("opacity", "1")
    expect(rows.first).to_have_css("opacity", "0")
    expect(chat(page)).not_to_contain_text("tokens/s", use_inner_text=True)
    rows.first.get_by_role("button", name="Copy").focus()
    expect(rows.first).to_have_css("opacity", "1")
    page.locator("#lc-log").get_by_title("Details").last.click()
    facts = page.locator("dl.lc-pop").last
    for fact in ("llama3.2:3b", "Documents (rag)", "300 tokens", "50 tokens/s", "First word after"):
        expect(facts).to_contain_text(fact)
    page.keyboard.press("Escape")
    expect(facts).not_to_be_visible()


def test_copy_takes_an_answer_as_it_was_written(desk):
    """Markdown with its citations: not what the page makes of formulas, tables and code."""
    desk.ollama.scripts = [["An earlier one.", done()], [*RICH, " Spaces  and <b>&amp;</b> stay.", done()]]
    page = desk.sit_down()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for question, said in (
        ("How do I add documents?", "An earlier one."),
        ("Which file formats are read here?", "stay."),
    ):
        ask(page, question)
        expect(chat(page)).to_contain_text(said)
        answered(page)
    action(page, "Copy").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".lc-copy.is-done")).to_have_count(1)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == stored(desk, page)[-1].content
    for mark in (
        "$$\\int_0^1",
        "|---|---|",
        "```python\nprint('long long",
        "So it is [1].",
        "and <b>&amp;</b> stay.",
    ):
        assert mark in copied
    assert desk.watch.errors == []


def test_copy_works_over_plain_http_from_another_machine_too(desk):
    """There browsers give a page no clipboard; the button said and did nothing."""
    desk.ollama.scripts = [["Press the blue button.", done()]]
    page = desk.sit_down()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    ask(page, "How do I add documents?")
    answered(page)
    action(page, "Copy").click()
    expect(page.locator(".lc-copy.is-done")).to_have_count(1)
    box = page.locator("#lc-box textarea")
    box.focus()
    page.keyboard.press("Control+V")
    expect(box).to_have_value("Press the blue button.")


def test_a_retry_keeps_the_old_answer_until_there_is_a_new_one(desk):
    gate = Gate()
    desk.ollama.scripts = [
        ["The first answer [1].", done()],
        ["A second ", gate, "answer [1].", done()],
        [CompanionError("The model ran out of memory; choose a smaller one.")],
        ["A draft.", done()],
        ["A draft.", done()],
        ["A thought-out answer.", done()],
    ]
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    action(page, "Retry").click()
    expect(chat(page)).to_contain_text("A second")
    expect(chat(page)).to_contain_text("The first answer")
    expect(chat(page)).to_contain_text("stays until the new one is there")
    gate.open.set()
    expect(chat(page)).not_to_contain_text("The first answer")
    answered(page)
    action(page, "Retry").click()
    expect(chat(page)).to_contain_text("The earlier answer stays")
    expect(chat(page)).to_contain_text("The model ran out of memory")
    expect(chat(page)).to_contain_text("A second answer")
    answered(page)
    page.locator("#lc-log .message-row").last.hover()
    page.get_by_title("Answer again in another way").click()
    page.get_by_role("button", name="Thinking (cot)").click()
    expect(chat(page)).to_contain_text("A thought-out answer.")
    answered(page)
    assert [message.mode for message in stored(desk, page)][-1] == "cot"
    assert len(stored(desk, page)) == 2


def test_a_question_is_edited_where_it_stands_and_sent_again(desk):
    question = "What is `x < y` &amp; $5?\n\n  - indented"
    desk.ollama.scripts = [["One.", done()], ["Two.", done()], ["A new one.", done()]]
    page = desk.sit_down()
    ask(page, question)
    answered(page)
    ask(page, "Which file formats are read here?")
    expect(chat(page)).to_contain_text("Two.")
    answered(page)
    bubble = page.get_by_test_id("user").first
    bubble.hover()
    bubble.get_by_role("button", name="Edit").click()
    field = page.get_by_label("The question in other words")
    expect(field).to_have_value(question)
    field.fill("Never sent")
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(chat(page)).to_contain_text("Two.")
    edit(page, "Which file formats are read here?", "Which models can the app use?").press("Enter")
    expect(chat(page)).to_contain_text("A new one.")
    answered(page)
    expect(chat(page)).to_contain_text("Which models can the app use?")
    expect(chat(page)).not_to_contain_text("Two.")
    assert [message.content for message in stored(desk, page)] == [
        question,
        "One.",
        "Which models can the app use?",
        "A new one.",
    ]
    assert desk.watch.errors == []


def test_words_that_the_server_refuses_stay_in_their_form(desk):
    gate = Gate()
    desk.ollama.scripts = [["One.", done()], ["Begun ", gate, "and ended.", done()], ["A new one.", done()]]
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    # Another tab asks between the click and the sending.
    field = edit(page, "How do I add documents?", "Words that took long to find")
    desk.companion.runs.start(LOCAL_OWNER, session_of(page), "Which file formats are read here?")
    form = page.locator(".lc-edit")
    for _ in range(2):
        field.press("Enter")
        expect(form.get_by_role("alert")).to_contain_text("answer is still being written")
        expect(form.get_by_role("alert")).to_be_visible()
        expect(field).to_have_value("Words that took long to find")
        expect(field).to_be_focused()
    gate.open.set()
    expect(chat(page)).to_contain_text("and ended.")
    field.press("Enter")
    expect(chat(page)).to_contain_text("A new one.")
    expect(form).to_have_count(0)
    assert stored(desk, page)[0].content == "Words that took long to find"
    assert desk.watch.errors == []


def test_a_question_that_was_never_answered_can_be_asked_again(desk):
    desk.ollama.scripts = [["One.", done()], ["Here it is.", done()]]
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    desk.companion.store.sessions.add_message(LOCAL_OWNER, session_of(page), "user", "Lost in a power cut?")
    expect(chat(page)).to_contain_text("Lost in a power cut?")
    action(page, "Retry").click()
    expect(chat(page)).to_contain_text("Here it is.")


@pytest.mark.parametrize("kind", ["Markdown", "JSON"])
def test_a_chat_can_be_downloaded(desk, kind):
    desk.says(*ANSWER)
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    page.locator("#lc-chatmenu summary").click()
    with page.expect_download() as waited:
        page.get_by_role("link", name=f"Download as {kind}").click()
    text = waited.value.path().read_text(encoding="utf-8")
    assert waited.value.suggested_filename.startswith("How do I add documents")
    assert "keeps your files" in text
    if kind == "JSON":
        assert json.loads(text)
    expect(page.locator("#lc-chatmenu .lc-pop")).not_to_be_visible()


def test_the_cost_of_a_question_is_said_while_it_is_typed(desk):
    desk.says(*ANSWER)
    page = desk.sit_down()
    box, cost = page.locator("#lc-box textarea"), page.locator(".lc-cost")
    expect(cost).not_to_be_visible()
    box.press_sequentially("How do I add")
    expect(cost).to_contain_text(re.compile(r"about [\d,]+ of [\d,]+ tokens"))
    box.fill("")
    expect(cost).not_to_be_visible()
    box.fill("word " * 19_000)
    expect(cost).to_contain_text("longer than the model’s window")
    box.fill("How do I add documents?")
    expect(cost).to_contain_text("about")
    page.keyboard.press("Enter")
    answered(page)
    expect(cost).not_to_be_visible()


def test_what_might_be_asked_next_can_be_clicked(desk):
    desk.ollama.scripts = [["Drop them [1].", done()], ["It goes on [1].", done()]]
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    chip = page.locator(".lc-next").first
    question = chip.inner_text()
    assert question in desk.companion.chat.suggestions(LOCAL_OWNER, session_of(page))
    chip.click()
    expect(page.get_by_test_id("user").last).to_contain_text(question)
    expect(chat(page)).to_contain_text("It goes on")


def test_tabs_agree_about_questions_edits_retries_and_deletions(desk):
    desk.ollama.scripts = [[f"Answer {number}.", done()] for number in range(1, 5)]
    page = desk.sit_down()
    ask(page, "First question")
    answered(page)
    other = desk.open(page.context.new_page(), "/?session=" + session_of(page))
    expect(chat(other)).to_contain_text("Answer 1.")
    ask(page, "Which file formats are read here?")
    answered(page)
    expect(chat(other)).to_contain_text("Which file formats are read here?")
    expect(chat(other)).to_contain_text("Answer 2.")
    action(page, "Retry").click()
    expect(chat(other)).to_contain_text("Answer 3.")
    expect(chat(other)).not_to_contain_text("Answer 2.")
    answered(page)
    edit(page, "First question", "Another question").press("Enter")
    expect(chat(other)).to_contain_text("Another question")
    expect(chat(other)).not_to_contain_text("Which file formats are read here?")
    expect(chat(other)).to_contain_text("Answer 4.")
    desk.companion.sessions.delete(LOCAL_OWNER, session_of(page))
    for tab in (page, other):
        expect(tab.locator(".lc-welcome")).to_be_visible()
        expect(tab.get_by_text("This chat does not exist any more.").first).to_be_visible()


def test_wide_things_scroll_in_their_own_box_on_a_phone_and_all_can_be_touched(desk):
    desk.says(*RICH)
    page = desk.sit_down(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    ask(page, "How do I add documents?")
    answered(page)
    assert page.evaluate(NARROW)
    for wide in (".katex-display", "table", "pre"):
        box = chat(page).locator(wide).last
        assert box.evaluate("e => e.scrollWidth > e.clientWidth"), wide
        assert box.bounding_box()["x"] + box.bounding_box()["width"] <= PHONE["width"], wide
    expect(page.locator("#lc-log .lc-does").last).to_have_css("opacity", "1")
    for target in page.locator("#lc-log .lc-do:visible, #lc-chatmenu summary").all():
        size = target.bounding_box()
        assert min(size["width"], size["height"]) >= 40
    for meta in page.locator(".lc-meta").all():
        assert meta.bounding_box()["height"] <= 44
    chips = chat(page).get_by_text(re.compile("passages?, .* index"))
    assert chips.first.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    page.locator("#lc-log").get_by_title("Details").tap()
    facts = page.locator("dl.lc-pop").bounding_box()
    assert facts["x"] >= 0
    assert facts["x"] + facts["width"] <= PHONE["width"]
    page.locator(".lc-welcome, #lc-box textarea").last.tap()
    expect(page.locator("dl.lc-pop")).not_to_be_visible()
    choose(page, "#lc-mode", "Thinking (cot)")
    assert stored(desk, page)[-1].state is MessageState.COMPLETE
    assert desk.watch.errors == []
