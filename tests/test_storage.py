"""What is remembered, by the real store on a real file."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from companion.domain import (
    SAMPLE_OWNER,
    Document,
    DocumentState,
    EmbedderIdentity,
    MessageState,
    Passage,
    Place,
    Role,
    SessionConfig,
    Source,
    ThinkingMode,
    Usage,
)
from companion.errors import Conflict, DiskFull, InvalidInput, NotFound, StorageError
from companion.storage.sessions import title_from
from companion.storage.store import Store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDENTITY = EmbedderIdentity("mini", "hash", 4, 256, "mean", True, "", "", 1)
LIGHT = IDENTITY.embedder_id
ANY_TEXT = st.text(st.characters(codec=None), max_size=60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "companion.db"


@pytest.fixture
def store(path):
    store = Store.open(path)
    yield store
    store.close()


def config(session_id="s"):
    return SessionConfig(session_id, "llama", ThinkingMode.HYBRID, 5, "mini", "mpnet", 600)


def document(doc_id, owner="ann", name="notes.md", content_hash="hash"):
    return Document(doc_id, owner, name, "text", None, content_hash, 10, DocumentState.READING, NOW, NOW)


def passages_of(doc_id, *texts):
    passages = []
    for index, text in enumerate(texts):
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        again = sum(passage.text == text for passage in passages)
        chunk_id = f"{doc_id}:{digest[:16]}:{again}"
        passages.append(Passage(chunk_id, doc_id, index, text, digest, Place(page=index + 1), 7))
    return passages


def keep(store, doc_id, *texts, owner="ann", name="notes.md", content_hash="hash"):
    added = store.documents.add(document(doc_id, owner, name, content_hash))
    passages = passages_of(doc_id, *texts)
    store.passages.write(added, "markdown", ["a note"], passages)
    store.documents.set_state(doc_id, DocumentState.SEARCHABLE)
    return passages


def embed(store, passages, value=1.0, windows=1):
    store.embeddings.register(IDENTITY)
    rows = [(p.chunk_id, window, np.full(4, value + window)) for p in passages for window in range(windows)]
    store.embeddings.save(LIGHT, rows)


def found(store, *terms, owners=("ann",), limit=10, doc_ids=None):
    return [chunk_id for chunk_id, _ in store.words.search(owners, terms, limit, doc_ids)]


# --- conversations ----------------------------------------------------------------------


def test_a_conversation_comes_back_after_a_restart(path):
    source = Source(
        1, "d:1:0", "d", "notes.md", "hash", Place(page=3, heading="Intro"), 0.5, ("light",), True
    )
    store = Store.open(path)
    store.sessions.create("ann", "s", config())
    question = store.sessions.add_message("ann", "s", Role.USER, "What is new?", mode=ThinkingMode.RAG)
    answer = store.sessions.add_answer(
        "ann",
        "s",
        "This [1].",
        state=MessageState.STOPPED,
        mode=ThinkingMode.RAG,
        model="llama",
        thinking="hm",
        sources=[source],
        notices=["Something was left out."],
        usage=Usage(prompt_tokens=12, first_token_ms=3.5),
    )
    store.close()

    store = Store.open(path)
    assert store.sessions.messages("ann", "s") == [question, answer]
    assert answer.sources == (source,)
    assert answer.usage == Usage(prompt_tokens=12, first_token_ms=3.5)
    assert answer.state is MessageState.STOPPED
    assert answer.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - answer.created_at) < timedelta(minutes=1)
    assert store.sessions.message("ann", answer.message_id) == answer
    assert store.sessions.config("ann", "s") == config()
    store.close()


def test_scores_of_a_search_are_stored_whatever_float_they_are(store):
    store.sessions.create("ann", "s", config())
    source = Source(1, "c", "d", "n", "h", Place(), np.float32(0.5), ("light",))
    answer = store.sessions.add_answer("ann", "s", "x", state=MessageState.COMPLETE, sources=[source])
    assert answer.sources[0].score == 0.5


def test_the_first_question_becomes_the_title_and_stays_it(store):
    assert store.sessions.create("ann", "s", config()).title is None
    store.sessions.add_message("ann", "s", Role.USER, "How do I\nadd documents?")
    store.sessions.add_message("ann", "s", Role.USER, "And then?")
    assert store.sessions.get("ann", "s").title == "How do I add documents?"
    assert store.sessions.rename("ann", "s", "Mine").title == "Mine"
    store.sessions.add_answer("ann", "s", "So.", state=MessageState.COMPLETE)
    assert store.sessions.get("ann", "s").title == "Mine"


@pytest.mark.parametrize(
    ("question", "title"),
    [
        pytest.param("  ", None, id="blank"),
        pytest.param("one two", "one two", id="short"),
        pytest.param("word " * 40, "word " * 11 + "word…", id="cut at a word"),
        pytest.param("x" * 200, "x" * 59 + "…", id="one long word"),
    ],
)
def test_a_title_is_one_short_line(question, title):
    assert title_from(question) == title


def test_sessions_are_listed_by_newest_activity(store):
    for session_id in ("a", "b", "c"):
        store.sessions.create("ann", session_id, config())
    store.sessions.add_message("ann", "a", Role.USER, "hello")
    assert [session.session_id for session in store.sessions.list("ann")] == ["a", "c", "b"]
    assert [session.session_id for session in store.sessions.list("ann", limit=1, offset=1)] == ["c"]


def test_a_limit_keeps_the_latest_messages_oldest_first(store):
    store.sessions.create("ann", "s", config())
    ids = [store.sessions.add_message("ann", "s", Role.USER, str(n)).message_id for n in range(5)]
    assert [m.content for m in store.sessions.messages("ann", "s", limit=2)] == ["3", "4"]
    assert [m.content for m in store.sessions.messages("ann", "s", limit=2, before=ids[3])] == ["1", "2"]


def test_a_changed_config_is_kept(store):
    store.sessions.create("ann", "s", config("something else"))
    changed = SessionConfig("s", "qwen", ThinkingMode.COT, 9, "a", "b", 60)
    assert store.sessions.save_config("ann", changed) == changed
    assert store.sessions.config("ann", "s") == changed


def test_a_deleted_conversation_is_gone_with_its_messages(store, path):
    store.sessions.create("ann", "s", config())
    message = store.sessions.add_message("ann", "s", Role.USER, "hello")
    store.sessions.delete("ann", "s")
    with pytest.raises(NotFound):
        store.sessions.get("ann", "s")
    with pytest.raises(NotFound):
        store.sessions.message("ann", message.message_id)
    store.sessions.create("ann", "s", config())
    later = store.sessions.add_message("ann", "s", Role.USER, "again")
    assert later.message_id > message.message_id
    assert len(store.sessions.messages("ann", "s")) == 1


def test_an_id_is_given_once(store):
    store.sessions.create("ann", "s", config())
    keep(store, "d", "text")
    with pytest.raises(Conflict):
        store.sessions.create("bob", "s", config())
    with pytest.raises(Conflict):
        store.documents.add(document("d", "bob"))


SESSION_CALLS = {
    "get": lambda s: s.get("bob", "s"),
    "rename": lambda s: s.rename("bob", "s", "mine"),
    "delete": lambda s: s.delete("bob", "s"),
    "config": lambda s: s.config("bob", "s"),
    "save_config": lambda s: s.save_config("bob", config()),
    "add_message": lambda s: s.add_message("bob", "s", Role.USER, "x"),
    "add_answer": lambda s: s.add_answer("bob", "s", "x", state=MessageState.COMPLETE),
    "messages": lambda s: s.messages("bob", "s"),
    "message": lambda s: s.message("bob", 1),
}


@pytest.mark.parametrize("call", SESSION_CALLS.values(), ids=SESSION_CALLS.keys())
def test_a_conversation_of_somebody_else_does_not_exist(store, call):
    store.sessions.create("ann", "s", config())
    store.sessions.add_message("ann", "s", Role.USER, "secret")
    before = store.sessions.messages("ann", "s"), store.sessions.get("ann", "s")
    with pytest.raises(NotFound, match=r"^There is no such (conversation|message)\.$"):
        call(store.sessions)
    assert store.sessions.list("bob") == []
    assert (store.sessions.messages("ann", "s"), store.sessions.get("ann", "s")) == before


def test_an_index_is_told_of_hidden_vectors_too(store):
    passages = keep(store, "d", "alpha")
    embed(store, passages)
    store.documents.mark_deleted("ann", "d", NOW)
    assert store.embeddings.keys(LIGHT, "ann") == [(passages[0].chunk_id, 0)]
    assert ids(store, "ann") == set()


def ids(store, owner):
    """(chunk_id, window) of the vectors that search may find."""
    chunk_ids, windows, _rows = store.embeddings.matrix(LIGHT, [owner])
    assert store.embeddings.count(LIGHT, [owner]) == len(set(chunk_ids))
    return set(zip(chunk_ids, windows, strict=True))


# --- documents --------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_given(store):
    stored = store.documents.add(document("d"))
    assert stored == document("d")
    passages = passages_of("d", "one", "two", "one")
    store.passages.write(document("d"), "markdown", ["a note"], passages)
    assert store.documents.unfinished() == [store.documents.get("ann", "d")]
    store.documents.set_state("d", DocumentState.FAILED, "It is broken.")
    kept = store.documents.get("ann", "d")
    assert (kept.source_type, kept.notes, kept.passages) == ("markdown", ("a note",), 3)
    assert (kept.state, kept.error) == (DocumentState.FAILED, "It is broken.")
    assert store.passages.of("ann", "d") == passages
    assert store.documents.unfinished() == []
    assert store.documents.list("ann") == store.documents.find("ann", "notes.md") == [kept]
    assert store.documents.find("ann", "other.md") == store.documents.find("bob", "notes.md") == []


def test_changed_content_keeps_the_vectors_of_unchanged_passages(store):
    old = keep(store, "d", "alpha", "beta", "gamma")
    embed(store, old, 5.0)
    document = store.documents.replace_content(
        "ann", "d", name="new.md", source_path="x", content_hash="h2", size=3
    )
    assert (document.state, document.name, document.passages) == (DocumentState.READING, "new.md", 3)
    new = passages_of("d", "intro", "gamma", "alpha")
    store.passages.write(document, "markdown", [], new)

    assert store.passages.of("ann", "d") == new
    assert ids(store, "ann") == {(new[1].chunk_id, 0), (new[2].chunk_id, 0)}
    assert store.embeddings.missing(LIGHT, "d") == [new[0]]
    assert found(store, "beta") == []
    assert found(store, "intro") == [new[0].chunk_id]
    assert found(store, "alpha") == [new[2].chunk_id]


def test_writing_the_same_passages_again_changes_nothing(store):
    passages = keep(store, "d", "alpha", "beta")
    embed(store, passages)
    store.passages.write(document("d"), "markdown", [], passages)
    assert store.passages.of("ann", "d") == passages
    assert store.embeddings.missing(LIGHT, "d") == []


def test_passages_of_a_document_that_has_gone_are_refused(store):
    with pytest.raises(NotFound):
        store.passages.write(document("d"), "text", [], passages_of("d", "alpha"))
    assert store.words.passages() == 0


def test_a_deleted_document_is_hidden_until_it_is_restored(store):
    passages = keep(store, "d", "alpha", "beta")
    embed(store, passages)
    store.documents.mark_deleted("ann", "d", NOW)
    store.documents.mark_deleted("ann", "d", NOW + timedelta(hours=1))
    assert store.documents.list("ann") == store.documents.find("ann", "notes.md") == []
    assert store.passages.by_id([passages[0].chunk_id]) == {}
    assert found(store, "alpha") == []
    assert store.embeddings.matrix(LIGHT, ["ann"])[0] == []
    assert ids(store, "ann") == set()
    assert store.documents.totals(["ann"]).passages == 0
    for hidden in (
        lambda: store.documents.get("ann", "d"),
        lambda: store.passages.of("ann", "d"),
        lambda: store.passages.get("ann", passages[0].chunk_id),
    ):
        with pytest.raises(NotFound):
            hidden()
    assert store.documents.due_for_purge(NOW) == []
    assert [d.doc_id for d in store.documents.due_for_purge(NOW + timedelta(seconds=1))] == ["d"]

    with pytest.raises(NotFound):
        store.documents.restore("ann", "d", NOW + timedelta(seconds=1), "notes.md")
    assert store.documents.hidden() == {"d"}
    store.documents.restore("ann", "d", NOW, "back.md")
    assert store.documents.get("ann", "d").passages == 2
    assert store.documents.get("ann", "d").name == "back.md"
    assert store.documents.hidden() == set()
    assert not store.documents.purge("d", NOW + timedelta(days=1)), "it was restored"
    assert found(store, "alpha") == [passages[0].chunk_id]
    assert store.documents.due_for_purge(NOW + timedelta(days=1)) == []


def test_neighbours_stand_around_a_passage_in_order(store):
    passages = keep(store, "d", "a", "b", "c", "d")
    keep(store, "e", "x", "y", "z")
    assert store.passages.neighbours(passages[1].chunk_id) == [passages[0], passages[2]]
    assert store.passages.neighbours(passages[2].chunk_id, before=0, after=2) == passages[3:]
    assert store.passages.neighbours("nothing") == []


def test_many_passages_are_found_by_id_at_once(store):
    passages = keep(store, "d", *(f"text {n}" for n in range(1200)), name="big.md")
    embed(store, passages)
    ids = [passage.chunk_id for passage in passages]
    assert store.passages.by_id(ids) == {p.chunk_id: (p, "big.md") for p in passages}
    assert store.embeddings.vectors(LIGHT, ids).keys() == set(ids)
    assert len(found(store, "text", limit=5000, doc_ids=["d", *ids])) == 1200


def test_everybody_reads_the_sample_library(store):
    passages = keep(store, "d", "alpha", owner=SAMPLE_OWNER)
    assert store.documents.get("ann", "d").owner == SAMPLE_OWNER
    assert store.passages.of("ann", "d") == passages
    assert store.passages.get("ann", passages[0].chunk_id)[0] == passages[0]
    assert store.documents.list("ann") == []
    with pytest.raises(NotFound):
        store.documents.mark_deleted("ann", "d", NOW)


def test_a_new_version_is_finished_or_taken_back_only_while_it_is_the_newest(store):
    keep(store, "d", "alpha")
    store.documents.set_state("d", DocumentState.SEARCHABLE)
    was = store.documents.get("ann", "d")
    second, third = (
        store.documents.replace_content(
            "ann", "d", name="new.md", source_path="x", content_hash=content, size=3
        )
        for content in ("h2", "h3")
    )
    assert not store.documents.finish(second)
    assert not store.documents.revert(second)
    assert store.documents.get("ann", "d").state is DocumentState.READING
    assert store.documents.revert(third)
    again = store.documents.get("ann", "d")
    assert (again.name, again.content_hash, again.state) == (was.name, was.content_hash, was.state)
    newer = store.documents.replace_content(
        "ann", "d", name="new.md", source_path="x", content_hash="h4", size=3
    )
    assert store.documents.finish(newer)
    assert not store.documents.revert(newer), "a version that was read is not taken back"


DOCUMENT_CALLS = {
    "get": lambda s, p: s.documents.get("bob", "d"),
    "passages": lambda s, p: s.passages.of("bob", "d"),
    "passage": lambda s, p: s.passages.get("bob", p.chunk_id),
    "mark_deleted": lambda s, p: s.documents.mark_deleted("bob", "d", NOW),
    "restore": lambda s, p: s.documents.restore("bob", "d", NOW, "x"),
    "replace_content": lambda s, p: s.documents.replace_content(
        "bob", "d", name="x", source_path=None, content_hash="x", size=1
    ),
}


@pytest.mark.parametrize("call", DOCUMENT_CALLS.values(), ids=DOCUMENT_CALLS.keys())
def test_a_document_of_somebody_else_does_not_exist(store, call):
    passage = keep(store, "d", "alpha")[0]
    embed(store, [passage])
    before = store.documents.get("ann", "d")
    with pytest.raises(NotFound, match=r"^There is no such (document|passage)\.$"):
        call(store, passage)
    assert store.documents.get("ann", "d") == before
    assert store.documents.list("bob") == store.documents.find("bob", "notes.md") == []
    assert store.documents.totals(["bob"]).passages == 0
    assert found(store, "alpha", owners=["bob"]) == found(store, "alpha", owners=["bob"], doc_ids=["d"]) == []
    assert store.embeddings.matrix(LIGHT, ["bob"], ["d"])[0] == []
    assert store.embeddings.reusable(LIGHT, "bob", [passage.text_hash]) == {}
    assert ids(store, "bob") == set()


# --- words ------------------------------------------------------------------------------


def test_the_better_match_comes_first(store):
    first, second, _ = keep(store, "d", "a plain apple", "apple apple orchard", "nothing of it")
    hits = store.words.search(["ann"], ["apples"], 10)
    assert [chunk_id for chunk_id, _ in hits] == [second.chunk_id, first.chunk_id]
    assert hits[0][1] > hits[1][1] > 0
    assert found(store, "apple", limit=1) == [second.chunk_id]


def test_words_are_found_in_the_scope_only(store):
    mine = keep(store, "d1", "apple")[0]
    other = keep(store, "d2", "apple")[0]
    sample = keep(store, "d3", "apple", owner=SAMPLE_OWNER)[0]
    assert set(found(store, "apple")) == {mine.chunk_id, other.chunk_id}
    assert found(store, "apple", doc_ids=["d2", "d3"]) == [other.chunk_id]
    assert found(store, "apple", doc_ids=[]) == []
    assert set(found(store, "apple", owners=["ann", SAMPLE_OWNER], doc_ids=["d1", "d3"])) == {
        mine.chunk_id,
        sample.chunk_id,
    }


def test_whether_a_word_is_common_is_told_of_the_owners_own_passages_alone(store):
    store.words.private = True
    keep(store, "mine", "owl and newt", "owl and newt", "owl", "vole")
    keep(store, "theirs", *["vole"] * 5, *["owl"] * 5, owner="bob")
    for most in range(6):
        for word, own in (("owl", 3), ("newt", 2), ("vole", 1), ("heron", 0)):
            counted = store.words.frequency(word, ["ann"], most)
            assert (counted > most) == (own > most)
    assert store.words.frequency("owl", ["ann"]) == 3
    assert store.words.passages(["ann"]) == 4


def test_words_are_counted_with_their_forms(store):
    keep(store, "d", "connect", "connected and connecting", "café", "other")
    assert store.words.frequency("connections") == 2
    assert store.words.frequency("cafe") == 1
    assert store.words.frequency("?") == store.words.frequency("nowhere") == 0
    assert store.words.passages() == store.documents.totals(["ann"]).passages == 4


@pytest.mark.parametrize(
    "term",
    [
        "what's new?",
        "a-b",
        "foo:bar",
        'say "hi"',
        'a"b',
        '"',
        "x",
        "🙂",
        "NEAR(",
        "AND",
        "*",
        "^a",
        "{a} : b",
        "\0",
        "\ud800",
    ],
)
def test_hostile_words_are_only_words(store, term):
    passage = keep(store, "d", f"here stands {term} as text, and zebra")[0]
    assert found(store, term, "zebra") == [passage.chunk_id]
    expected = [passage.chunk_id] if any(map(str.isalnum, term)) else []
    assert found(store, term) == expected


def test_a_quote_in_a_word_does_not_start_another(store):
    keep(store, "d", "zebra")
    assert found(store, 'x" OR "zebra') == []
    assert store.words.frequency('x" OR "zebra') == 0


def test_ten_thousand_words_are_searched(store):
    passage = keep(store, "d", "word3 alone")[0]
    assert found(store, *(f"word{n}" for n in range(10_000))) == [passage.chunk_id]


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    store = Store.open(tmp_path_factory.mktemp("storage") / "companion.db")
    store.sessions.create("ann", "s", config())
    keep(store, "d", "zebra")
    yield store
    store.close()


QUICK = hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(terms=st.lists(ANY_TEXT, max_size=8))
@example(terms=['"', "\0", "\ud800", "a" * 5000])
@example(terms=["ͅ", "a\u0301", "ª", "\u2fff", "𞤀"])
def test_no_text_breaks_the_search(shared_store, terms):
    assert "zebra" in " ".join(terms).lower() or found(shared_store, *terms, "zebra")
    for term in terms:
        assert shared_store.words.frequency(term) >= 0
        shared_store.words.search([term], [term], 5, [term])


@QUICK
@given(content=ANY_TEXT, thinking=ANY_TEXT, name=ANY_TEXT)
@example(content="a\0b\ud800c", thinking="\udfff", name="\0")
def test_any_text_can_be_stored(shared_store, content, thinking, name):
    message = shared_store.sessions.add_message("ann", "s", Role.USER, content)
    source = Source(1, "c", "d", name, "h", Place(heading=name), 1.0, ())
    answer = shared_store.sessions.add_answer(
        "ann", "s", content, state=MessageState.FAILED, thinking=thinking, sources=[source], notices=[name]
    )
    expected = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in content if c != "\0")
    assert message.content == answer.content == expected
    assert shared_store.sessions.messages("ann", "s", limit=2) == [message, answer]
    assert answer.notices[0] == answer.sources[0].document_name == answer.sources[0].place.heading
    repr(answer).encode()


def test_any_text_can_be_a_passage(store):
    keep(store, "d", "zebra \ud800 \0 here", name="n\ud800\0.md")
    assert store.documents.get("ann", "d").name == "n\ufffd.md"
    assert store.passages.of("ann", "d")[0].text == "zebra \ufffd  here"
    assert len(found(store, "here")) == 1


# --- vectors ----------------------------------------------------------------------------


def test_vectors_come_back_by_passage_and_window(store):
    first, second, bare = keep(store, "d", "alpha", "beta", "gamma")
    store.embeddings.register(IDENTITY)
    vectors = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    store.embeddings.save(
        LIGHT,
        [(first.chunk_id, 1, vectors[1]), (second.chunk_id, 0, vectors[2]), (first.chunk_id, 0, vectors[0])],
    )
    got = store.embeddings.vectors(LIGHT, [first.chunk_id, second.chunk_id, bare.chunk_id, "none"])
    assert got.keys() == {first.chunk_id, second.chunk_id}
    assert got[first.chunk_id].dtype == np.float32
    np.testing.assert_allclose(got[first.chunk_id], vectors[:2], atol=2e-3)
    np.testing.assert_allclose(got[second.chunk_id], vectors[2:], atol=2e-3)

    chunk_ids, windows, matrix = store.embeddings.matrix(LIGHT, ["ann"])
    by_key = {key: row for *key, row in zip(chunk_ids, windows, matrix, strict=True) for key in [tuple(key)]}
    assert by_key.keys() == ids(store, "ann")
    np.testing.assert_array_equal(by_key[first.chunk_id, 1], got[first.chunk_id][1])
    assert store.embeddings.missing(LIGHT, "d") == [bare]


def test_a_saved_vector_replaces_the_old_one(store):
    passages = keep(store, "d", "alpha")
    embed(store, passages, 1.0)
    embed(store, passages, 2.0)
    np.testing.assert_array_equal(
        store.embeddings.vectors(LIGHT, [passages[0].chunk_id])[passages[0].chunk_id], [[2.0] * 4]
    )


def test_vectors_of_a_passage_deleted_meanwhile_are_left_out(store):
    passages = keep(store, "d", "alpha", "beta")
    store.passages.write(document("d"), "markdown", [], passages[:1])
    embed(store, passages)
    assert ids(store, "ann") == {(passages[0].chunk_id, 0)}


def test_equal_texts_of_one_owner_reuse_their_vectors(store):
    passages = keep(store, "d1", "alpha", "beta", "alpha")
    embed(store, passages, 3.0, windows=2)
    keep(store, "d2", "alpha")
    digest = passages[0].text_hash
    reused = store.embeddings.reusable(LIGHT, "ann", [digest, "unknown"])
    assert reused.keys() == {digest}
    np.testing.assert_array_equal(reused[digest], [[3.0] * 4, [4.0] * 4])
    assert store.embeddings.reusable("another", "ann", [digest]) == {}


@pytest.mark.parametrize("vector", [[1.0, 2.0], [1.0, 2.0, 3.0, float("nan")], [1e9, 0, 0, 0]])
def test_a_vector_that_cannot_be_compared_is_refused(store, vector):
    passages = keep(store, "d", "alpha")
    store.embeddings.register(IDENTITY)
    with pytest.raises(InvalidInput):
        store.embeddings.save(LIGHT, [(passages[0].chunk_id, 0, vector)])
    assert store.embeddings.missing(LIGHT, "d") == passages


def test_an_unregistered_embedder_saves_nothing(store):
    passages = keep(store, "d", "alpha")
    with pytest.raises(InvalidInput):
        store.embeddings.save("unknown", [(passages[0].chunk_id, 0, [1.0] * 4)])


def test_no_vectors_make_an_empty_matrix(store):
    assert store.embeddings.matrix(LIGHT, ["ann"])[2].shape == (0, 0)
    assert store.embeddings.vectors(LIGHT, []) == {}


# --- settings ---------------------------------------------------------------------------


def test_settings_are_kept_and_replaced(store):
    store.settings.save({"top_k": 5, "model": None, "list": ["a\0", "\ud800"]})
    store.settings.save({"top_k": 7})
    store.settings.save({})
    assert store.settings.load() == {"top_k": 7, "model": None, "list": ["a", "\ufffd"]}


# --- the file ---------------------------------------------------------------------------


def files_with(path, word):
    files = [file for file in path.parent.iterdir() if word.encode() in file.read_bytes().lower()]
    return [file.name for file in files]


def test_a_purged_document_leaves_no_word_in_any_file(store, path):
    filler = [" ".join(f"word{n * 31 % 977}x{m}" for m in range(120)) for n in range(60)]
    keep(store, "kept", *filler[:30])
    passages = keep(
        store,
        "gone",
        *(f"{text} qvxkmzt {text}" for text in filler),
        name="wjfhgzb.md",
        content_hash="hvnqzdk",
    )
    embed(store, passages)
    store.passages.write(document("gone"), "markdown", ["ybkzxwp"], passages[:40])
    keep(store, "kept2", *filler[30:])
    with sqlite3.connect(path) as other:
        other.execute(
            "INSERT INTO document_layers (doc_id, embedder_id, state) VALUES ('gone', ?, 'x')", [LIGHT]
        )
    other.close()
    store.checkpoint()
    assert files_with(path, "qvxkmzt")  # a word that stemming leaves whole in the full text, too

    store.documents.mark_deleted("ann", "gone", NOW)
    assert store.documents.purge("gone", NOW + timedelta(seconds=1))
    store.forget_deleted()
    for word in ("qvxkmzt", "wjfhgzb", "hvnqzdk", "ybkzxwp"):
        assert files_with(path, word) == []
    assert store.documents.due_for_purge(NOW + timedelta(days=1)) == []
    assert ids(store, "ann") == set()
    assert not store.documents.purge("gone", NOW + timedelta(seconds=1))
    assert found(store, "word31x0", limit=100)
    store.close()
    assert files_with(path, "qvxkmzt") == []


def test_a_deleted_conversation_leaves_no_word_in_any_file(store, path):
    store.sessions.create("ann", "s", config())
    store.sessions.create("ann", "t", config())
    for n in range(40):
        store.sessions.add_message("ann", "s", Role.USER, f"qvxkmzt {n} " * n)
        store.sessions.add_message("ann", "t", Role.USER, f"other {n} " * n)
    store.sessions.delete("ann", "s")
    store.checkpoint()
    assert files_with(path, "qvxkmzt") == []


def test_writers_and_readers_never_meet_a_lock(store):
    passages = keep(store, "d", "alpha")
    embed(store, passages)
    for n in range(8):
        store.sessions.create("ann", f"s{n}", config())
    each, written, failures = 20, [0] * 8, []

    def write(n):
        while written[n] < each:
            store.sessions.add_message("ann", f"s{n}", Role.USER, f"alpha {n}")
            store.embeddings.save(LIGHT, [(passages[0].chunk_id, 0, [float(n)] * 4)])
            written[n] += 1

    def read(n):
        while min(written) < each and not failures:
            store.sessions.messages("ann", f"s{n}", limit=20)
            assert found(store, "alpha") == [passages[0].chunk_id]
            if n == 0:
                store.checkpoint()

    def run(work, n):
        try:
            work(n)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work, n)) for work in (write, read) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(store.sessions.messages("ann", f"s{n}")) for n in range(8)] == written


def test_user_data_is_synced_and_readers_cannot_write(store):
    database = store.documents._database
    with database.writing() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
        ]
    assert values == ["wal", 2, 1, 1, 5000]
    with pytest.raises(StorageError), database.reading() as connection:
        connection.exec_driver_sql("DELETE FROM sessions")


def test_a_full_disk_is_said_and_heals(store):
    database = store.documents._database
    store.sessions.create("ann", "s", config())
    with database.writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DiskFull):
        store.sessions.add_message("ann", "s", Role.USER, "x" * 200_000)
    with database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    store.sessions.add_message("ann", "s", Role.USER, "x" * 200_000)
    assert len(store.sessions.messages("ann", "s")) == 1


def test_a_failed_write_changes_nothing(store):
    store.sessions.create("ann", "s", config())
    with pytest.raises(StorageError) as failure:
        store.sessions.save_config("ann", SessionConfig("s", "m", "secret mode", 5, "a", "b", 1))
    assert "secret" not in f"{failure.value}{failure.value.__cause__}"
    assert store.sessions.config("ann", "s") == config()


def test_a_number_too_large_is_said(store):
    with pytest.raises(InvalidInput):
        store.sessions.message("ann", 2**70)


def test_closing_twice_is_harmless_and_leaves_one_file(path):
    store = Store.open(path)
    store.sessions.create("ann", "s", config())
    store.sessions.list("ann")
    store.close()
    store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(StorageError):
        store.sessions.list("ann")
