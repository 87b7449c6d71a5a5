"""The retrieval of a turn: what is searched for, what was found, and what of it the model is shown.

Knows follow-ups, scopes and passages. It does not know how a search is done or an answer is made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from companion.chat.citations import CitationStream
from companion.chat.followup import after_last, condense_messages, condensed, leans_on_history, with_topic
from companion.chat.means import Means
from companion.chat.named import named_in, names_a_file
from companion.chat.packing import pack
from companion.chat.prompt import NOTHING_FOUND_NOTICE, Packed
from companion.chat.relevance import is_relevant
from companion.chat.scope import only_named, scope_notices
from companion.chat.speech import Speech
from companion.chat.turn import Turn, ms_since
from companion.domain import (
    ChatRequest,
    Document,
    Message,
    Notice,
    Passage,
    Retrieved,
    Source,
    ThinkingMode,
    Token,
    TurnEvent,
)
from companion.errors import EngineError, NotFound
from companion.tuning import WIDENED

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.storage.store import Store

logger = logging.getLogger(__name__)

LOOKED_BACK = 20
"""Messages; so far back it is known what was searched before."""
CONDENSE_TOKENS = 64
CONDENSE_S = 10.0
"""Longer nobody waits for better words."""
LOADING_S = 60.0
"""As long if the model has to be loaded first; its answer would have to wait for that as well."""


class Retrieval:
    """Searches for turns. Holds nothing of a person."""

    def __init__(self, store: Store, library: Library, speech: Speech) -> None:
        self._store = store
        self._library = library
        self._speech = speech

    async def find(self, turn: Turn, means: Means) -> AsyncGenerator[TurnEvent]:
        """Leaves `turn.packed` None when rag has nothing to answer from."""
        question = turn.question.content
        query = await self._standalone(turn, means)
        top_k = min(turn.config.top_k, means.profile.passages)
        began = time.monotonic()
        named = await asyncio.to_thread(self._named, turn, query)
        scope = [document.doc_id for document in named] or turn.config.scope
        result = await asyncio.to_thread(
            self._library.search, turn.owner, query, top_k, scope, embed_deep=turn.config.embed_deep
        )
        about_scope = await asyncio.to_thread(self._scope_notices, turn, named)
        # “Sum up notes.md” is like none of its passages.
        relevant = bool(named) or is_relevant(query, result.hits, means.least_similarity)
        hits = result.hits if relevant else ()
        best = [hit.passage.chunk_id for hit in hits[:WIDENED]]
        near = {} if means.profile.small else await asyncio.to_thread(self.around, turn.owner, best)
        # A small model sees no history, so it is told what the follow-up is about.
        follows = query != question and means.profile.small
        asked = after_last(question, turn.history) if follows else question
        packed = pack(means, asked, hits, near, turn.history)
        searched_for = query if query != question else None
        yield Retrieved(_sources(packed), result.layers, ms_since(began), searched_for)
        for notice in (*about_scope, *result.notices):
            yield Notice(notice)
        if not packed.shown and turn.mode is ThinkingMode.RAG:
            return
        for notice in packed.notices if packed.shown else (*packed.notices, NOTHING_FOUND_NOTICE):
            yield Notice(notice)
        turn.packed = packed
        turn.citations = CitationStream([each.number for each in packed.shown])

    def _named(self, turn: Turn, query: str) -> list[Document]:
        """Documents with passages that the question is about by their names, of those it may be about."""
        if not names_a_file(query):
            return []
        chosen = turn.config.scope
        return [
            document
            for document in named_in(query, self._library.documents(turn.owner))
            if document.passages and (chosen is None or document.doc_id in chosen)
        ]

    def _scope_notices(self, turn: Turn, named: Sequence[Document]) -> list[str]:
        if named:
            return [only_named([document.name for document in named])]
        return scope_notices(self._library, turn.owner, turn.config.scope, self._said_before(turn))

    def _said_before(self, turn: Turn) -> Sequence[Message]:
        if turn.before is not None:
            return turn.before
        asked = turn.question
        return self._store.sessions.messages(
            turn.owner, asked.session_id, limit=LOOKED_BACK, before=asked.message_id
        )

    def around(self, owner: str, chunk_ids: Sequence[str], reach: int = 1) -> dict[str, list[Passage]]:
        """The passages beside each of those that are still there."""
        found: dict[str, list[Passage]] = {}
        for chunk_id in chunk_ids:
            # The document may have been deleted since the search.
            with suppress(NotFound):
                found[chunk_id] = self._library.neighbours(owner, chunk_id, reach, reach)
        return found

    async def _standalone(self, turn: Turn, means: Means) -> str:
        """The question in words that search can use. One short call of the model, if needed."""
        question = turn.question.content
        if not leans_on_history(question, turn.history):
            return question
        # The built-in model is too weak: it answers, or repeats the question (docs/measurements.md).
        # One that thinks in levels thinks first, at length.
        unfit = means.profile.small or means.model.thinks_in_levels
        rewritten = None if unfit else await self._rewritten(turn, means)
        return rewritten or with_topic(question, turn.history)

    async def _rewritten(self, turn: Turn, means: Means) -> str | None:
        request = ChatRequest(
            model=means.model.name,
            messages=condense_messages(turn.question.content, turn.history),
            num_ctx=means.window.num_ctx,
            max_tokens=CONDENSE_TOKENS,
            temperature=0.0,
            think=means.model.least_thinking,
        )
        said = ""
        try:
            async with (
                asyncio.timeout(CONDENSE_S if means.model.loaded else LOADING_S),
                aclosing(self._speech.pieces(means.model, request)) as pieces,
            ):
                async for piece in pieces:
                    said += piece.text if isinstance(piece, Token) else ""
        except (EngineError, TimeoutError) as error:
            # The answer will tell, if the engine is gone; search can do without the rewriting.
            logger.info("a follow-up could not be rewritten: %s", type(error).__name__)
            return None
        return condensed(said)


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
