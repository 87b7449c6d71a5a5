"""Conversations and what they are set to: create, change, check, delete; and the defaults.

Knows whose they are, and who may change what. It does not know how answers come about or what is shown.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from companion.chat.export import Export, ExportKind, export
from companion.chat.setting_values import checked_value
from companion.config import Settings
from companion.domain import (
    LOCAL_OWNER,
    SAMPLE_OWNER,
    Preferences,
    Session,
    SessionConfig,
)
from companion.errors import EngineUnavailable, InvalidInput, ModelMissing, NotFound

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog
    from companion.storage.store import Store

LONGEST_TITLE = 120
UNDO_S = 10
UNDO = timedelta(seconds=UNDO_S)


_CONFIG_FIELDS = (
    "model_name", "thinking_mode", "top_k", "embed_light", "embed_deep", "idle_threshold_s",
    "temperature", "system_prompt",
)  # fmt: skip
_SESSION_FIELDS = (*_CONFIG_FIELDS, "scope")
"""The scope is of one conversation: a new one begins with all documents."""
_PREFERENCE_FIELDS = (
    *_CONFIG_FIELDS, "gpu_idle_percent", "cot_iterations", "least_similarity", "deep_query",
    "show_cloud_models", "quality_questions",
)  # fmt: skip
PERSONAL_FIELDS = ("model_name", "thinking_mode", "top_k", "temperature", "system_prompt")
"""What each user has for themselves; all other settings concern the machine."""
BeforeDelete = Callable[[str, str], None]


class Sessions:
    """Every method raises NotFound for a conversation that is not the owner's."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        settings: Settings,
        require_admin: Callable[[str], None] = lambda _owner: None,
    ) -> None:
        """`require_admin` raises Refused for an owner who may not change what concerns the machine."""
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._require_admin = require_admin
        self._setting = threading.Lock()
        self._before_delete: list[BeforeDelete] = []
        self._after_save: list[Callable[[Mapping[str, Any]], None]] = []

    def before_delete(self, act: BeforeDelete) -> None:
        """Have `act(owner, session_id)` called before a conversation goes, to stop its answer."""
        self._before_delete.append(act)

    def after_save(self, act: Callable[[Mapping[str, Any]], None]) -> None:
        """Have `act(values)` called when preferences were saved."""
        self._after_save.append(act)

    async def create(self, owner: str, title: str | None = None, **changes: object) -> Session:
        """A new conversation with the preferences, changed by `changes`. Raises InvalidInput."""
        config = await self.new_config(owner, **changes)
        title = _checked_title(title) if title is not None else None
        return await asyncio.to_thread(self._store.sessions.create, owner, config.session_id, config, title)

    async def new_config(self, owner: str, **changes: object) -> SessionConfig:
        """What `create` would set a new conversation to; nothing is stored. Raises InvalidInput."""
        config = replace(await self._first_config(owner), session_id=uuid.uuid4().hex)
        return replace(config, **await self._checked_session(owner, changes))

    def list(self, owner: str, limit: int = 200, offset: int = 0) -> list[Session]:
        """Newest activity first."""
        return self._store.sessions.list(owner, limit, offset)

    def get(self, owner: str, session_id: str) -> Session:
        return self._store.sessions.get(owner, session_id)

    def rename(self, owner: str, session_id: str, title: str) -> Session:
        """Raises InvalidInput for a title without a word."""
        return self._store.sessions.rename(owner, session_id, _checked_title(title))

    def delete(self, owner: str, session_id: str) -> None:
        """Stop an answer in flight, then delete the conversation with all its messages, for good."""
        self._end_answer(owner, session_id)
        self._store.sessions.delete(owner, session_id)

    def hide(self, owner: str, session_id: str) -> None:
        """As `delete`, but for `UNDO_S` seconds it can be undone; then it is purged."""
        self._end_answer(owner, session_id)
        self._store.sessions.mark_deleted(owner, session_id, datetime.now(UTC))

    def undo(self, owner: str, session_id: str) -> Session:
        """Bring back a conversation that was hidden less than `UNDO_S` seconds ago."""
        return self._store.sessions.restore(owner, session_id, datetime.now(UTC) - UNDO)

    def purge_due(self) -> int:
        """Remove for good what was hidden more than `UNDO_S` seconds ago; returns how many."""
        return self._store.sessions.purge(datetime.now(UTC) - UNDO)

    def _end_answer(self, owner: str, session_id: str) -> None:
        self._store.sessions.get(owner, session_id)
        for act in self._before_delete:
            act(owner, session_id)

    def config(self, owner: str, session_id: str) -> SessionConfig:
        return self._store.sessions.config(owner, session_id)

    def in_use(self, owner: str) -> SessionConfig | Preferences:
        """What the last active conversation is set to; what a new one would be if there is none."""
        # It may be deleted between the two reads.
        with suppress(NotFound):
            if latest := self.list(owner, limit=1):
                return self.config(owner, latest[0].session_id)
        return self.preferences(owner)

    def export(self, owner: str, session_id: str, kind: ExportKind) -> Export:
        """A conversation as a file: to read as Markdown, or with all that is stored as JSON."""
        store = self._store.sessions
        session, config = store.get(owner, session_id), store.config(owner, session_id)
        return export(session, config, store.messages(owner, session_id), kind)

    async def update_config(
        self, owner: str, session_id: str, changes: Mapping[str, object]
    ) -> SessionConfig:
        """Check and save; all or nothing. A change of model holds for new conversations, too, unless
        it is a cloud model: those are chosen each time, or in the preferences.

        Raises InvalidInput with the name of the field.
        """
        # First of all: whether there is a conversation of somebody else is nobody's business.
        await asyncio.to_thread(self._store.sessions.get, owner, session_id)
        values = await self._checked_session(owner, changes)
        saved = await asyncio.to_thread(self._set, owner, session_id, values)
        if "model_name" in values and not (await self._catalog.info(values["model_name"])).remote:
            await asyncio.to_thread(self._save, owner, {"model_name": values["model_name"]})
        return saved

    def preferences(self, owner: str = LOCAL_OWNER) -> Preferences:
        """What was saved last, else what the program was started with. What each has set for themselves
        is nobody else's, that of the machine's own person neither: a system prompt may tell much."""
        start = self._settings
        preferences = Preferences(**{name: getattr(start, name) for name in _PREFERENCE_FIELDS})
        saved = self._store.settings.load()
        if owner != LOCAL_OWNER:
            saved = {name: value for name, value in saved.items() if name not in PERSONAL_FIELDS}
            saved |= {n: v for n, v in self._store.settings.load(owner).items() if n in PERSONAL_FIELDS}
        for name, value in saved.items():
            if name in _PREFERENCE_FIELDS:
                preferences = self._with_saved(preferences, name, value)
        return preferences

    async def update_preferences(
        self, changes: Mapping[str, object], owner: str = LOCAL_OWNER
    ) -> Preferences:
        """Check and save; all or nothing. Raises InvalidInput with the name of the field, and Refused
        for what only an admin may change."""
        checked = await self._checked(owner, changes, _PREFERENCE_FIELDS)
        await asyncio.to_thread(self._save, owner, checked)
        return await asyncio.to_thread(self.preferences, owner)

    async def check(self, values: Mapping[str, object], owner: str = LOCAL_OWNER) -> None:
        """Raises InvalidInput, as `save` would; saves nothing."""
        await self._checked(owner, values, _PREFERENCE_FIELDS)

    async def save(self, owner: str, session_id: str | None, values: Mapping[str, object]) -> None:
        """Save for a conversation, if one is named, and for new ones: all or nothing.

        Raises InvalidInput with the name of the field, before anything is written, and Refused for
        what only an admin may change.
        """
        checked = await self._checked(owner, values, _PREFERENCE_FIELDS)
        if session_id is not None:
            own = {name: value for name, value in checked.items() if name in _CONFIG_FIELDS}
            await asyncio.to_thread(self._set, owner, session_id, own)
        await asyncio.to_thread(self._save, owner, checked)

    def _set(self, owner: str, session_id: str, values: Mapping[str, Any]) -> SessionConfig:
        # Of two changes at once none may be lost.
        with self._setting:
            config = self._store.sessions.config(owner, session_id)
            return self._store.sessions.save_config(owner, replace(config, **values))

    def _save(self, owner: str, checked: Mapping[str, Any]) -> None:
        own = {} if owner == LOCAL_OWNER else {n: v for n, v in checked.items() if n in PERSONAL_FIELDS}
        self._store.settings.save(own, owner)
        self._store.settings.save({name: value for name, value in checked.items() if name not in own})
        self._catalog.show_cloud = checked.get("show_cloud_models", self._catalog.show_cloud)
        for act in self._after_save:
            act(checked)

    # --- checks -------------------------------------------------------------------------------

    async def _first_config(self, owner: str) -> SessionConfig:
        preferences = asdict(await asyncio.to_thread(self.preferences, owner))
        values = {name: preferences[name] for name in _CONFIG_FIELDS}
        if values["model_name"] is None:
            values["model_name"] = await self._default_model()
        return SessionConfig(session_id="", **values)

    async def _default_model(self) -> str:
        """Empty while no engine is there: the conversation then takes what there is when asked."""
        try:
            return (await self._catalog.default()).name
        except EngineUnavailable:
            return ""

    def _with_saved(self, preferences: Preferences, name: str, value: object) -> Preferences:
        # What an older version saved may be out of today's ranges; then the default holds.
        try:
            return replace(preferences, **{name: self._checked_value(name, value)})
        except InvalidInput:
            return preferences

    async def _checked(
        self, owner: str, changes: Mapping[str, object], names: tuple[str, ...]
    ) -> dict[str, Any]:
        values = await asyncio.to_thread(self._allowed, owner, changes, names)
        if "model_name" in values:
            await self._check_model(str(values["model_name"]))
        return values

    def _allowed(self, owner: str, changes: Mapping[str, object], names: tuple[str, ...]) -> dict[str, Any]:
        for name in changes:
            if name not in names:
                raise InvalidInput(f"There is no setting called {name}.", field=name)
        if not {*PERSONAL_FIELDS, "scope"}.issuperset(changes):
            self._require_admin(owner)
        return {name: self._checked_value(name, value) for name, value in changes.items()}

    def _checked_value(self, name: str, value: object) -> Any:
        return checked_value(name, value, folders=self._settings.mode == "local")

    async def _checked_session(self, owner: str, changes: Mapping[str, object]) -> dict[str, Any]:
        values = await self._checked(owner, changes, _SESSION_FIELDS)
        if values.get("scope") is not None:
            await asyncio.to_thread(self._check_scope, owner, values["scope"])
        return values

    def _check_scope(self, owner: str, doc_ids: tuple[str, ...]) -> None:
        if self._store.documents.totals((owner, SAMPLE_OWNER), doc_ids).documents < len(doc_ids):
            raise InvalidInput("A chosen document is not there any more; choose again.", field="scope")

    async def _check_model(self, name: str) -> None:
        try:
            model = await self._catalog.info(name)
        except ModelMissing as error:
            raise InvalidInput(error.message, field="model_name") from error
        if not model.can_chat:
            raise InvalidInput(f"{name} cannot chat; choose a chat model.", field="model_name")


def _checked_title(title: str) -> str:
    title = " ".join(title.replace("\0", "").encode("utf-8", "replace").decode().split())
    if not title:
        raise InvalidInput("Give the conversation a title.", field="title")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(f"A title has at most {LONGEST_TITLE} characters.", field="title")
    return title
