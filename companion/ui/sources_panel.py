"""The right side: the passages behind an answer, or the passages of a document.

Knows how to find what a citation points to, now. It does not know how answers are made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.chat.citations import words_of
from companion.domain import Hit, Passage, Retrieved, Source, Token
from companion.errors import NotFound
from companion.quality.judgement import answering_rank
from companion.quality.overview import Miss
from companion.ui.here import AT_ONCE, EACH, Here, Update, html, owner_of, told
from companion.ui.render.conversation import LIVE
from companion.ui.render.quotations import quotations
from companion.ui.render.sources import PASSAGES, Opened, passage_cards, source_cards
from companion.ui.texts import text

_REFERENCE = re.compile(rf"(\d{{1,18}}|{LIVE})-(\d{{1,3}})")


class SourcesPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.cards = html(js="sources.js", elem_id="lc-cards")

    @property
    def outputs(self) -> list[Any]:
        return [self.cards]

    def clear(self) -> Update:
        return {self.cards: ""}

    def wire(self, here: Here) -> None:
        def cite(event: gr.EventData, session_id: str | None, request: gr.Request) -> str:
            with told():
                return self.panel(owner_of(request), session_id, str(event._data.get("ref")))

        def more(event: gr.EventData, request: gr.Request) -> str:
            with told():
                return self.document(owner_of(request), str(event._data["id"]), int(event._data["most"]))

        self.cards.cite(cite, here.session, self.cards, **AT_ONCE, **EACH)
        self.cards.more(more, None, self.cards, **AT_ONCE)

    def document(self, owner: str, doc_id: str, most: int = PASSAGES) -> str:
        """The panel of a document's first passages. Raises `NotFound`."""
        library = self._companion.library
        return passage_cards(library.document(owner, doc_id), library.passages(owner, doc_id), most)

    def panel(self, owner: str, session_id: str | None, reference: str) -> str:
        """The panel for `<message id>-<number>`, or `live-<number>` while an answer is written."""
        found = _REFERENCE.fullmatch(reference)
        if not found:
            raise NotFound(text("sources.no_citation"))
        answer, sources = self._answer(owner, session_id, found[1])
        opened = [self._open(owner, source, quotations(answer, source.number)) for source in sources]
        return source_cards(opened, found[1], int(found[2]))

    def missed(self, owner: str, miss: Miss, instead: Sequence[Hit]) -> str:
        """The panel of a question that was not answered: the passage that was meant, then those found."""
        item, rank = miss.item, answering_rank(miss.ranks)
        meant, document = self._companion.library.passage(owner, item.chunk_id)
        where = text("quality.rank", n=rank) if rank else text("quality.rank.none")
        cards = [self._noted(owner, 1, meant, document.name, 0.0, text("quality.meant", where=where))]
        others = [hit for hit in instead if hit.passage.chunk_id != item.chunk_id]
        for number, hit in enumerate(others, start=2):
            remark = text("quality.instead", n=instead.index(hit) + 1)
            cards.append(self._noted(owner, number, hit.passage, hit.document_name, hit.score, remark))
        return source_cards(cards, f"quality-{item.question_id}", 1, title=item.question)

    def _noted(
        self, owner: str, number: int, passage: Passage, name: str, score: float, remark: str
    ) -> Opened:
        source = Source(
            number, passage.chunk_id, passage.doc_id, name, passage.text_hash, passage.place, score, ()
        )
        return replace(self._open(owner, source, ()), remark=remark)

    def _answer(self, owner: str, session_id: str | None, message: str) -> tuple[str, Sequence[Source]]:
        """What was said, as far as it is, and from what."""
        if message != LIVE:
            answer = self._companion.store.sessions.message(owner, int(message))
            return answer.content, answer.sources
        run = self._companion.runs.get(session_id) if session_id else None
        events = run.events if run is not None and run.owner == owner else []
        said = "".join(event.text for event in events if isinstance(event, Token))
        return said, next((event.sources for event in events if isinstance(event, Retrieved)), ())

    def _open(self, owner: str, source: Source, quoted: tuple[str, ...]) -> Opened:
        library = self._companion.library
        try:
            passage, document = library.passage(owner, source.chunk_id)
        except NotFound:
            return self._in_its_place(owner, source, quoted)
        near = library.neighbours(owner, source.chunk_id)
        before = tuple(one for one in near if one.chunk_index < passage.chunk_index)
        after = tuple(one for one in near if one.chunk_index > passage.chunk_index)
        named = replace(source, document_name=document.name)
        return Opened(named, passage, before, after, document.source_type, quoted)

    def _in_its_place(self, owner: str, source: Source, quoted: tuple[str, ...]) -> Opened:
        """What stands now where the passage stood: its id goes with its text. Many passages may have the
        same place, such as all of a plain text; then the one that has most words of what was said."""
        library = self._companion.library
        try:
            passages = library.passages(owner, source.doc_id)
            document = library.document(owner, source.doc_id)
        except NotFound:
            return Opened(source, None)
        said = words_of(" ".join(quoted))
        near = [one for one in passages if one.place == source.place] or passages
        there = max(near, key=lambda one: len(said & words_of(one.text)), default=None)
        return Opened(source, there, source_type=document.source_type)
