"""Questions that are kept to be answered: new ones, the last one again, one in other words.

Knows what may be asked, and which answer a new one takes the place of. It does not know how it is
answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING

from companion.domain import Message, Role, SessionConfig, ThinkingMode
from companion.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from companion.storage.store import Store

LONGEST_QUESTION = 100_000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A stored question, and how it is to be answered."""

    question: Message
    config: SessionConfig
    mode: ThinkingMode
    replaces: Message | None = None
    """The stored answer that the new one takes the place of."""
    zone: tzinfo | None = None
    """Where the person is, as far as it matters for days; None: where this machine is."""
    before: tuple[Message, ...] | None = None
    """What was said before, in a conversation that is kept nowhere; None: it is stored."""
    answer_tokens: int | None = None
    """No longer answer than this, where whoever asks says so."""


class Questions:
    """Every method raises NotFound for a conversation that is not the owner's."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ask(self, owner: str, session_id: str, text: str, mode: ThinkingMode | None = None) -> Asked:
        """Keep the question. Raises InvalidInput or NotFound; nothing is stored then."""
        text = checked_question(text)
        config = self._store.sessions.config(owner, session_id)
        mode = mode or config.thinking_mode
        question = self._store.sessions.add_message(owner, session_id, Role.USER, text, mode=mode)
        return Asked(question, config, mode)

    def ask_again(
        self, owner: str, session_id: str, mode: ThinkingMode | None = None, message_id: int | None = None
    ) -> Asked:
        """The last question once more, in its own mode if none is given; nothing is stored yet.

        Raises NotFound, InvalidInput if `message_id` is no question, Conflict if it is not the last one.
        """
        if message_id is not None:
            self._question(owner, session_id, message_id)
        said = self._store.sessions.said_since_last_question(owner, session_id)
        if not said:
            raise Conflict("There is no question to answer again yet.")
        question, *answers = said
        if message_id not in (None, question.message_id):
            raise Conflict("Only the last question can be answered again; ask this one in a new message.")
        config = self._store.sessions.config(owner, session_id)
        mode = mode or question.mode or config.thinking_mode
        return Asked(question, config, mode, answers[-1] if answers else None)

    def rephrase(
        self, owner: str, session_id: str, message_id: int, text: str, mode: ThinkingMode | None = None
    ) -> Asked:
        """Keep other words for a question; what was said after it goes with the same step.

        Raises NotFound, and InvalidInput for the text or if this is no question; nothing changes then.
        """
        text = checked_question(text)
        self._question(owner, session_id, message_id)
        config = self._store.sessions.config(owner, session_id)
        mode = mode or config.thinking_mode
        question = self._store.sessions.rewrite_question(owner, session_id, message_id, text, mode=mode)
        return Asked(question, config, mode)

    def _question(self, owner: str, session_id: str, message_id: int) -> Message:
        message = self._store.sessions.message(owner, message_id)
        if message.session_id != session_id:
            raise NotFound("There is no such message.")
        if message.role is not Role.USER:
            raise InvalidInput("This message is an answer; only questions can be asked again.", "message_id")
        return message


def checked_question(text: str) -> str:
    text = storable(text).strip()
    if not text:
        raise InvalidInput("Type a question first.", field="content")
    if len(text) > LONGEST_QUESTION:
        raise InvalidInput(
            f"The question is longer than {LONGEST_QUESTION:,} characters; add long texts as documents.",
            field="content",
        )
    return text


def storable(text: str) -> str:
    """Text as SQLite takes it: without NUL and without halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")
