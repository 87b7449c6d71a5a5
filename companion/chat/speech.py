"""What the model says in a turn: its thoughts, then its answer, piece by piece.

Knows calls of a model, when one is tried again, and what their numbers tell. It does not know
documents or what becomes of the answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from companion.chat.means import Means, MeansByModel
from companion.chat.modes import Step
from companion.chat.notes import nothing_to_change, repetition
from companion.chat.prompt import Packed
from companion.chat.turn import Turn
from companion.domain import (
    ChatRequest,
    EngineDone,
    EnginePiece,
    ModelInfo,
    Notice,
    PromptMessage,
    ThinkingMode,
    Thought,
    Token,
    TurnEvent,
)
from companion.errors import EngineBusy, StreamBroken

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog

ATTEMPTS = 3
"""The first and two more, as long as a model has not said anything."""

BROKEN_OFF = "The model's answer broke off; ask again, or choose another model."
ONLY_THOUGHTS = "The model used its whole length for thinking and gave no answer; ask again in rag mode."
ONLY_THOUGHTS_IN_RAG = (
    "The model used its whole length for thinking and gave no answer; choose another model, or allow longer "
    "answers."
)
NO_WORDS = "The model gave no answer; ask again in other words, or choose another model."
WENT_IN_CIRCLES = (
    "The small model began to repeat itself and was stopped; a larger one in Ollama answers better."
)


class Speech:
    """Lets models speak. Holds nothing of a person."""

    def __init__(self, catalog: Catalog, means: MeansByModel) -> None:
        self._catalog = catalog
        self._means = means

    async def say(self, turn: Turn, means: Means, packed: Packed) -> AsyncGenerator[TurnEvent]:
        done: list[tuple[Step, str]] = []
        for step in means.plan.passes:
            said = ""
            if done:
                yield Thought("\n\n")
            async with aclosing(self._ask(turn, means, packed.messages(step, done), step)) as events:
                async for event in events:
                    said += event.text if isinstance(event, Thought) else ""
                    yield event
            if not said.strip() or any(nothing_to_change(notes, said) for _, notes in done):
                break
            done.append((step, said.strip()))
        prompt = packed.messages(Step.ANSWER, done)
        async with aclosing(self._ask(turn, means, prompt, Step.ANSWER)) as events:
            async for event in events:
                yield event

    async def _ask(
        self, turn: Turn, means: Means, messages: tuple[PromptMessage, ...], step: Step
    ) -> AsyncGenerator[Thought | Token | Notice]:
        """One call of the model. Before the answer everything it says is a thought."""
        answering = step is Step.ANSWER
        thinks = answering and bool(means.plan.native)
        request = ChatRequest(
            model=means.model.name,
            messages=messages,
            num_ctx=means.window.num_ctx,
            max_tokens=(means.window.answer if answering else means.window.thoughts)
            + (means.window.thoughts if thinks else 0),
            # A tiny model keeps to the text only while it takes the likeliest word.
            temperature=0.0 if means.profile.small else means.temperature,
            think=means.plan.native,
            grammar=turn.packed.grammar(step) if turn.packed else None,
        )
        said = ""
        async with aclosing(self.pieces(means.model, request)) as pieces:
            async for piece in pieces:
                match piece:
                    case EngineDone():
                        for event in self._account(turn, means, request, piece, answering):
                            yield event
                    case Token() if answering:
                        text = turn.citations.feed(piece.text) if means.plan.searches else piece.text
                        if text:
                            yield Token(text)
                    case _:
                        yield Thought(piece.text)
                said += "" if isinstance(piece, EngineDone) else piece.text
                if means.profile.small and repetition(said):
                    if answering:
                        turn.cut_repetition()
                        yield Notice(WENT_IN_CIRCLES)
                    return

    def _account(
        self, turn: Turn, means: Means, request: ChatRequest, done: EngineDone, answering: bool
    ) -> list[Token | Notice]:
        """What is said at the end of a call, and what is learned from its numbers."""
        cost = turn.usage
        loaded = (cost.load_ms or 0) + (done.usage.load_ms or 0)
        turn.usage = replace(
            done.usage,
            load_ms=loaded or None,
            search_ms=cost.search_ms,
            thinking_ms=cost.thinking_ms,
            first_token_ms=cost.first_token_ms,
            ended=done.reason if answering else None,
            window=request.num_ctx,
            passages_left_out=turn.packed.passages_left_out if turn.packed else 0,
            turns_left_out=turn.packed.turns_left_out if turn.packed else 0,
        )
        notice = self._means.learn(means, request, done.usage.prompt_tokens)
        events: list[Token | Notice] = [Notice(notice)] if notice and notice not in turn.notices else []
        if not answering:
            return events
        rest = turn.citations.close()
        if rest:
            events.append(Token(rest))
        if not (turn.content + rest).strip():
            events.append(Notice(_why_silent(turn, done)))
        elif done.reason == "length":
            events.append(Notice(f"The answer was cut at its longest length, {request.max_tokens} tokens."))
        return events

    async def pieces(self, model: ModelInfo, request: ChatRequest) -> AsyncGenerator[EnginePiece]:
        """The model's stream, tried again while it has said nothing. Ends with EngineDone or raises."""
        piece: EnginePiece | None = None
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((EngineBusy, StreamBroken)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(0.2, 0.6),
            reraise=True,
        ):
            with attempt:
                stream = self._catalog.engine(model).stream(request)
                piece = await _first(stream)
        try:
            while piece is not None:
                yield piece
                if isinstance(piece, EngineDone):
                    return
                piece = await anext(stream, None)
        finally:
            await _close(stream)
        raise StreamBroken(BROKEN_OFF)


def _why_silent(turn: Turn, done: EngineDone) -> str:
    if done.reason != "length" or not turn.thinking:
        return NO_WORDS
    return ONLY_THOUGHTS_IN_RAG if turn.mode is ThinkingMode.RAG else ONLY_THOUGHTS


async def _first(stream: AsyncIterator[EnginePiece]) -> EnginePiece:
    piece = await anext(stream, None)
    if piece is None:
        raise StreamBroken(BROKEN_OFF)
    return piece


async def _close(stream: AsyncIterator[EnginePiece]) -> None:
    """Closing the engine's stream is what stops the model."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()
