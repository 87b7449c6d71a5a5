"""A conversation as a file: readable as Markdown, whole as JSON, and nothing in it breaks the rest."""

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from companion.chat.export import export
from companion.domain import (
    LOCAL_OWNER,
    Message,
    MessageState,
    Place,
    Role,
    Session,
    SessionConfig,
    Source,
    ThinkingMode,
    Usage,
)
from tests.doors import opened
from tests.fakes import MODEL, ScriptedEngine

THEN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CONFIG = SessionConfig("s", MODEL.name, ThinkingMode.HYBRID, 5, "light", "deep", 600)


def session(title="Backups"):
    return Session("s", "a-secret-owner", title, THEN, THEN)


def question(text="When?", number=1):
    return Message(number, "s", Role.USER, text, THEN, mode=ThinkingMode.RAG)


def answer(text="At three [1].", number=2, **more):
    return Message(number, "s", Role.ASSISTANT, text, THEN, mode=ThinkingMode.RAG, model=MODEL.name, **more)


def source(number=1, name="guide.md", **more):
    place = Place(page=3, heading="Setup > Nightly")
    return Source(number, f"d:{number}", "d", name, "hash", place, 0.5, ("light",), **more)


def markdown(*messages, title="Backups"):
    return export(session(title), CONFIG, messages, "markdown").text


def outline(text):
    """(tag, text) of the headings that stand in the document itself."""
    tokens = MarkdownIt("commonmark").parse(text)
    return [
        (token.tag, tokens[at + 1].content)
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0
    ]


def test_markdown_holds_the_conversation_as_a_person_reads_it():
    text = markdown(
        question(),
        answer(
            thinking="Let me see.", sources=(source(cited=True), source(2)), notices=("One was left out.",)
        ),
    )
    assert text.startswith("# Backups\n\n*2026-03-01 09:30 UTC · llama3.2:3b · hybrid*\n")
    assert "> When?" in text
    assert "*2026-03-01 09:30 UTC · llama3.2:3b · rag*" in text
    assert "<summary>Thinking</summary>\n\n```text\nLet me see.\n```\n\n</details>" in text
    assert "\nAt three [1].\n" in text
    assert "- Notice: One was left out." in text
    assert "- \\[1\\] guide.md, page 3, Setup \\> Nightly (cited)\n" in text
    assert "- \\[2\\] guide.md, page 3, Setup \\> Nightly\n" in text


@pytest.mark.parametrize(
    ("state", "words"),
    [(MessageState.COMPLETE, ""), (MessageState.STOPPED, "was stopped"), (MessageState.FAILED, "failed")],
)
def test_markdown_marks_an_answer_that_is_not_whole(state, words):
    text = markdown(question(), answer("Half", state=state))
    assert words in text
    assert ("**This answer" in text) is bool(words)


