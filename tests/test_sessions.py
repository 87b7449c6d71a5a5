"""What a conversation can be set to, and what is remembered for the next one."""

import asyncio
import math
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from companion.chat.sessions import Sessions
from companion.config import Settings
from companion.domain import LOCAL_OWNER, ModelInfo, Role, ThinkingMode
from companion.errors import InvalidInput, NotFound
from companion.inference.catalog import Catalog
from companion.storage.store import Store
from tests.fakes import MODEL, THINKER, ScriptedEngine

EMBEDDING = ModelInfo("nomic-embed-text", "ollama", 270_000_000, 2048, ("embedding",))


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "companion.db")
    yield opened
    opened.close()


def sessions_of(store, models=(MODEL, THINKER, EMBEDDING), **settings):
    return Sessions(store, Catalog([ScriptedEngine(models=models)]), Settings(**settings))


@pytest.fixture
def sessions(store):
    return sessions_of(store)


@pytest.fixture
async def session_id(sessions):
    return (await sessions.create(LOCAL_OWNER)).session_id


async def test_a_new_conversation_starts_with_the_defaults(sessions, session_id):
    config = sessions.config(LOCAL_OWNER, session_id)
    assert config.model_name == MODEL.name
    assert (config.thinking_mode, config.top_k, config.idle_threshold_s) == (ThinkingMode.HYBRID, 5, 600)
    assert (config.embed_light, config.embed_deep) == ("all-MiniLM-L6-v2", "all-mpnet-base-v2")


async def test_a_new_conversation_can_be_set_up_at_once(sessions):
    session = await sessions.create(LOCAL_OWNER, " My  title ", thinking_mode="cot", top_k=7)
    assert session.title == "My title"
    config = sessions.config(LOCAL_OWNER, session.session_id)
    assert (config.thinking_mode, config.top_k) == (ThinkingMode.COT, 7)


async def test_a_wrong_value_creates_no_conversation(sessions):
    with pytest.raises(InvalidInput):
        await sessions.create(LOCAL_OWNER, top_k=0)
    assert sessions.list(LOCAL_OWNER) == []


async def test_without_any_engine_a_conversation_can_still_be_made(store):
    session = await sessions_of(store, models=()).create(LOCAL_OWNER)
    assert sessions_of(store).config(LOCAL_OWNER, session.session_id).model_name == ""


async def test_of_two_changes_at_once_none_is_lost(sessions, session_id, store, monkeypatch):
    usual = store.sessions.config

    def slowly(*arguments):
        config = usual(*arguments)
        time.sleep(0.05)
        return config

    monkeypatch.setattr(store.sessions, "config", slowly)
    await asyncio.gather(
        sessions.update_config(LOCAL_OWNER, session_id, {"top_k": 7}),
        sessions.update_config(LOCAL_OWNER, session_id, {"temperature": 1.0}),
    )
    config = sessions.config(LOCAL_OWNER, session_id)
    assert (config.top_k, config.temperature) == (7, 1.0)


async def test_a_slow_disk_does_not_hold_up_the_doors(sessions, session_id, store, monkeypatch):
    """Nothing of the store is called on their loop."""
    seen = []

    def watch(place, name):
        usual = getattr(place, name)

        def watched(*arguments, **more):
            seen.append((name, threading.get_ident()))
            return usual(*arguments, **more)

        monkeypatch.setattr(place, name, watched)

    for name in ("get", "create", "config", "save_config"):
        watch(store.sessions, name)
    for name in ("load", "save"):
        watch(store.settings, name)
    watch(store.documents, "totals")
    await sessions.create(LOCAL_OWNER, "A title")
    await sessions.update_config(LOCAL_OWNER, session_id, {"model_name": THINKER.name})
    with pytest.raises(InvalidInput):
        await sessions.update_config(LOCAL_OWNER, session_id, {"scope": ["gone"]})
    await sessions.update_preferences({"top_k": 9})
    await sessions.save(LOCAL_OWNER, session_id, {"top_k": 3})
    assert {name for name, _thread in seen} == {
        "get", "create", "config", "save_config", "load", "save", "totals",
    }  # fmt: skip
    assert [name for name, thread in seen if thread == threading.get_ident()] == []


