"""One turn: keep the question, search, think, answer, keep the answer.

Knows the order of these and what a failure of each means. It does not know threads, pages or
HTTP: whoever reads the events shows them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from companion.chat.citations import CitationStream, match_sentences
from companion.chat.modes import Plan, Step, plan_turn
from companion.chat.prompt import (
    NOTHING_FOUND,
    NOTHING_FOUND_NOTICE,
    QUESTION_TOKENS,
    WIDENED,
    Calibration,
    Exchange,
    Packed,
    Profile,
    Window,
    combined,
    condense_messages,
    condensed,
    exchanges,
    leans_on_history,
    nothing_to_change,
    pack,
    profile_for,
    repetition,
    share_out,
    wanted_tokens,
    window_size,
)
from companion.config import Settings
from companion.domain import (
    ChatRequest,
    EngineDone,
    EnginePiece,
    Finished,
    Hit,
    Message,
    MessageState,
    ModelInfo,
    Notice,
    Passage,
    Preferences,
    PromptMessage,
    Retrieved,
    Role,
    SearchResult,
    SessionConfig,
    Source,
    ThinkingMode,
    Thought,
    Token,
    TurnEvent,
    Usage,
)
from companion.errors import (
    CompanionError,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    InvalidInput,
    NotFound,
    StreamBroken,
)

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog
    from companion.library.library import Library
    from companion.storage.store import Store

logger = logging.getLogger(__name__)

LONGEST_QUESTION = 100_000
"""Characters."""
HISTORY_MESSAGES = 100
LEAST_SIMILARITY = 0.15
"""Below this cosine, and without a word in common, a passage has nothing to do with a question.

