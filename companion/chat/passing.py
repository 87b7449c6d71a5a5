"""Conversations that are kept nowhere: whoever asks brings along what was said before.

Knows how such a conversation becomes a question. It does not know who asks, or how it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from companion.chat.questions import Asked, checked_question, storable
from companion.domain import Message, Role, SessionConfig
from companion.errors import InvalidInput

Said = tuple[Role, str]


def asked_in_passing(config: SessionConfig, said: Sequence[Said], answer_tokens: int | None = None) -> Asked:
    """The last of what was said is the question. Nothing of it is stored, then or later.

    Raises InvalidInput if nobody asks, or for the text of the question.
    """
    turns = list(_turns(said))
    if not turns or turns[-1][0] is not Role.USER:
        raise InvalidInput("The last message has to be the question, with the role user.", "messages")
    *before, (_, question) = turns
    question = checked_question(question)
    now = datetime.now(UTC)
    messages = [
        Message(number, config.session_id, role, storable(text), now)
        for number, (role, text) in enumerate([*before, (Role.USER, question)], 1)
    ]
    return Asked(
        messages[-1],
        config,
        config.thinking_mode,
        before=tuple(messages[:-1]),
        answer_tokens=answer_tokens,
    )


def _turns(said: Sequence[Said]) -> Iterable[Said]:
    """What one says in several messages is one turn: models expect them to alternate."""
    for role, messages in groupby(said, key=lambda each: each[0]):
        yield role, "\n\n".join(text for _, text in messages)
