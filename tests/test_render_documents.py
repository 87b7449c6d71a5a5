"""Passages, what is quoted of them, lists of documents and scopes: how they are shown."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from companion.domain import Document, DocumentState, Place, Source, Totals
from companion.library.intake import Progress
from companion.library.search import ScopeSummary
from companion.ui.render.documents import Arrangement, Shelf, arrange, document_list, no_room, upload_results
from companion.ui.render.passages import passage_text
from companion.ui.render.quotations import quotations
from companion.ui.render.scope import scope_button, scope_choice
from companion.ui.render.sources import Opened, passage_cards, source_cards
from tests.fakes import passage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOSTILE = "<img src=http://evil.example/x onerror=alert(1)>"
SPAN = "<mark>"


def document(name="guide.md", **more):
    values = {
        "doc_id": name, "owner": "local", "name": name, "source_type": "markdown", "source_path": None,
        "content_hash": "h", "size": 2000, "state": DocumentState.SEARCHABLE, "created_at": NOW,
        "updated_at": NOW, "passages": 12,
    }  # fmt: skip
    return Document(**{**values, **more})


def source(**more):
    return Source(1, "d1:1", "d1", "guide.md", "h", Place(page=3), 0.8, ("lexical",), **more)


def listed(*own, samples=(), progress=None, totals=None, **arranged):
    totals = totals or Totals(len(own), len(own), 12 * len(own), 2000 * len(own))
    return document_list(Shelf(own, samples, totals, progress or {}), NOW, UTC, Arrangement(**arranged))


# --- passages -----------------------------------------------------------------------------


def test_a_passage_of_markdown_is_read_as_text_not_as_marks():
    shown = passage_text(
        "## Which **keys**?\n\n- one\n- `two`\n\n1986. A year\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx < 1\n```",
        "markdown",
    )
    assert shown == (
        "<h4>Which <strong>keys</strong>?</h4><ul><li>one</li><li><code>two</code></li></ul>"
        '<ol start="1986"><li>A year</li></ol>'
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
        '<pre tabindex="0"><code>x &lt; 1</code></pre>'
    )


def test_a_passage_of_other_documents_keeps_its_lines_and_marks():
    assert passage_text("# 1 *a*\n  b", "pdf") == '<p class="lc-plain"># 1 *a*\n  b</p>'


@pytest.mark.parametrize("kind", ["markdown", "notebook", "pdf", "html", ""])
@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        f"> - {HOSTILE}",
        f"# {HOSTILE}\n\n| {HOSTILE} |\n|---|\n| {HOSTILE} |",
        f"`{HOSTILE}`\n\n    {HOSTILE}\n\n```{HOSTILE}\n{HOSTILE}\n```",
        f"[{HOSTILE}](http://evil.example/{HOSTILE})",
        f"![{HOSTILE}](http://evil.example/a.png '{HOSTILE}')",
        "![a][r] [a][r]\n\n[r]: http://evil.example/a.png",
        "[a](javascript:alert(1)) <javascript:alert(1)> <http://evil.example>",
        "<script>alert(1)</script>\n\n<!-- <b> -->\n\n<div onclick=alert(1)>",
        "&lt;script&gt; &#60;b&#62;",
    ],
)
def test_a_passage_holds_no_html_of_a_document_and_loads_nothing(text, kind):
    shown = passage_text(text, kind, (HOSTILE, "evil.example a b"))
    for tag in "p h3 ul li table thead tbody tr th td strong small code blockquote mark".split():
        shown = shown.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    shown = shown.replace('<pre tabindex="0">', "").replace("</pre>", "").replace('<p class="lc-plain">', "")
    assert "<" not in shown


def test_html_in_a_passage_is_read_as_the_text_it_is():
    assert passage_text("<b>Bold</b> <i>claim", "markdown") == "<p>&lt;b&gt;Bold&lt;/b&gt; &lt;i&gt;claim</p>"
    assert "&lt;div&gt;" in passage_text("<div>\n\nBlock", "markdown")


def test_a_link_in_a_passage_is_said_and_cannot_be_followed():
    shown = passage_text("See [the guide](http://a.example/x) and ![a lamp](b.png).", "markdown")
    assert "the guide <small>(http://a.example/x)</small>" in shown
    assert "a lamp <small>(image not loaded: b.png)</small>" in shown


@pytest.mark.parametrize(
    "text", ["[" * 5000, "*a_" * 2000, "> " * 2500, "![" * 2500, "- " * 2000, "|a" * 3000]
)
def test_a_passage_made_to_be_slow_takes_twice_the_steps_when_it_is_twice_as_long(text):
    half = text[: len(text) // 2]
    once, twice = (steps_of(passage_text, f"{each}\n{each}", "markdown") for each in (half, text))
    assert twice < 2.5 * once


def steps_of(work, *arguments):
    """How many functions were called: that does not depend on the machine."""
    calls = []
    sys.setprofile(lambda _frame, event, _argument: calls.append(event) if "call" in event else None)
    try:
        work(*arguments)
    finally:
        sys.setprofile(None)
    return len(calls)


# --- what is quoted -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("It was painted green [1].", ("It was painted green",)),
        ("Nobody knows. It was **painted** green. [1] The rest is sea [2].", ("It was painted green",)),
        ("- It was painted green [2][1]\n- Nobody lives there [2]", ("It was painted green",)),
        ("So “he was called Ingrid” there [1].", ("So “he was called Ingrid” there", "he was called Ingrid")),
        ("Nothing [2].", ()),
        ("", ()),
    ],
)  # fmt: skip
def test_what_an_answer_takes_from_a_passage_carries_its_number(answer, found):
    assert quotations(answer, 1) == found


def test_a_quoted_sentence_is_marked_across_emphasis_line_ends_and_case():
    text = "It is said that the\n**lighthouse** of Skagen was green. And more."
    shown = passage_text(text, "markdown", ("THE lighthouse of Skagen was green",))
    assert shown.replace("</mark><mark>", "") == (
        "<p>It is said that <mark>the </mark><strong><mark>lighthouse</mark></strong>"
        "<mark> of Skagen was green</mark>. And more.</p>"
    )
    plain = passage_text(text, "pdf", ("of Skagen was green. And",))
    assert "<mark>of Skagen was green. And</mark>" in plain


def test_what_does_not_stand_there_word_by_word_is_not_marked():
    assert SPAN not in passage_text("The lighthouse was green.", "markdown", ("The lighthouse was painted",))
    assert SPAN not in passage_text("was green", "pdf", ("was green",))
    assert passage_text("a b c a b c d", "pdf", ("a b c", "b c a b")).count(SPAN) == 1


def test_a_source_is_shown_between_its_neighbours_with_ways_to_its_document():
    near = [passage(n, f"Passage *{n}*.") for n in (0, 1, 2)]
    shown = source_cards([Opened(source(), near[1], near[:1], near[2:], "markdown")], "7", 1)
    assert shown.index("is-before") < shown.index('"lc-text"') < shown.index("is-after")
    assert "Passage <em>1</em>." in shown
    quoted = Opened(source(), passage(1, "The lamp is lit."), quoted=("the lamp is lit",))
    assert "<mark>The lamp is lit</mark>" in source_cards([quoted], "7", 1)
    assert 'data-act="listed" data-id="d1"' in shown
    assert 'href="/api/documents/d1/original"' in shown
    assert "original" not in source_cards([Opened(source(), None)], "7", 1)


def test_passages_of_a_document_say_their_place_and_size_and_its_trouble():
    failed = document(state=DocumentState.FAILED, error="It needs a password <b>.", passages=0)
    shown = passage_cards(document(), [replace(passage(0, "word " * 40), place=Place(page=2, heading="A"))])
    assert "page 2 · § A" in shown
    assert "50 tokens" in shown
    assert "Ask only this document" in shown
    assert "It needs a password &lt;b&gt;." in passage_cards(failed, [])
    assert "Ask only" not in passage_cards(failed, [])


# --- lists --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("date", ["b", "C", "a"]),
        ("name", ["a", "b", "C"]),
        ("size", ["C", "a", "b"]),
        ("passages", ["a", "b", "C"]),
        ("state", ["C", "a", "b"]),
        ("unknown", ["b", "C", "a"]),
    ],
)
def test_documents_stand_in_the_order_that_was_chosen(order, names):
    documents = [
        document("a", updated_at=NOW - timedelta(days=3), size=20, passages=9),
        document("b", size=10, passages=5),
        document("C", updated_at=NOW - timedelta(days=1), size=30, passages=0, state=DocumentState.FAILED),
    ]
    assert [one.name for one in arrange(documents, Arrangement(order=order))] == names


def test_documents_are_found_by_all_words_of_their_name_and_folder():
    documents = [document("Reports/2024/lamp.md"), document("Reports/2025/lamp.md")]
    found = arrange(documents, Arrangement(find=" LAMP 2024 "))
    assert [one.name for one in found] == ["Reports/2024/lamp.md"]
    assert "None of your documents is called so." in listed(*documents, find="nothing")


def test_a_long_list_shows_its_first_and_offers_the_rest():
    documents = [document(f"{number}.md") for number in range(7)]
    shown = listed(*documents, most=4)
    assert shown.count("<article") == 4
    assert "Show 3 more" in shown
    assert "Show" not in listed(*documents, most=7)
    assert "7 documents, 84 passages, 14 kB" in shown


def test_a_failed_document_says_why_and_offers_another_file_but_no_questions():
    shown = listed(document(state=DocumentState.FAILED, error="Save it again.", passages=0))
    assert "Save it again." in shown
    assert "Choose another file" in shown
    assert 'data-act="ask"' not in shown
    assert 'data-act="ask"' in listed(document())


def test_an_upload_names_what_was_not_read_and_says_when_the_samples_leave():
    shown = upload_results([("a.md", None)], [], ["b<.pdf", "c.pdf"], samples_left=True)
    assert "Not read, and below is why: b&lt;.pdf, c.pdf." in shown
    assert "the sample library is left out" in shown
    assert "sample" not in upload_results([("a.md", None)])


def test_without_room_the_sentence_is_escaped_and_with_room_there_is_none():
    assert "&lt;b&gt;" in no_room("Full <b>.")
    assert no_room(None) == ""


# --- scope --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "only", "said"),
    [
        (ScopeSummary(12, 99, False, False, 0), None, "All documents · 12"),
        (ScopeSummary(5, 40, True, False, 0), None, "Sample library · 5"),
        (ScopeSummary(3, 40, False, True, 0), None, "3 of 12 documents"),
        (ScopeSummary(1, 4, False, True, 0), "a<b>.md", "a&lt;b&gt;.md"),
        (ScopeSummary(2, 4, False, True, 1), None, "1 deleted since"),
        (ScopeSummary(0, 0, False, True, 2), None, "Nothing to answer from"),
        (ScopeSummary(0, 0, False, True, 0), None, "still being read"),
    ],
)
def test_a_chat_says_what_it_is_answered_from(scope, only, said):
    assert said in scope_button(scope, 12, only)


def test_the_choice_lists_own_documents_then_samples_with_what_is_chosen():
    documents = [document("a<b>.md"), document("tour.md", owner="sample")]
    everything = ScopeSummary(1, 12, False, False, 0)
    shown = scope_choice(documents, ["tour.md"], everything, NOW)
    assert (
        shown.index("a&lt;b&gt;.md") < shown.index("Sample library") < shown.index('value="tour.md" checked')
    )
    assert shown.count(" checked") == 1
    assert "1 document, 12 passages" in shown
    assert 'class="lc-every" checked' in scope_choice(documents, None, everything, NOW)
    assert "<b>" not in shown


def test_a_document_that_is_read_says_how_far_in_numbers_that_can_be_read():
    reading = document(state=DocumentState.READING)
    shown = listed(reading, progress={reading.doc_id: Progress("embedding", 1054, 5802)})
    assert "Indexing 1,054 of 5,802" in shown
    assert 'max="5802" value="1054"' in shown
