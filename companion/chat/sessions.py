"""Conversations and what they are set to: create, change, check, delete; and the defaults.

Knows which values a setting may have. It does not know how answers come about or what is shown.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.config import Settings
from companion.domain import Preferences, Session, SessionConfig, ThinkingMode
from companion.errors import EngineUnavailable, InvalidInput, ModelMissing

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog
    from companion.storage.store import Store

LONGEST_TITLE = 120
LONGEST_NAME = 300

_RANGES = {
    "top_k": (1, 50, "The number of passages"),
    "idle_threshold_s": (10, 86_400, "The quiet time in seconds"),
    "gpu_idle_percent": (1, 100, "The GPU use in percent"),
    "cot_iterations": (1, 3, "The number of thinking passes"),
}
_CONFIG_FIELDS = ("model_name", "thinking_mode", "top_k", "embed_light", "embed_deep", "idle_threshold_s")
_PREFERENCE_FIELDS = (*_CONFIG_FIELDS, "gpu_idle_percent", "cot_iterations")
_NAME_OF_MODEL = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_OLLAMA_PREFIX = "ollama:"

BeforeDelete = Callable[[str, str], None]


class Sessions:
    """Every method raises NotFound for a conversation that is not the owner's."""

    def __init__(self, store: Store, catalog: Catalog, settings: Settings) -> None:
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._before_delete: list[BeforeDelete] = []

    def before_delete(self, act: BeforeDelete) -> None:
        """Have `act(owner, session_id)` called before a conversation goes, to stop its answer."""
        self._before_delete.append(act)

    async def create(self, owner: str, title: str | None = None, **changes: object) -> Session:
        """A new conversation with the preferences, changed by `changes`. Raises InvalidInput."""
        config = replace(await self._first_config(), session_id=uuid.uuid4().hex)
        config = replace(config, **await self._checked(changes, _CONFIG_FIELDS))
        title = _checked_title(title) if title is not None else None
        return self._store.sessions.create(owner, config.session_id, config, title)

    def list(self, owner: str, limit: int = 200, offset: int = 0) -> list[Session]:
        """Newest activity first."""
        return self._store.sessions.list(owner, limit, offset)

    def get(self, owner: str, session_id: str) -> Session:
        return self._store.sessions.get(owner, session_id)

    def rename(self, owner: str, session_id: str, title: str) -> Session:
        """Raises InvalidInput for a title without a word."""
        return self._store.sessions.rename(owner, session_id, _checked_title(title))

    def delete(self, owner: str, session_id: str) -> None:
        """Stop an answer in flight, then delete the conversation with all its messages."""
        self._store.sessions.get(owner, session_id)
        for act in self._before_delete:
            act(owner, session_id)
        self._store.sessions.delete(owner, session_id)

    def config(self, owner: str, session_id: str) -> SessionConfig:
        return self._store.sessions.config(owner, session_id)

    async def update_config(
        self, owner: str, session_id: str, changes: Mapping[str, object]
    ) -> SessionConfig:
        """Check and save; all or nothing. A change of model holds for new conversations, too.

        Raises InvalidInput with the name of the field.
        """
        config = self._store.sessions.config(owner, session_id)
        values = await self._checked(changes, _CONFIG_FIELDS)
        saved = self._store.sessions.save_config(owner, replace(config, **values))
        if "model_name" in values:
            self._store.settings.save({"model_name": values["model_name"]})
        return saved

    def preferences(self) -> Preferences:
        """What was saved last, else what the program was started with."""
        start = self._settings
        preferences = Preferences(**{name: getattr(start, name) for name in _PREFERENCE_FIELDS})
        for name, value in self._store.settings.load().items():
            if name in _PREFERENCE_FIELDS:
                preferences = self._with_saved(preferences, name, value)
        return preferences

    async def update_preferences(self, changes: Mapping[str, object]) -> Preferences:
        """Check and save; all or nothing. Raises InvalidInput with the name of the field."""
        self._store.settings.save(await self._checked(changes, _PREFERENCE_FIELDS))
        return self.preferences()

    async def save(self, owner: str, session_id: str | None, values: Mapping[str, object]) -> None:
        """Save for a conversation, if one is named, and for new ones: all or nothing.

        Raises InvalidInput with the name of the field, before anything is written.
        """
        checked = await self._checked(values, _PREFERENCE_FIELDS)
        if session_id is not None:
            config = self._store.sessions.config(owner, session_id)
            own = {name: value for name, value in checked.items() if name in _CONFIG_FIELDS}
            self._store.sessions.save_config(owner, replace(config, **own))
        self._store.settings.save(checked)

    # --- checks -------------------------------------------------------------------------------

    async def _first_config(self) -> SessionConfig:
        preferences = asdict(self.preferences())
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

    async def _checked(self, changes: Mapping[str, object], names: tuple[str, ...]) -> dict[str, Any]:
        for name in changes:
            if name not in names:
                raise InvalidInput(f"There is no setting called {name}.", field=name)
        values = {name: self._checked_value(name, value) for name, value in changes.items()}
        if "model_name" in values:
            await self._check_model(str(values["model_name"]))
        return values

    def _checked_value(self, name: str, value: object) -> Any:
        match name:
            case "thinking_mode":
                return _checked_mode(value)
            case "model_name":
                return _checked_name(name, value, "Choose a model.")
            case "embed_light":
                return self._checked_light(value)
            case "embed_deep":
                return self._checked_deep(value)
            case _:
                return _checked_number(name, value)

    async def _check_model(self, name: str) -> None:
        try:
            model = await self._catalog.info(name)
        except ModelMissing as error:
            raise InvalidInput(error.message, field="model_name") from error
        if not model.can_chat:
            raise InvalidInput(f"{name} cannot chat; choose a chat model.", field="model_name")

    def _checked_light(self, value: object) -> str:
        name = _checked_name("embed_light", value, "Name a light embedder.")
        if name.startswith(_OLLAMA_PREFIX):
            raise InvalidInput(
                "The light embedder cannot run in Ollama; name a sentence-transformers model.",
                field="embed_light",
            )
        return self._checked_embedder("embed_light", name)

    def _checked_deep(self, value: object) -> str:
        name = _checked_name("embed_deep", value, "Name a deep embedder.")
        if name.startswith(_OLLAMA_PREFIX) and name != _OLLAMA_PREFIX:
            return name
        return self._checked_embedder("embed_deep", name)

    def _checked_embedder(self, field: str, name: str) -> str:
        if _NAME_OF_MODEL.fullmatch(name):
            return name
        folder = Path(name).expanduser()
        if self._settings.share or self._settings.demo:
            raise InvalidInput("Only names of models can be used here, no folders.", field=field)
        if not (folder / "modules.json").is_file():
            raise InvalidInput(
                f"{name} is neither the name of a model nor a sentence-transformers folder.", field=field
            )
        return name


def _checked_title(title: str) -> str:
    title = " ".join(title.replace("\0", "").encode("utf-8", "replace").decode().split())
    if not title:
        raise InvalidInput("Give the conversation a title.", field="title")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(f"A title has at most {LONGEST_TITLE} characters.", field="title")
    return title


def _checked_mode(value: object) -> ThinkingMode:
    try:
        return ThinkingMode(str(value))
    except ValueError as error:
        raise InvalidInput("The thinking mode is cot, rag or hybrid.", field="thinking_mode") from error


def _checked_name(field: str, value: object, wanted: str) -> str:
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise InvalidInput(wanted, field=field)
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidInput("This name cannot be used; it is too long or has odd characters.", field=field)
    return name


def _checked_number(field: str, value: object) -> int:
    """Whole numbers, as pages and JSON send them: 5 and 5.0, but not "5" and not true."""
    lowest, highest, words = _RANGES[field]
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if lowest <= number <= highest and number == int(number):
        return int(number)
    raise InvalidInput(f"{words} is a whole number from {lowest} to {highest}.", field=field)