HOSTILE = [
    "```python\nprint(1)",
    "Look:\n\n~~~~\n~~~\nstill code",
    "````\n```\n````\n\n# Big",
    "- a list\n  ```\n  code in it",
    "1. one\n\n   ```\n   code\n\nafter",
    "> quoted\n> ```\n> code",
    "Look:\n\n  ```\ncode\n```",
    "# Backups\n\n## Question\n\nfake",
    "Big\n===\n\ntext",
    "<details><summary>x",
    "</details></details>",
    "<!-- hidden from here on",
    "<script>alert(1)</script>",
    "a `b\n<!-- ` c",
    "``` not ` a fence\ntext",
    "    ```\nindented",
    "\\`<!-- `",
    "[1]: http://example.com",
    "\n\n\n",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_text_breaks_the_rest_of_the_markdown(text):
    whole = markdown(
        question(text),
        answer(text, thinking=text, sources=(source(),), state=MessageState.STOPPED, notices=(text,)),
        question("Still here?", 3),
    )
    ours = [each for each in outline(whole) if each[0] in ("h1", "h2")]
    assert ours == [("h1", "Backups"), ("h2", "Question"), ("h2", "Answer"), ("h2", "Question")]
    html = MarkdownIt("commonmark").render(whole)
    assert html.rstrip().endswith("<p>Still here?</p>\n</blockquote>")
    assert "<script" not in html
    assert "<!--" not in html
    assert html.count("<details>") == html.count("</details>") == (1 if text.strip() else 0)


def test_code_in_an_answer_is_kept_word_for_word():
    code = "Do this:\n\n```html\n<b># not a heading</b>\n```\n\nor `<br>`, then\n\n# Done"
    text = markdown(question(), answer(code))
    assert "```html\n<b># not a heading</b>\n```" in text
    assert "or `<br>`, then" in text
    assert "\n### Done\n" in text


@pytest.mark.parametrize("name", ["a*b*.md", "[x](http://a).md", "<b>.md", "two\nlines.md", "`tick.md"])
def test_the_name_of_a_document_is_only_text(name):
    html = MarkdownIt("commonmark").render(markdown(answer(sources=(source(name=name),))))
    item = html.rpartition("<li>")[2]
    assert not any(tag in item for tag in ("<em>", "<a ", "<b>", "<code>"))


def test_json_holds_everything_that_is_stored_but_the_owner():
    said = (question(), answer(thinking="Hm.", sources=(source(matched=True),), usage=Usage(answer_tokens=5)))
    made = export(session(), CONFIG, said, "json")
    whole = json.loads(made.text)
    assert whole["format"] == 1
    assert whole["session"] == {
        "session_id": "s", "title": "Backups", "created_at": THEN.isoformat(), "updated_at": THEN.isoformat(),
    }  # fmt: skip
    assert whole["config"]["thinking_mode"] == "hybrid"
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant"]
    kept = whole["messages"][1]
    assert set(kept) == set(Message.__dataclass_fields__)
    assert kept["sources"][0]["place"]["heading"] == "Setup > Nightly"
    assert kept["sources"][0]["matched"]
    assert (kept["usage"]["answer_tokens"], kept["created_at"]) == (5, THEN.isoformat())
    assert "a-secret-owner" not in made.text


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Backups", "Backups.md"),
        (None, "Conversation.md"),
        ("../../etc/passwd", "etc passwd.md"),
        ("a/b\\c:d?", "a b c d.md"),
        ("Über Bücher", "Über Bücher.md"),
        ("...", "Conversation.md"),
        ("x" * 200, "x" * 80 + ".md"),
        ("tab\tand\u202eback", "tab andback.md"),
    ],
)
def test_the_file_is_named_after_the_title(title, name):
    assert export(session(title), CONFIG, (), "markdown").file_name == name


# --- over HTTP ----------------------------------------------------------------------------


@pytest.fixture
def door(tmp_path):
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        session_id = client.post("/api/sessions", json={"title": "Ärger 100% “日本”"}).json()["session_id"]
        companion.store.sessions.add_message(LOCAL_OWNER, session_id, Role.USER, "When?")
        yield client, f"/api/sessions/{session_id}/export"


@pytest.mark.parametrize(
    ("query", "kind", "ending"),
    [
        ("", "text/markdown", ".md"),
        ("?format=markdown", "text/markdown", ".md"),
        ("?format=json", "application/json", ".json"),
    ],
)
def test_a_conversation_is_downloaded_under_its_title(door, query, kind, ending):
    client, path = door
    answer = client.get(path + query)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith(f'attachment; filename="_rger 100_ ____{ending}"; ')
    assert unquote(disposition.rpartition("''")[2]) == f"Ärger 100% “日本”{ending}"
    assert "When?" in answer.text


def test_other_formats_and_other_peoples_conversations_are_refused(door):
    client, path = door
    assert client.get(f"{path}?format=pdf").status_code == 422
    assert client.get("/api/sessions/nobodys/export").status_code == 404