A soft rule for all-MiniLM-L6-v2, whose unrelated pairs lie around 0 to .15.
"""
CONDENSE_TOKENS = 64
ATTEMPTS = 3
"""The first and two more, as long as a model has not said anything."""
STALE_WINDOW_S = 30.0
"""A model that is not loaded and was not used for so long may come back with a smaller window."""

BROKEN_OFF = "The model's answer broke off; ask again, or choose another model."
UNKNOWN_FAILURE = "Something went wrong while answering; ask again, and look into the log if it stays."
WINDOW_FULL = "The model's window was full; the beginning of what it was told may be missing."
READ_LESS = "The model read less than it was told; the beginning may have been cut off."
ONLY_THOUGHTS = "The model used its whole length for thinking and gave no answer; ask again in rag mode."
NO_WORDS = "The model gave no answer; ask again in other words, or choose another model."
WENT_IN_CIRCLES = (
    "The small model began to repeat itself and was stopped; a larger one in Ollama answers better."
)

KeptAnswer = Callable[[Message], None]


@dataclass(slots=True)
class Turn:
    """What is known of a turn so far; becomes the stored answer, however the turn ends."""

    owner: str
    question: Message
    mode: ThinkingMode
    config: SessionConfig
    started: float
    model: ModelInfo | None = None
    history: list[Exchange] = field(default_factory=list)
    citations: CitationStream = field(default_factory=lambda: CitationStream(()))
    packed: Packed | None = None
    sources: tuple[Source, ...] = ()
    content: str = ""
    thinking: str = ""
    notices: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    state: MessageState = MessageState.COMPLETE
    first_thought: float | None = None

    def keep(self, event: TurnEvent) -> None:
        match event:
            case Retrieved():
                self.sources = event.sources
                self.usage = replace(self.usage, search_ms=event.took_ms)
            case Thought():
                self.first_thought = self.first_thought or time.monotonic()
                self.thinking += event.text
            case Token():
                self._keep_token(event)
            case Notice():
                self.notices.append(event.text)

    def _keep_token(self, token: Token) -> None:
        if self.usage.first_token_ms is None:
            self.end_thinking()
            self.usage = replace(self.usage, first_token_ms=_ms_since(self.started))
        self.content += token.text

    def end_thinking(self) -> None:
        if self.first_thought is not None and self.usage.thinking_ms is None:
            self.usage = replace(self.usage, thinking_ms=_ms_since(self.first_thought))

    def cut_repetition(self) -> None:
        self.content += self.citations.close()
        self.content = self.content[: len(self.content) - repetition(self.content)].rstrip()

    def close(self) -> None:
        """Settle text and sources; also after a stop or a failure."""
        self.end_thinking()
        self.content += self.citations.close()
        cited = set(self.citations.used)
        matched: set[int] = set()
        if self.packed and self.packed.shown and not cited:
            found = match_sentences(
                self.content, {each.number: each.hit.passage.text for each in self.packed.shown}
            )
            self.content, matched = found.text, set(found.numbers)
        self.sources = tuple(
            replace(each, cited=each.number in cited | matched, matched=each.number in matched)
            for each in self.sources
        )


@dataclass(frozen=True, slots=True)
class Means:
    """What a turn works with, once its model is known."""

    model: ModelInfo
    plan: Plan
    profile: Profile
    window: Window
    calibration: Calibration


class Chat:
    """Answers questions. Holds nothing of a person; remembers how long a model's tokens are."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        library: Library,
        preferences: Callable[[], Preferences],
        settings: Settings,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._library = library
        self._preferences = preferences
        self._settings = settings
        self._calibrations: dict[str, Calibration] = {}
        self._windows: dict[str, tuple[int, float]] = {}

    def ask(self, owner: str, session_id: str, text: str, mode: ThinkingMode | None = None) -> Message:
        """Keep the question. Raises InvalidInput or NotFound; nothing is stored then."""
        text = _storable(text).strip()
        if not text:
            raise InvalidInput("Type a question first.", field="content")
        if len(text) > LONGEST_QUESTION:
            raise InvalidInput(
                f"The question is longer than {LONGEST_QUESTION:,} characters; add long texts as documents.",
                field="content",
            )
        config = self._store.sessions.config(owner, session_id)
        return self._store.sessions.add_message(
            owner, session_id, Role.USER, text, mode=mode or config.thinking_mode
        )

    async def reply(
        self, owner: str, session_id: str, text: str, mode: ThinkingMode | None = None
    ) -> AsyncGenerator[TurnEvent]:
        """Keep the question and answer it. `Finished` is the last event; closing or cancelling
        stops the model and keeps what was said.
        """
        question = await asyncio.to_thread(self.ask, owner, session_id, text, mode)
        async with aclosing(self.answer(owner, question, mode)) as events:
            async for event in events:
                yield event

    async def answer(
        self,
        owner: str,
        question: Message,
        mode: ThinkingMode | None = None,
        kept: KeptAnswer = lambda _: None,
    ) -> AsyncGenerator[TurnEvent]:
        """Answer a question that is stored. `kept` hears of the stored answer, also after a stop."""
        config = self._store.sessions.config(owner, question.session_id)
        turn = Turn(owner, question, mode or config.thinking_mode, config, time.monotonic())
        try:
            async with aclosing(self._events(turn)) as events:
                async for event in events:
                    turn.keep(event)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            turn.state = MessageState.STOPPED
            raise
        except Exception as error:
            turn.state = MessageState.FAILED
            turn.notices.append(_sentence(error))
        finally:
            # Also reached through GeneratorExit: never yield here, never await.
            message = self._keep_answer(turn)
            if message is not None:
                kept(message)
        if turn.state is MessageState.FAILED:
            yield Notice(turn.notices[-1])
        if message is not None:
            yield Finished(message)

    async def preload(self, model_name: str) -> None:
        """Load a model with the window that its next turn will ask for. Raises InvalidInput if it
        cannot chat, ModelMissing if there is none of this name."""
        model = await self._catalog.info(model_name)
        if not model.can_chat:
            raise InvalidInput(f"{model_name} cannot chat; choose a chat model.", field="name")
        await self._catalog.load(model.name, self.window_for(model))

    def window_for(self, model: ModelInfo, wanted: int = 0) -> int:
        """`num_ctx` of every call to this model: it only grows while the model is loaded."""
        preferences = self._preferences()
        profile = profile_for(model, self._settings, preferences.cot_iterations)
        # Sized for hybrid, whatever the mode: a change of mode shall not reload the model.
        plan = plan_turn(ThinkingMode.HYBRID, model, profile.passes)
        usual = wanted_tokens(profile, plan, preferences.top_k, QUESTION_TOKENS, 0)
        current, used = self._windows.get(model.name, (0, 0.0))
        if not model.loaded and time.monotonic() - used > STALE_WINDOW_S:
            current = 0
        size = window_size(max(usual, wanted), current, profile.max_ctx)
        self._windows[model.name] = (size, time.monotonic())
        return size

    # --- the steps of a turn ----------------------------------------------------------------

    async def _events(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        name = turn.config.model_name or None
        model, fallen_back = await self._catalog.resolve(name)
        turn.history = await asyncio.to_thread(self._history, turn)
        try:
            async with aclosing(self._answered_by(turn, model, fallen_back)) as events:
                async for event in events:
                    yield event
        except EngineUnavailable:
            # The list of models is some seconds old: it may have gone since.
            await self._catalog.models(refresh=True)
            other, fallen_back = await self._catalog.resolve(name)
            if turn.content or turn.thinking or other == model:
                raise
            async with aclosing(self._answered_by(turn, other, fallen_back)) as events:
                async for event in events:
                    yield event

    async def _answered_by(
        self, turn: Turn, model: ModelInfo, fallen_back: str | None
    ) -> AsyncGenerator[TurnEvent]:
        turn.model = model
        if fallen_back:
            yield Notice(fallen_back)
        means = self._means(turn, model)
        if means.plan.searches:
            async with aclosing(self._search(turn, means)) as found:
                async for event in found:
                    yield event
            if turn.packed is None:
                yield Token(NOTHING_FOUND)
                return
        else:
            turn.packed = _pack(turn, means, turn.question.content, (), {})
            for notice in turn.packed.notices:
                yield Notice(notice)
        async with aclosing(self._say(turn, means, turn.packed)) as said:
            async for event in said:
                yield event

    def _history(self, turn: Turn) -> list[Exchange]:
        messages = self._store.sessions.messages(turn.owner, turn.question.session_id, limit=HISTORY_MESSAGES)
        return exchanges([each for each in messages if each.message_id < turn.question.message_id])

    def _means(self, turn: Turn, model: ModelInfo) -> Means:
        profile = profile_for(model, self._settings, self._preferences().cot_iterations)
        plan = plan_turn(turn.mode, model, profile.passes)
        calibration = self._calibrations.get(model.name, Calibration())
        question = calibration.tokens(turn.question.content)
        history = sum(calibration.tokens(each.question + each.answer) for each in turn.history)
        wanted = wanted_tokens(profile, plan, turn.config.top_k, question, history)
        window = share_out(self.window_for(model, wanted), profile, plan)
        return Means(model, plan, profile, window, calibration)

    async def _search(self, turn: Turn, means: Means) -> AsyncGenerator[TurnEvent]:
        """Leaves `turn.packed` None when rag has nothing to answer from."""
        query = await self._standalone(turn, means)
        top_k = min(turn.config.top_k, means.profile.passages)
        began = time.monotonic()
        result = await asyncio.to_thread(self._library.search, turn.owner, query, top_k)
        hits = result.hits if _relevant(result) else ()
        near = {} if means.profile.small else await asyncio.to_thread(self._neighbours, turn.owner, hits)
        # A small model sees no history, so it is told what the follow-up is about.
        asked = query if means.profile.small else turn.question.content
        packed = _pack(turn, means, asked, hits, near)
        yield Retrieved(_sources(packed), result.layers, _ms_since(began))
        for notice in result.notices:
            yield Notice(notice)
        if not packed.shown and turn.mode is ThinkingMode.RAG:
            return
        for notice in packed.notices if packed.shown else (*packed.notices, NOTHING_FOUND_NOTICE):
            yield Notice(notice)
        turn.packed = packed
        turn.citations = CitationStream([each.number for each in packed.shown])

    def _neighbours(self, owner: str, hits: Sequence[Hit]) -> dict[str, list[Passage]]:
        found: dict[str, list[Passage]] = {}
        for hit in hits[:WIDENED]:
            # The document may have been deleted since the search.
            with suppress(NotFound):
                found[hit.passage.chunk_id] = self._library.neighbours(owner, hit.passage.chunk_id)
        return found

    async def _standalone(self, turn: Turn, means: Means) -> str:
        """The question in words that search can use. One short call of the model, if needed."""
        question = turn.question.content
        if not leans_on_history(question, turn.history):
            return question
        if means.profile.small:
            return combined(question, turn.history)
        request = ChatRequest(
            model=means.model.name,
            messages=condense_messages(question, turn.history),
            num_ctx=means.window.num_ctx,
            max_tokens=CONDENSE_TOKENS,
            temperature=0.0,
            think=False if means.model.can_think else None,
        )
        said = ""
        try:
            async with aclosing(self._pieces(means.model, request)) as pieces:
                async for piece in pieces:
                    said += piece.text if isinstance(piece, Token) else ""
        except EngineError as error:
            # The answer will tell, if the engine is gone; search can do without the rewriting.
            logger.info("a follow-up could not be rewritten: %s", error.code)
            return combined(question, turn.history)
        return condensed(said, question)

    async def _say(self, turn: Turn, means: Means, packed: Packed) -> AsyncGenerator[TurnEvent]:
        done: list[tuple[Step, str]] = []
        for step in means.plan.passes:
            said = ""
            if done:
                yield Thought("\n\n")
            async with aclosing(self._ask(turn, means, packed.messages(step, done), step)) as events:
                async for event in events:
                    said += event.text if isinstance(event, Thought) else ""
                    yield event
            if not said.strip() or (done and nothing_to_change(done[-1][1], said)):
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
            temperature=0.0 if means.profile.small else self._settings.temperature,
            think=means.plan.native,
            grammar=turn.packed.grammar(step) if turn.packed else None,
        )
        said = ""
        async with aclosing(self._pieces(means.model, request)) as pieces:
            async for piece in pieces:
                match piece:
                    case EngineDone():
                        for event in self._account(turn, means, request, piece, answering):
                            yield event
                    case Token() if answering:
                        text = turn.citations.feed(piece.text) if turn.sources else piece.text
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
        )
        notice = self._learn(means, request, done.usage.prompt_tokens)
        events: list[Token | Notice] = [Notice(notice)] if notice and notice not in turn.notices else []
        if not answering:
            return events
        rest = turn.citations.close()
        if rest:
            events.append(Token(rest))
        if not (turn.content + rest).strip():
            events.append(Notice(ONLY_THOUGHTS if done.reason == "length" and turn.thinking else NO_WORDS))
        elif done.reason == "length":
            events.append(Notice(f"The answer was cut at its longest length, {request.max_tokens} tokens."))
        return events

    def _learn(self, means: Means, request: ChatRequest, counted: int | None) -> str | None:
        """Compare the engine's count of the prompt with ours; a notice if something was cut off."""
        if not counted:
            return None
        calibration = self._calibrations.get(means.model.name, means.calibration)
        if means.model.engine == "ollama":
            if counted >= request.num_ctx - 8:
                return WINDOW_FULL
            if counted < 0.7 * calibration.of_messages(request.messages):
                return READ_LESS
        self._calibrations[means.model.name] = calibration.learned(request.messages, counted)
        return None

    async def _pieces(self, model: ModelInfo, request: ChatRequest) -> AsyncGenerator[EnginePiece]:
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

    def _keep_answer(self, turn: Turn) -> Message | None:
        turn.close()
        try:
            return self._store.sessions.add_answer(
                turn.owner,
                turn.question.session_id,
                _storable(turn.content),
                state=turn.state,
                mode=turn.mode,
                model=turn.model.name if turn.model else turn.config.model_name,
                thinking=_storable(turn.thinking),
                sources=turn.sources,
                notices=tuple(turn.notices),
                usage=turn.usage,
            )
        except CompanionError as error:
            if turn.state is not MessageState.STOPPED:
                raise
            # The conversation was deleted, which is why the turn was stopped.
            logger.info("a stopped answer could not be kept: %s", error.code)
            return None


