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
from companion.domain import Passage, Retrieved, Source
from companion.errors import NotFound
from companion.ui import render
from companion.ui.here import AT_ONCE, Here, Update, html, owner_of, told

_REFERENCE = re.compile(rf"(\d{{1,18}}|{render.LIVE})-(\d{{1,3}})")


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

        self.cards.cite(cite, here.session, self.cards, **AT_ONCE)

    def panel(self, owner: str, session_id: str | None, reference: str) -> str:
        """The panel for `<message id>-<number>`, or `live-<number>` while an answer is written."""
        found = _REFERENCE.fullmatch(reference)
        if not found:
            raise NotFound("There is no such citation.")
        sources = self._sources(owner, session_id, found[1])
        return render.source_cards([self._open(owner, source) for source in sources], found[1], int(found[2]))

    def _sources(self, owner: str, session_id: str | None, message: str) -> Sequence[Source]:
        if message != render.LIVE:
            return self._companion.store.sessions.message(owner, int(message)).sources
        run = self._companion.runs.get(session_id) if session_id else None
        events = run.events if run is not None and run.owner == owner else []
        return next((event.sources for event in events if isinstance(event, Retrieved)), ())

    def _open(self, owner: str, source: Source) -> render.Opened:
        library = self._companion.library
        try:
            passage, document = library.passage(owner, source.chunk_id)
        except NotFound:
            return render.Opened(source, self._same_place(owner, source))
        near = library.neighbours(owner, source.chunk_id)
        before = tuple(one for one in near if one.chunk_index < passage.chunk_index)
        after = tuple(one for one in near if one.chunk_index > passage.chunk_index)
        return render.Opened(replace(source, document_name=document.name), passage, before, after)

    def _same_place(self, owner: str, source: Source) -> Passage | None:
        """What stands now where the passage stood: its id goes with its text."""
        try:
            passages = self._companion.library.passages(owner, source.doc_id)
        except NotFound:
            return None
        return next((one for one in passages if one.place == source.place), passages[0] if passages else None)