async def test_changes_are_saved_together(sessions, session_id, tmp_path):
    changes = {
        "model_name": THINKER.name,
        "thinking_mode": "rag",
        "top_k": 50,
        "embed_light": "sentence-transformers/all-MiniLM-L12-v2",
        "embed_deep": "ollama:nomic-embed-text",
        "idle_threshold_s": 10.0,
    }
    saved = await sessions.update_config(LOCAL_OWNER, session_id, changes)
    assert saved == sessions.config(LOCAL_OWNER, session_id)
    assert {name: getattr(saved, name) for name in changes} == changes
    assert isinstance(saved.idle_threshold_s, int)


async def test_a_folder_with_a_model_is_a_light_embedder(sessions, session_id, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    saved = await sessions.update_config(LOCAL_OWNER, session_id, {"embed_light": str(tmp_path)})
    assert saved.embed_light == str(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_name", "no-such-model"),
        ("model_name", EMBEDDING.name),
        ("model_name", ""),
        ("model_name", None),
        ("thinking_mode", "guess"),
        ("thinking_mode", None),
        ("top_k", 0),
        ("top_k", 51),
        ("top_k", 2.5),
        ("top_k", "5"),
        ("top_k", True),
        ("top_k", math.nan),
        ("top_k", math.inf),
        ("top_k", None),
        ("idle_threshold_s", 9),
        ("idle_threshold_s", 86_401),
        ("embed_light", "  "),
        ("embed_light", "ollama:nomic-embed-text"),
        ("embed_light", "/no/such/folder"),
        ("embed_light", "../up/there"),
        ("embed_light", "x" * 301),
        ("embed_light", "odd\0name"),
        ("embed_deep", ""),
        ("embed_deep", "ollama:"),
        ("embed_deep", "three/parts/name"),
        ("gpu_idle_percent", 10),
        ("session_id", "other"),
        ("nonsense", 1),
    ],
)
async def test_a_wrong_value_is_named_and_nothing_is_saved(sessions, session_id, field, value):
    before = sessions.config(LOCAL_OWNER, session_id)
    with pytest.raises(InvalidInput) as refused:
        await sessions.update_config(LOCAL_OWNER, session_id, {"thinking_mode": "cot", field: value})
    assert refused.value.field == field
    assert refused.value.message.endswith(".")
    assert sessions.config(LOCAL_OWNER, session_id) == before


async def test_a_shared_app_opens_no_folders(store, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    sessions = sessions_of(store, share=True)
    session = await sessions.create(LOCAL_OWNER)
    with pytest.raises(InvalidInput):
        await sessions.update_config(LOCAL_OWNER, session.session_id, {"embed_deep": str(tmp_path)})


async def test_the_model_stays_until_it_is_changed(sessions, session_id):
    await sessions.update_config(LOCAL_OWNER, session_id, {"model_name": THINKER.name, "top_k": 9})
    following = await sessions.create(LOCAL_OWNER)
    config = sessions.config(LOCAL_OWNER, following.session_id)
    assert config.model_name == THINKER.name
    assert config.top_k == 5


async def test_preferences_outlive_a_start(store, sessions):
    await sessions.update_preferences(
        {"gpu_idle_percent": 25, "cot_iterations": 3, "thinking_mode": "rag", "model_name": THINKER.name}
    )
    again = sessions_of(store)
    preferences = again.preferences()
    assert (preferences.gpu_idle_percent, preferences.cot_iterations) == (25, 3)
    session = await again.create(LOCAL_OWNER)
    config = again.config(LOCAL_OWNER, session.session_id)
    assert (config.thinking_mode, config.model_name) == (ThinkingMode.RAG, THINKER.name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu_idle_percent", 0),
        ("gpu_idle_percent", 101),
        ("cot_iterations", 0),
        ("cot_iterations", 4),
        ("nonsense", 1),
    ],
)
async def test_a_wrong_preference_is_refused(sessions, field, value):
    before = sessions.preferences()
    with pytest.raises(InvalidInput) as refused:
        await sessions.update_preferences({"top_k": 9, field: value})
    assert refused.value.field == field
    assert sessions.preferences() == before


async def test_a_conversation_that_goes_while_it_is_looked_at_is_in_use_no_more(
    sessions, session_id, monkeypatch
):
    """The worker took it for a library that cannot be kept in order, and said so for ten seconds."""
    listed = sessions.list(LOCAL_OWNER, limit=1)
    sessions.delete(LOCAL_OWNER, session_id)
    monkeypatch.setattr(sessions, "list", lambda *_, **__: listed)
    assert sessions.in_use(LOCAL_OWNER) == sessions.preferences()


