"""Questions that might come next, out of headings that were found: no model is asked for them."""

import pytest

from companion.chat.suggestions import suggest
from companion.domain import LOCAL_OWNER, Place, Source, ThinkingMode
from companion.errors import NotFound
from tests.doors import opened
from tests.fakes import ScriptedEngine, done, passage

GUIDE = "# House guide\n\n" + "\n\n".join(
    f"## {heading}\n\n{(text + ' ') * 60}"
    for heading, text in [
        ("Backups", "Backups are written every night at three to the archive folder."),
        ("How long is the archive kept?", "After ten days the caretaker removes the oldest week."),
        ("Restoring", "Ask at the desk for the key, then copy the folder back."),
    ]
)


def source(number, heading, *, name="guide.md", cited=False):
    chunk_id = f"{name}:{number}"
    return Source(number, chunk_id, name, name, "hash", Place(heading=heading), 0.5, ("light",), cited)


def suggested(*sources, near=None, asked=()):
    return suggest(sources, {each.chunk_id: () for each in sources} | (near or {}), asked)


def test_what_was_found_and_not_used_comes_first_then_what_stands_beside_it():
    used, unused = source(1, "Backups", cited=True), source(2, "Restoring")
    near = {used.chunk_id: [passage(7, "text", heading="Archive")]}
    assert suggested(used, unused, near=near) == [
        "What does guide.md say about “Restoring”?",
        "What does guide.md say about “Archive”?",
    ]


def test_a_heading_that_is_a_question_is_asked_as_it_is():
    assert suggested(source(1, "Guide > How long is it kept?")) == ["How long is it kept?"]


def test_there_are_never_more_than_three():
    sources = [source(number, f"Chapter {word}") for number, word in enumerate(("a1", "be", "ce", "de"))]
    assert len(suggested(*sources)) == 3


@pytest.mark.parametrize(
    "asked", ["What does guide.md say about “Restoring”?", "what does GUIDE.md say about restoring"]
)
def test_nothing_is_suggested_twice_or_after_it_was_asked(asked):
    twice = (source(1, "Restoring"), source(2, "RESTORING:"))
    assert len(suggested(*twice)) == 1
    assert suggested(*twice, asked=["Hello?", asked]) == []


def test_what_the_answer_cites_it_has_spoken_about():
    used = source(1, "Backups", cited=True)
    near = {used.chunk_id: [passage(2, "more", heading="Guide > Backups")]}
    assert suggested(used, source(2, "Backups"), near=near) == []


@pytest.mark.parametrize("heading", [None, "", "12", "3.1", "—", "Guide", "x" * 81, " > ", "\u202e\x00"])
def test_nothing_is_suggested_where_no_heading_can_be_asked_about(heading):
    assert suggested(source(1, heading)) == []


@pytest.mark.parametrize(
    ("heading", "asked_about"),
    [("3.2 Key rules:", "Key rules"), ("**Bold** plans", "Bold plans"), ("A\u202e  b\tcd", "A bcd")],
)
def test_headings_are_freed_of_numbers_and_marks(heading, asked_about):
    assert suggested(source(1, heading)) == [f"What does guide.md say about “{asked_about}”?"]


def test_a_document_that_is_gone_is_not_asked_about():
    assert suggest([source(1, "Restoring")], {}, ()) == []


# --- in a conversation --------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened_house(tmp_path_factory):
    engine = ScriptedEngine()
    with opened(tmp_path_factory.mktemp("house"), engine) as (companion, client):
        yield companion, client, engine, companion.library.add(LOCAL_OWNER, "guide.md", GUIDE.encode())


@pytest.fixture
def house(opened_house):
    companion, client, engine, guide = opened_house
    session_id = client.post("/api/sessions").json()["session_id"]

    def ask(text, *script):
        engine.scripts[:] = [[*script, done()]]
        assert companion.runs.start(LOCAL_OWNER, session_id, text, ThinkingMode.RAG).wait(60)

    def get():
        answer = client.get(f"/api/sessions/{session_id}/suggestions")
        assert answer.status_code == 200
        return answer.json()["suggestions"]

    return ask, get, engine, companion, guide


def test_an_answer_from_documents_suggests_what_to_ask_without_the_model(house):
    ask, get, engine, *_ = house
    ask("When are backups written every night?", "At three [1].")
    calls = len(engine.requests)
    assert "How long is the archive kept?" in get()
    assert not any("Backups" in question for question in get())
    assert len(engine.requests) == calls


def test_a_suggestion_that_was_asked_is_not_made_again(house):
    ask, get, *_ = house
    ask("When are backups written every night?", "At three [1].")
    ask("how long is the archive kept", "Ten days [1].")
    assert "How long is the archive kept?" not in get()


def test_nothing_is_suggested_before_the_first_answer_and_when_its_document_is_gone(house):
    ask, get, _, companion, guide = house
    assert get() == []
    ask("When are backups written every night?", "At three [1].")
    assert get()
    companion.library.delete(LOCAL_OWNER, guide.doc_id)
    assert get() == []
    companion.library.undo(LOCAL_OWNER, guide.doc_id)
    assert get()


def test_nobody_gets_suggestions_out_of_somebody_elses_conversation(house):
    *_, companion, _ = house
    with pytest.raises(NotFound):
        companion.chat.suggestions("somebody", companion.sessions.list(LOCAL_OWNER)[0].session_id)
