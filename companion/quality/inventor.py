"""Has a chat model make a question from a passage, if there is one that is able and runs here.

Knows the catalog of models. It does not know when there is time for it, or what becomes of a question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from companion.domain import ChatRequest, ModelInfo, Passage, Token
from companion.inference.catalog import Catalog
from companion.quality.invention import MAX_TOKENS, TEMPERATURE, messages, question_of

LEAST_WINDOW = 2048
THOUGHT_TOKENS = 512
"""Beside the question, for a model that cannot leave out its thoughts, only keep them short."""


@dataclass(frozen=True, slots=True)
class Invention:
    """What came of asking a model."""

    question: str | None
    """None: the model said nothing that can be used."""
    model: str | None
    """None: there is none that is able."""


class Inventor:
    """One short call for each passage; cancelling it stops the model."""

    def __init__(
        self, catalog: Catalog, *, chosen: Callable[[], str | None], window_for: Callable[[ModelInfo], int]
    ) -> None:
        """`chosen`: the model of the person's conversation. `window_for`: what a turn would ask for;
        another one would load the model anew."""
        self._catalog = catalog
        self._chosen = chosen
        self._window_for = window_for

    async def invent(self, passage: Passage) -> Invention:
        """Raises `EngineError`s."""
        chosen = await asyncio.to_thread(self._chosen)
        model, _notice = await self._catalog.resolve(chosen)
        # The built-in model is too small for it, and nothing may leave the machine unasked.
        if model.engine == "builtin" or model.remote:
            return Invention(None, None)
        window = await asyncio.to_thread(self._window_for, model)
        request = ChatRequest(
            model=model.name,
            messages=messages(passage.text),
            num_ctx=max(window, LEAST_WINDOW),
            max_tokens=MAX_TOKENS + (THOUGHT_TOKENS if model.thinks_in_levels else 0),
            temperature=TEMPERATURE,
            think=model.least_thinking,
        )
        said = ""
        async with aclosing(self._catalog.stream(request)) as pieces:
            async for piece in pieces:
                said += piece.text if isinstance(piece, Token) else ""
        return Invention(question_of(said, passage.text), model.name)
