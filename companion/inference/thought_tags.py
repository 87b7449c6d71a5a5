"""Thoughts that a model writes into its answer, between tags, told apart while they stream.

Ollama does that itself for models whose template it knows; those that were imported write
`<think>` into the text. Pure. It does not know engines or requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from companion.domain import EngineDone, EnginePiece, Thought, Token

OPENING, CLOSING = "<think>", "</think>"


class _At(Enum):
    BEGINNING = auto()
    THOUGHT = auto()
    BREAK = auto()
    """Behind a thought: the answer begins with its first letter."""
    ANSWER = auto()


class ThoughtTags:
    """Of one answer. Only what opens it is a thought: later the tag is text."""

    def __init__(self) -> None:
        self._at = _At.BEGINNING
        self._held = ""

    def tell_apart(self, piece: EnginePiece) -> Sequence[EnginePiece]:
        match piece:
            case Token():
                return self._feed(piece.text)
            case EngineDone():
                return (*self._rest(), piece)
            case _:
                return (piece,)

    def _feed(self, text: str) -> list[Thought | Token]:
        self._held += text
        found: list[Thought | Token] = []
        if self._at is _At.BEGINNING:
            self._begin()
        if self._at is _At.THOUGHT and (thought := self._thought()):
            found.append(Thought(thought))
        if self._at is _At.BREAK and (rest := self._held.lstrip()):
            self._at, self._held = _At.ANSWER, rest
        if self._at is _At.ANSWER and self._held:
            found.append(Token(self._held))
            self._held = ""
        return found

    def _rest(self) -> list[Thought | Token]:
        """What was held back when the text ended."""
        rest, self._held = self._held, ""
        if not rest or self._at is _At.BREAK:
            return []
        return [Thought(rest) if self._at is _At.THOUGHT else Token(rest)]

    def _begin(self) -> None:
        said = self._held.lstrip()
        if said.startswith(OPENING):
            self._at, self._held = _At.THOUGHT, said.removeprefix(OPENING)
        elif not OPENING.startswith(said):
            self._at = _At.ANSWER

    def _thought(self) -> str:
        thought, closed, rest = self._held.partition(CLOSING)
        if closed:
            self._at, self._held = _At.BREAK, rest
            return thought
        begun = next(size for size in range(len(CLOSING), -1, -1) if thought.endswith(CLOSING[:size]))
        self._held = thought[len(thought) - begun :]
        return thought[: len(thought) - begun]