def _pack(
    turn: Turn, means: Means, asked: str, hits: Sequence[Hit], near: dict[str, list[Passage]]
) -> Packed:
    return pack(
        means.plan,
        means.profile,
        means.window,
        asked,
        hits,
        near,
        turn.history,
        means.calibration,
    )


def _relevant(result: SearchResult) -> bool:
    return any(
        "lexical" in hit.layers or hit.similarity is None or hit.similarity >= LEAST_SIMILARITY
        for hit in result.hits
    )


def _sources(packed: Packed) -> tuple[Source, ...]:
    return tuple(
        Source(
            number=shown.number,
            chunk_id=shown.hit.passage.chunk_id,
            doc_id=shown.hit.passage.doc_id,
            document_name=shown.hit.document_name,
            text_hash=shown.hit.passage.text_hash,
            place=shown.hit.passage.place,
            score=shown.hit.score,
            layers=shown.hit.layers,
        )
        for shown in packed.shown
    )


async def _first(stream: AsyncIterator[EnginePiece]) -> EnginePiece:
    piece = await anext(stream, None)
    if piece is None:
        raise StreamBroken(BROKEN_OFF)
    return piece


async def _close(stream: AsyncIterator[EnginePiece]) -> None:
    """Closing the engine's stream is what stops the model."""
    if isinstance(stream, AsyncGenerator):
        await stream.aclose()


def _sentence(error: Exception) -> str:
    if isinstance(error, CompanionError):
        logger.warning("an answer failed: %s", error.code)
        return error.message
    logger.exception("an answer failed")
    return UNKNOWN_FAILURE


def _storable(text: str) -> str:
    """Text as SQLite takes it: without NUL and without halves of characters."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def _ms_since(moment: float) -> float:
    return (time.monotonic() - moment) * 1000
