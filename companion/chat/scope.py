"""What a person is told when a turn does not search what they may expect.

Knows scopes, and what was searched before in a conversation. It does not know how a search is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from companion.domain import Message

if TYPE_CHECKING:
    from companion.library.library import Library

CHOSEN_GONE = (
    "All documents chosen for this conversation are deleted, so nothing was searched; "
    "choose others, or all of them."
)
NAMED = "Only {names} {was} searched, because the question names {it}."
SAMPLES_LEFT = "Your own documents are searched from now on; the sample library is left out."


def scope_notices(
    library: Library, owner: str, scope: Sequence[str] | None, before: Sequence[Message]
) -> list[str]:
    """Sentences about the scope of a search; `before` is the conversation until now, oldest first."""
    if scope is not None:
        return [CHOSEN_GONE] if library.scope_of(owner, scope).missing == len(scope) else []
    return [SAMPLES_LEFT] if _samples_left(library, owner, before) else []


def only_named(names: Sequence[str]) -> str:
    """What is told when a question names the documents that it is about."""
    *others, last = (f"“{name}”" for name in names)
    if not others:
        return NAMED.format(names=last, was="was", it="it")
    return NAMED.format(names=f"{', '.join(others)} and {last}", was="were", it="them")


def _samples_left(library: Library, owner: str, before: Sequence[Message]) -> bool:
    """Whether this is the first search in the conversation without the sample library."""
    for message in reversed(before):
        if SAMPLES_LEFT in message.notices:
            return False
        if message.sources:
            seen = library.scope_of(owner, [source.doc_id for source in message.sources])
            return seen.samples and not library.scope_of(owner).samples
    return False
