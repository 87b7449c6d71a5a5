"""What is shown is made from values, holds nothing harmful, and says things plainly."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html import unescape

import pytest

from companion.chat.packing import Estimate
from companion.conditions import Action, Condition
from companion.domain import (
    Document,
    DocumentState,
    Message,
    MessageState,
    ModelInfo,
    Notice,
    Place,
    Retrieved,
    Role,
    Session,
    Source,
    ThinkingMode,
    Thought,
    Token,
    Totals,
    Usage,
)
from companion.library.intake import Progress
from companion.ui.markdown import harmless
from companion.ui.render.conversation import Turn, conversation, cost_line, running
from companion.ui.render.documents import Shelf, document_list, undo_bar, upload_results
from companion.ui.render.models import model_choices
from companion.ui.render.sessions import session_list
from companion.ui.render.settings import complaint
from companion.ui.render.sources import PASSAGES, Opened, passage_cards, source_cards
from companion.ui.render.status import banner, pill
from companion.ui.render.words import day_group, place, size
from tests.fakes import passage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)>"


def source(number=1, **more):
    values = {
        "chunk_id": f"d1:{number}", "doc_id": "d1", "document_name": "guide.md", "text_hash": "h",
        "place": Place(page=3, heading="Idle"), "score": 0.83, "layers": ("lexical", "light"), "cited": True,
    }  # fmt: skip
    return Source(number=number, **{**values, **more})


def answer(content="So it is [1].", **more):
    values = {
        "message_id": 7,
        "session_id": "s",
        "role": Role.ASSISTANT,
        "created_at": NOW,
        "sources": (source(),),
    }
    return Message(content=content, **{**values, **more})


def question(content):
    return Message(1, "s", Role.USER, content, NOW)


def document(**more):
    values = {
        "doc_id": "d1", "owner": "local", "name": "guide.md", "source_type": "markdown", "source_path": None,
        "content_hash": "h", "size": 2_100_000, "state": DocumentState.SEARCHABLE, "created_at": NOW,
        "updated_at": NOW, "passages": 12,
    }  # fmt: skip
    return Document(**{**values, **more})


def listed(own, samples=(), progress=None):
    return document_list(Shelf(own, samples, Totals(1, 1, 12, 2_100_000), progress or {}), NOW, UTC)


def text_of(shown):
    return "\n".join(message["content"] for message in shown)


# --- harmless Markdown --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        f"> {HOSTILE}",
        f"- {HOSTILE}\n- b",
        f"\\`{HOSTILE}`",
        f"`` ` `{HOSTILE}``",
        f"a `unclosed {HOSTILE}",
        f"**{HOSTILE}**",
        f"| a |\n|---|\n| {HOSTILE} |",
        f"$$ {HOSTILE} $$",
        f"\\({HOSTILE}\\)",
        f"<br {HOSTILE}>",
        f"[{HOSTILE}](http://a.example)",
        f"![{HOSTILE}](http://a.example/x.png)",
        f"[1]{HOSTILE}",
    ],
)
def test_html_of_others_is_text(text):
    shown = harmless(text, {1: "[1](#src-7-1)"})
    for allowed in ("<small>", "</small>", "<code>", "</code>", "<http://a.example>", "<br>"):
        shown = shown.replace(allowed, "")
    assert "<" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "![a](http://evil.example/a.png)",
        "![a](<http://evil.example/a.png> 'title')",
        "![a][ref]\n\n[ref]: http://evil.example/a.png",
        "![ref][]\n\n[ref]: http://evil.example/a.png",
        "![ref]\n\n[ref]: http://evil.example/a.png",
        "[![a](http://evil.example/a.png)](http://evil.example)",
        "![a [b] c](http://evil.example/a.png)",
        "![a\\](x)](http://evil.example/a.png)",
        "$$ ![a](http://evil.example/a.png) $$",
        "![a]\n(http://evil.example/a.png)",
    ],
)
def test_no_image_is_ever_loaded(text):
    assert "![" not in harmless(text)


def test_code_is_code_at_the_left_margin_whatever_stood_around_it():
    inside_a_list = harmless("1. a\n   ```py\n   x < 1\n   ```\n<b>")
    assert "\n```py\nx < 1\n```\n" in inside_a_list
    assert inside_a_list.endswith("&lt;b>")
    assert "\n````\n```\n<b>\n````\n" in harmless("~~~\n```\n<b>\n~~~")
    assert harmless("```\nstill open <b>").endswith("\n```\n")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "1. Run:\n\n    ```java\n    List<String> x = a[1];\n    ```\nSo [1]",
            "java\nList<String> x = a[1];",
        ),
        ("- a\n  - b:\n    ~~~\n    x < a[1]\n    ~~~\nSo [1]", "\nx < a[1]"),
        ("10. ```py\n    if a[1]:\n      b\n    ```\n11. So [1]", "py\nif a[1]:\n  b"),
        ("> ```\n> x < a[1]\n> ```\n> So [1]", "\nx < a[1]"),
        ("> ```\n> x < a[1]\nSo [1]", "\nx < a[1]"),
        ("```\n    ```\nx\n```\nSo [1]", "\n    ```\nx"),
    ],
)
def test_code_within_items_and_quotations_is_code_and_ends_where_it_ends(text, code):
    shown = harmless(text, {1: "[1](#src-7-1)"})
    ticks = "````" if "    ```\nx" in code else "```"
    assert f"\n{ticks}{code}\n{ticks}\n" in shown
    assert shown.rstrip().endswith("So [1](#src-7-1)")


def test_code_that_is_set_in_is_code_and_its_numbers_are_no_chips():
    chips = {1: "[1](#src-7-1)"}
    shown = harmless("So [1]:\n\n    a[1] < b\n\n    c = d\n\nAnd [1].", chips)
    assert "\n```\na[1] < b\n\nc = d\n```\n" in shown
    assert shown.count("(#src-7-1)") == 2
    under_an_item = harmless("- An item\n\n    goes on [1]", chips)
    assert "(#src-7-1)" in under_an_item
    assert "```" not in under_an_item


def test_a_diagram_stays_text():
    assert "mermaid" not in harmless("```mermaid\ngraph TD\n```")
    assert "mermaid" not in harmless("``` MERMAID {x}\ngraph TD\n```")


def test_a_link_shows_where_it_leads():
    assert "(https://evil.example/login)" in harmless("[your bank](https://evil.example/login)")
    assert harmless("[https://a.example/](https://a.example/)").count("a.example") == 2


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "#src-9-1", "/logout"]
)
def test_only_web_and_mail_addresses_become_links(address):
    assert "](" not in harmless(f"[click]({address})")


def test_definitions_of_links_define_nothing():
    assert "]:" not in harmless("[1]: http://evil.example\n\n[a]: http://evil.example")


def test_citations_become_chips_and_other_numbers_stay_text():
    shown = harmless("So [1], and [2]. `a[1]`", {1: "[1](#src-7-1)"})
    assert shown.count("(#src-7-1)") == 1
    assert "&#91;2&#93;" in shown


def test_a_citation_before_brackets_is_a_citation():
    chips = {1: "[1](#src-7-1)", 2: "[2](#src-7-2)"}
    assert harmless("费用为20欧元[1](每月)。", chips) == "费用为20欧元[1](#src-7-1)&#40;每月&#41;。"
    assert harmless("The fee [1][2](monthly)", chips).count("(#src-7-") == 2
    assert harmless("20 euros [1](per month).", chips) == "20 euros [1](#src-7-1)(per month)."
    assert harmless("So [3](https://a.example).", chips).count("a.example") == 2


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "piece", ["[a](" + " " * 90_000 + "x", "[a](b" + " " * 90_000 + "'", r"\(", r"\[", "$$a"]
)
def test_a_hostile_text_is_read_once(piece):
    """It was looked through again from each of its characters, for minutes, and nobody else was served."""
    assert harmless(piece * (100_000 // len(piece)))


def test_plain_formatting_is_left_alone():
    text = "# Title\n\n**bold** *it* `code`\n\n- a\n- b\n\n| x | y |\n|---|---|\n| 1 | 2 |"
    assert harmless(text) == text


# --- the conversation ---------------------------------------------------------------------


def test_an_answer_has_its_search_its_thoughts_and_its_chips():
    message = answer(thinking="Hm.", usage=Usage(search_ms=12.4, thinking_ms=4200), mode=ThinkingMode.HYBRID)
    search, thinking, said = conversation([message], NOW, UTC)
    assert search["metadata"]["title"] == "Searched your documents"
    assert search["metadata"]["log"] == "1 passage, light index, 12 ms"
    assert "guide.md" in search["content"]
    assert "page 3 · § Idle" in search["content"]
    assert thinking["metadata"] == {"title": "Thinking", "status": "done", "log": "4.2 s"}
    assert "[1](#src-7-1)" in said["content"]


def test_a_matched_citation_says_that_the_model_did_not_claim_it():
    said = conversation([answer(sources=(source(matched=True),))], NOW, UTC)[-1]
    assert "the model did not cite it" in said["content"]


def test_a_search_without_a_find_says_so():
    message = answer("Nothing.", sources=(), usage=Usage(search_ms=3), mode=ThinkingMode.RAG)
    assert "nothing relevant found" in conversation([message], NOW, UTC)[0]["metadata"]["log"]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (MessageState.STOPPED, "You stopped this answer."),
        (MessageState.FAILED, "This answer is not complete."),
    ],
)
def test_an_answer_that_ended_early_says_so(state, sentence):
    assert sentence in text_of(conversation([answer(state=state)], NOW, UTC))


def test_what_an_answer_cost_is_told_on_demand():
    usage = Usage(answer_tokens=300, answer_ms=6000, first_token_ms=850, prompt_tokens=1234)
    shown = text_of(conversation([answer(model="gemma3:4b", mode=ThinkingMode.RAG, usage=usage)], NOW, UTC))
    details = shown[shown.index("<dl") : shown.index("</dl>")]
    for fact in ("gemma3:4b", "Documents (rag)", "300 tokens", "50 tokens/s", "850 ms", "1,234 tokens"):
        assert f"<dd>{fact}</dd>" in details
        assert fact not in shown.replace(details, "").replace(">Documents (rag)</button>", "")


def test_only_the_last_question_can_be_answered_again():
    turns = [question("One?"), answer("One."), question("Two?"), answer("Two.")]
    shown = conversation([replace(each, message_id=n) for n, each in enumerate(turns, 1)], NOW, UTC)
    assert ["lc-again of-3" in text_of([each]) for each in shown if "metadata" not in each] == [False] * 3 + [
        True
    ]
    assert ["is-edit" in text_of([each]) for each in shown if "metadata" not in each] == [True, False] * 2


def test_an_answer_that_is_about_to_be_replaced_says_so():
    turns = [replace(question("One?"), message_id=6), answer("One.")]
    assert "stays until the new one" not in text_of(conversation(turns, NOW, UTC))
    assert "stays until the new one" in text_of(conversation(turns, NOW, UTC, replaced=7))


def test_a_question_without_an_answer_says_why_and_can_be_asked_again():
    shown = text_of(conversation([question("One?")], NOW, UTC, failure="The disk is full."))
    assert "The disk is full." in shown
    assert "lc-again" in shown


def test_the_words_of_a_question_are_kept_whole_for_an_edit():
    raw = text_of(conversation([question("a  <b> & $x$\n\n\\c")], NOW, UTC))
    kept = re.search(r'<span class="lc-raw">(.*?)</span>', raw)[1]
    assert "\n" not in kept
    assert unescape(kept) == "a  <b> & $x$\n\n\\c"


def test_a_question_that_does_not_fit_is_said_to_be_too_long():
    assert "about 1,240 of 4,096 tokens" in cost_line(Estimate(40, 0, 1000, 200, 4096))
    assert "longer than the model" in cost_line(Estimate(40, 0, 1000, 200, 4096, cut=True))


def test_a_message_shows_its_time_where_the_reader_is():
    east = timezone(timedelta(hours=5))
    assert ">17:00<" in text_of(conversation([question("Hi")], NOW, east))
    assert ">22 Nov 12:00<" in text_of(conversation([question("Hi")], NOW + timedelta(days=1), UTC))


def test_nothing_that_others_wrote_is_html_in_the_chat():
    message = answer(
        HOSTILE, thinking=HOSTILE, model=HOSTILE, notices=(HOSTILE,), sources=(source(document_name=HOSTILE),)
    )
    shown = text_of(conversation([question(HOSTILE), message], NOW, UTC))
    assert "<img" not in shown


def test_a_running_answer_shows_what_has_come_so_far():
    turn = Turn()
    waiting = running(turn, 0.0)
    assert "lc-wait" in text_of(waiting)
    turn.add(Retrieved((source(),), ("lexical", "light"), 12.0))
    turn.add(Thought("Hm, "))
    thinking = running(turn, 4.4)
    assert thinking[-1]["metadata"] == {"title": "Thinking", "status": "pending", "log": "4 s"}
    turn.add(Token("So it "))
    turn.add(Token("is [1]."))
    turn.add(Notice("The history was shortened."))
    said = running(turn, 5.0)
    assert "So it is [1](#src-live-1)." in said[-1]["content"]
    assert "The history was shortened." in said[-1]["content"]
    assert said[1]["metadata"]["status"] == "done"


# --- lists and panels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "label"),
    [(0, "Today"), (1, "Yesterday"), (6, "Last 7 days"), (20, "Last 30 days"), (60, "September 2026")],
)
def test_chats_stand_under_the_day_they_were_used(days, label):
    session = Session("s", "local", "Title", NOW, NOW - timedelta(days=days))
    assert f"<h3>{label}</h3>" in session_list([session], None, lambda _: False, NOW, UTC)


def test_the_day_is_that_of_the_reader():
    late = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
    assert day_group(late, NOW, UTC) == "Yesterday"
    assert day_group(late, NOW, timezone(timedelta(hours=1))) == "Today"


def test_lists_and_panels_escape_what_others_wrote():
    evil = '"><script>x</script>'
    session = Session(evil, "local", evil, NOW, NOW)
    near = passage(0, evil)
    opened = Opened(source(document_name=evil, place=Place(heading=evil)), near, (near,), (near,))
    pieces = [
        session_list([session], evil, lambda _: True, NOW, UTC),
        source_cards([opened], evil, 1),
        passage_cards(document(name=evil, notes=(evil,)), [near]),
        listed([document(name=evil, error=evil, doc_id=evil, source_type=evil)]),
        upload_results([(evil, evil)]),
        undo_bar(document(name=evil, doc_id=evil), NOW),
        pill("degraded", [Condition("no_model", "error", evil, Action("get_ollama", evil, evil))]),
        banner([Condition("no_model", "error", evil, Action("try_again", evil))]),
        complaint(evil, NOW),
    ]
    for piece in pieces:
        assert evil not in piece
        assert "<script" not in piece


def test_a_source_says_when_its_passage_changed_or_went():
    same = passage(1, "text")
    kept = source_cards([Opened(source(text_hash=same.text_hash), same)], "7", 1)
    changed = source_cards([Opened(source(text_hash="other"), same)], "7", 1)
    gone = source_cards([Opened(source(), None)], "7", 1)
    assert "since" not in kept
    assert "changed since" in changed
    assert "deleted since" in gone


def test_only_the_clicked_source_is_open():
    cards = source_cards([Opened(source(n), passage(n, "t")) for n in (1, 2)], "7", 2)
    assert cards.count("is-hit") == 1
    assert cards.index("is-hit") > cards.index('data-n="2"')
    assert 'data-key="7-2"' in cards


def test_a_long_document_shows_its_first_passages_and_says_how_many_there_are():
    shown = passage_cards(document(), [passage(n, "t") for n in range(450)])
    assert shown.count("<details") == PASSAGES
    assert "the first 200 of 450 passages" in shown
    assert 'data-most="400">Show 200 more<' in shown
    more = passage_cards(document(), [passage(n, "t") for n in range(450)], 400)
    assert "Show 50 more" in more
    everything = passage_cards(document(), [passage(n, "t") for n in range(450)], 600)
    assert everything.count("<details") == 450
    assert "Show" not in everything


def test_what_is_to_be_typed_stands_as_code():
    away = Condition("no_ollama", "info", "Start it with `ollama serve` & wait.", Action("ask", "Ask"))
    for shown in (banner([away]), pill("ready", [away])):
        assert "Start it with <code>ollama serve</code> &amp; wait." in shown
    failed = conversation([question("Why?")], NOW, UTC, failure="Pull it with `ollama pull x<y`.")
    assert "<code>ollama pull x&lt;y</code>" in text_of(failed)


def test_a_document_that_is_read_shows_how_far_it_is():
    reading = document(state=DocumentState.READING)
    shown = listed([reading], progress={"d1": Progress("embedding", 3, 9)})
    assert "Indexing 3 of 9" in shown
    assert 'max="9" value="3"' in shown
    assert "Waiting" in listed([reading])


def test_the_sample_library_can_be_looked_at_and_not_changed():
    shown = listed([], [document(owner="sample")])
    assert "They leave the search with the first document of your own." in shown
    assert 'data-act="open"' in shown
    assert 'data-act="delete"' not in shown
    assert "not searched any more" in listed([document()], [document()])


def test_each_file_of_an_upload_has_its_result():
    shown = upload_results([("a.pdf", None), ("b.pdf", "It needs a password.")])
    assert "1 file" in shown
    assert "b.pdf: It needs a password." in shown
    assert upload_results([("b.pdf", "b.pdf is empty.")]).count("b.pdf") == 1
    assert upload_results([]) == ""
    again = upload_results([], ["a <b>.pdf"])
    assert "a &lt;b&gt;.pdf is already there." in again
    assert "taken in" not in again


def test_a_model_that_is_gone_stays_listed_and_says_so():
    here = ModelInfo("gemma3:4b", "ollama", 1, 8192)
    own = ModelInfo("SmolLM2", "builtin", 1, 8192)
    assert model_choices([here, own], "old:1b") == [
        ("gemma3:4b", "gemma3:4b"),
        ("SmolLM2 (built-in)", "SmolLM2"),
        ("old:1b (not available)", "old:1b"),
    ]


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (88_000, "88 kB"),
        (999_600, "1.0 MB"),
        (2_100_000, "2.1 MB"),
    ],
)
def test_sizes_are_said_as_people_say_them(bytes_, text):
    assert size(bytes_) == text


def test_places_name_page_heading_and_time():
    assert place(Place(page=3, heading="Idle")) == "page 3 · § Idle"
    assert place(Place(start_s=62, end_s=3725)) == "1:02–1:02:05"
    assert place(Place()) == ""