async def test_what_one_person_set_for_themselves_is_nobody_elses(sessions):
    """The system prompt of the first person tells about them, and was told to everybody after them."""
    await sessions.update_preferences({"system_prompt": "I am Ada.", "temperature": 1.5, "cot_iterations": 3})
    theirs = sessions.preferences("bob")
    assert (theirs.system_prompt, theirs.temperature) == ("", Settings().temperature)
    assert theirs.cot_iterations == 3, "how the machine works is the same for all"
    await sessions.update_preferences({"system_prompt": "I am Bob."}, "bob")
    assert sessions.preferences().system_prompt == "I am Ada."
    assert sessions.preferences("bob").system_prompt == "I am Bob."


async def test_a_saved_value_that_makes_no_sense_any_more_is_ignored(store, sessions):
    store.settings.save({"top_k": 9999, "thinking_mode": "guess", "cot_iterations": 3, "unknown": 1})
    preferences = sessions.preferences()
    assert (preferences.top_k, preferences.thinking_mode, preferences.cot_iterations) == (
        5,
        ThinkingMode.HYBRID,
        3,
    )


async def test_a_conversation_gets_another_title(sessions, session_id):
    assert sessions.rename(LOCAL_OWNER, session_id, "  Back\nups ").title == "Back ups"
    for title in ("", "  ", "x" * 121):
        with pytest.raises(InvalidInput):
            sessions.rename(LOCAL_OWNER, session_id, title)


async def test_nobody_touches_the_conversation_of_somebody_else(sessions, session_id):
    with pytest.raises(NotFound):
        sessions.get("somebody", session_id)
    with pytest.raises(NotFound):
        sessions.rename("somebody", session_id, "Mine")
    with pytest.raises(NotFound):
        sessions.delete("somebody", session_id)
    with pytest.raises(NotFound):
        await sessions.update_config("somebody", session_id, {"top_k": 3})
    assert sessions.get(LOCAL_OWNER, session_id)


async def test_a_deleted_conversation_is_gone_and_whoever_listens_was_told(sessions, session_id):
    told = []
    sessions.before_delete(lambda owner, session: told.append((owner, session)))
    sessions.delete(LOCAL_OWNER, session_id)
    assert told == [(LOCAL_OWNER, session_id)]
    assert sessions.list(LOCAL_OWNER) == []


async def test_a_hidden_conversation_is_nowhere_and_can_be_brought_back_with_all_that_was_said(
    store, sessions, session_id
):
    store.sessions.add_message(LOCAL_OWNER, session_id, Role.USER, "Where is the key?")
    question = store.sessions.messages(LOCAL_OWNER, session_id)[0]
    told = []
    sessions.before_delete(lambda owner, session: told.append(session))
    sessions.hide(LOCAL_OWNER, session_id)
    assert told == [session_id]
    assert sessions.list(LOCAL_OWNER) == []
    for look in (
        lambda: sessions.get(LOCAL_OWNER, session_id),
        lambda: sessions.config(LOCAL_OWNER, session_id),
        lambda: sessions.rename(LOCAL_OWNER, session_id, "Other"),
        lambda: sessions.export(LOCAL_OWNER, session_id, "json"),
        lambda: store.sessions.messages(LOCAL_OWNER, session_id),
        lambda: store.sessions.message(LOCAL_OWNER, question.message_id),
        lambda: store.sessions.add_message(LOCAL_OWNER, session_id, Role.USER, "And now?"),
        lambda: sessions.undo("somebody", session_id),
    ):
        with pytest.raises(NotFound):
            look()
    assert sessions.undo(LOCAL_OWNER, session_id).title == "Where is the key?"
    assert store.sessions.messages(LOCAL_OWNER, session_id) == [question]
    assert sessions.list(LOCAL_OWNER) == [sessions.get(LOCAL_OWNER, session_id)]


async def test_after_ten_seconds_a_hidden_conversation_is_gone_for_good(store, sessions, session_id):
    kept = (await sessions.create(LOCAL_OWNER)).session_id
    just_now = (await sessions.create(LOCAL_OWNER)).session_id
    store.sessions.mark_deleted(LOCAL_OWNER, session_id, datetime.now(UTC) - timedelta(seconds=11))
    sessions.hide(LOCAL_OWNER, just_now)
    with pytest.raises(NotFound):
        sessions.undo(LOCAL_OWNER, session_id)
    assert sessions.purge_due() == 1
    assert sessions.purge_due() == 0
    assert sessions.undo(LOCAL_OWNER, just_now)
    assert {each.session_id for each in sessions.list(LOCAL_OWNER)} == {kept, just_now}
