"""One turn: keep the question, search, think, answer, keep the answer.

Knows the order of these and what a failure of each means. It does not know threads, pages or
HTTP: whoever reads the events shows them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from companion.chat.inventory import Inventory, Listed
from companion.chat.learned import Learned
from companion.chat.list_question import list_question
from companion.chat.means import MeansByModel
from companion.chat.packing import MOST_TURNS, Estimate, estimate, pack
from companion.chat.prompt import NOTHING_FOUND, Exchange, exchanges
from companion.chat.questions import Asked, Questions, storable
from companion.chat.retrieval import Retrieval
from companion.chat.speech import Speech
from companion.chat.suggestions import NEARBY, suggest
from companion.chat.turn import Turn
from companion.config import Settings
from companion.domain import (
    Finished,
    Message,
    MessageState,
    ModelInfo,
    Notice,
    Preferences,
    ThinkingMode,
    Token,
    TurnEvent,
)
from companion.errors import CompanionError, Conflict, EngineUnavailable, InvalidInput

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog
    from companion.library.library import Library
    from companion.storage.store import Store

logger = logging.getLogger(__name__)

HISTORY_MESSAGES = 2 * MOST_TURNS + 2
"""One turn more than is told, so that it is known when there are more."""

UNKNOWN_FAILURE = "Something went wrong while answering; ask again, and look into the log if it stays."
EARLIER_STAYS = "The earlier answer stays, because the new one did not come about."

UNKNOWN_MODEL = ModelInfo("", "ollama", None, None)
"""Stands in for an estimate while no engine has told its models."""

KeptAnswer = Callable[[Message], None]


class Chat:
    """Answers questions. Holds nothing of a person."""

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
        self._preferences = preferences
        self._means = MeansByModel(settings, Learned(store.settings))
        self._speech = Speech(catalog, self._means)
        self._inventory = Inventory(library)
        self._retrieval = Retrieval(store, library, self._speech)
        self.questions = Questions(store)
        self._turns: dict[int, Turn] = {}

    async def reply(
        self, owner: str, session_id: str, text: str, mode: ThinkingMode | None = None
    ) -> AsyncGenerator[TurnEvent]:
        """Keep the question and answer it. `Finished` is the last event; closing or cancelling
        stops the model and keeps what was said.
        """
        asked = await asyncio.to_thread(self.questions.ask, owner, session_id, text, mode)
        async with aclosing(self.answer(owner, asked)) as events:
            async for event in events:
                yield event

    async def answer(
        self, owner: str, asked: Asked, kept: KeptAnswer = lambda _: None
    ) -> AsyncGenerator[TurnEvent]:
        """Answer a question that is stored. `kept` hears of the stored answer, also after a stop.

        If an earlier answer stays, that is the one, with a notice why.
        """
        turn = Turn(
            owner,
            asked.question,
            asked.mode,
            asked.config,
            time.monotonic(),
            asked.replaces,
            asked.zone,
            asked.before,
            asked.answer_tokens,
        )
        self._turns[id(turn)] = turn
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
            del self._turns[id(turn)]
            message = self._keep_answer(turn)
            if message is not None:
                kept(message)
        if turn.state is MessageState.FAILED:
            yield Notice(turn.notices[-1])
        if turn.earlier_stays:
            yield Notice(EARLIER_STAYS)
        if message is not None:
            yield Finished(message)

    def suggestions(self, owner: str, session_id: str) -> list[str]:
        """Questions that might follow the last answer, at most three, from what was found for it.

        No model is asked. Raises NotFound.
        """
        said = self._store.sessions.said_since_last_question(owner, session_id)
        sources = said[-1].sources if said else ()
        if not sources:
            return []
        near = self._retrieval.around(owner, [source.chunk_id for source in sources], NEARBY)
        return suggest(sources, near, self._store.sessions.questions(owner, session_id))

    def estimate(
        self, owner: str, session_id: str | None, text: str, mode: ThinkingMode | None = None
    ) -> Estimate:
        """What a question would cost. Nothing is searched and no engine is asked: passages count as
        the share that they usually take, the model is the one that was there when last asked.

        Without a session the preferences hold. Raises NotFound.
        """
        preferences = self._preferences()
        chosen = self._store.sessions.config(owner, session_id) if session_id else preferences
        history = self._history(owner, session_id) if session_id else []
        model = self._catalog.last_known(chosen.model_name) or UNKNOWN_MODEL
        means = self._means.of(
            model, mode or chosen.thinking_mode, preferences, chosen, storable(text), history
        )
        return estimate(means, text, chosen.top_k, history)

    async def preload(self, model_name: str) -> None:
        """Load a model with the window that its next turn will ask for. Raises InvalidInput if it
        cannot chat, ModelMissing if there is none of this name."""
        model = await self._catalog.info(model_name)
        if not model.can_chat:
            raise InvalidInput(f"{model_name} cannot chat; choose a chat model.", field="name")
        preferences = await asyncio.to_thread(self._preferences)
        num_ctx = self._means.window_for(model, preferences)
        self._means.remember_window(model, num_ctx)
        await self._catalog.load(model.name, num_ctx)

    async def unload(self, model_name: str) -> None:
        """Give a model's memory back. Raises Conflict while an answer is made with it, ModelMissing if
        there is none of this name."""
        model = await self._catalog.info(model_name)
        if any(turn.model and turn.model.name == model.name for turn in list(self._turns.values())):
            raise Conflict(f"{model.name} is writing an answer; stop it or wait until it has ended.")
        await self._catalog.unload(model.name)

    def window_for(self, model: ModelInfo, preferences: Preferences) -> int:
        """`num_ctx` of every call to this model: it only grows while the model is loaded."""
        return self._means.window_for(model, preferences)

    # --- the steps of a turn ----------------------------------------------------------------

    async def _events(self, turn: Turn) -> AsyncGenerator[TurnEvent]:
        turn.history = await asyncio.to_thread(self._said_before, turn)
        listed = await asyncio.to_thread(self._listed, turn)
        if listed is not None:
            for event in listed.events(turn):
                yield event
            return
        name = turn.config.model_name or None
        model, fallen_back = await self._catalog.resolve(name)
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
            # What was told of the first attempt does not hold for this one.
            turn.notices.clear()
            turn.packed = None
            async with aclosing(self._answered_by(turn, other, fallen_back)) as events:
                async for event in events:
                    yield event

    async def _answered_by(
        self, turn: Turn, model: ModelInfo, fallen_back: str | None
    ) -> AsyncGenerator[TurnEvent]:
        turn.model = model
        if fallen_back:
            yield Notice(fallen_back)
        preferences = await asyncio.to_thread(self._preferences)
        means = self._means.of(
            model, turn.mode, preferences, turn.config, turn.question.content, turn.history
        )
        self._means.remember_window(model, means.window.num_ctx)
        means = means.saying_at_most(turn.answer_tokens)
        if means.plan.searches:
            async with aclosing(self._retrieval.find(turn, means)) as found:
                async for event in found:
                    yield event
            if turn.packed is None:
                yield Token(NOTHING_FOUND)
                return
        else:
            turn.packed = pack(means, turn.question.content, (), {}, turn.history)
            for notice in turn.packed.notices:
                yield Notice(notice)
        async with aclosing(self._speech.say(turn, means, turn.packed)) as said:
            async for event in said:
                yield event
        await asyncio.to_thread(self._means.learned.keep)

    def _listed(self, turn: Turn) -> Listed | None:
        """The answer to a question about the library itself; None if it is one like all others."""
        today = turn.question.created_at.astimezone(turn.zone).date()
        before = [each.question for each in turn.history]
        asked = list_question(turn.question.content, today, before)
        if asked is None:
            return None
        return self._inventory.answer(asked, turn.owner, turn.config.scope, turn.zone)

    def _said_before(self, turn: Turn) -> list[Exchange]:
        if turn.before is not None:
            return exchanges(turn.before[-HISTORY_MESSAGES:])
        return self._history(turn.owner, turn.question.session_id, turn.question.message_id)

    def _history(self, owner: str, session_id: str, before: int | None = None) -> list[Exchange]:
        return exchanges(self._store.sessions.words(owner, session_id, HISTORY_MESSAGES, before))

    def _keep_answer(self, turn: Turn) -> Message | None:
        turn.close()
        if turn.before is not None:
            return turn.as_message()
        if turn.replaces is not None and turn.earlier_stays:
            why = () if turn.state is MessageState.STOPPED else turn.notices[-1:]
            return replace(turn.replaces, notices=(*turn.replaces.notices, *why, EARLIER_STAYS))
        try:
            return self._store.sessions.add_answer(
                turn.owner,
                turn.question.session_id,
                storable(turn.content),
                state=turn.state,
                mode=turn.mode,
                model=turn.answered_by,
                thinking=storable(turn.thinking),
                sources=turn.sources,
                notices=tuple(turn.notices),
                usage=turn.usage,
                searched_for=turn.searched_for and storable(turn.searched_for),
                replacing=turn.question.message_id if turn.replaces else None,
            )
        except CompanionError as error:
            if turn.state is not MessageState.STOPPED:
                raise
            # The conversation was deleted, which is why the turn was stopped.
            logger.info("a stopped answer could not be kept: %s", error.code)
            return None


def _sentence(error: Exception) -> str:
    if isinstance(error, CompanionError):
        logger.warning("an answer failed: %s", error.code)
        return error.message
    logger.exception("an answer failed")
    return UNKNOWN_FAILURE
