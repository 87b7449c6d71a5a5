"""The documents: add, watch them being read, look inside, replace, delete and undo.

Knows which files came from the browser and what to show of them. It does not know how a
file is read or searched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.domain import Document, DocumentState
from companion.errors import CompanionError
from companion.ui import render
from companion.ui.here import (
    AT_ONCE,
    QUEUED,
    Here,
    Update,
    asset,
    html,
    now,
    owner_of,
    told,
    uploaded,
    warn,
    zone_of,
)
from companion.ui.sources_panel import SourcesPanel

REFRESH_S = 0.7


class DocumentsPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-docpane"):
            limit = str(companion.settings.max_upload_mb)
            self.drop = html(asset("drop.html").replace("MAX_MB", limit), js="drop.js", elem_id="lc-dropzone")
            self.results = html(elem_id="lc-results")
            self.undo = html(js="undo.js", elem_id="lc-undo")
            html(asset("docfilter.html"), elem_id="lc-docfilter")
            self.list = html(js="documents.js", elem_id="lc-doclist")
        self.clock = gr.Timer(REFRESH_S, active=False)

    @property
    def outputs(self) -> list[Any]:
        return [self.list, self.clock]

    def show(self, owner: str, zone: str) -> Update:
        """The list as it is; the clock runs as long as something in it is being read."""
        documents = self._companion.library.documents(owner)
        clock = gr.Timer(active=_reading(documents))
        return {self.list: self._html(owner, documents, zone), self.clock: clock}

    def wire(self, here: Here, sources: SourcesPanel) -> None:
        def refresh(zone: str, request: gr.Request) -> Update:
            return self.show(owner_of(request), zone)

        def begin() -> Update:
            return {self.results: "", self.clock: gr.Timer(active=True)}

        def add(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            owner = owner_of(request)
            keep = event._data["clash"] == "keep"
            results, known = self._take_in(owner, event._data["files"], "keep" if keep else "replace")
            return {self.results: render.upload_results(results, known), **self.show(owner, zone)}

        def replace(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            owner = owner_of(request)
            with told():
                self._replace(owner, event._data)
            return self.show(owner, zone)

        def remove(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            owner, doc_id = owner_of(request), event._data["id"]
            with told():
                document = self._companion.library.document(owner, doc_id)
                self._companion.library.delete(owner, doc_id)
            return {self.undo: render.undo_bar(document, now()), **self.show(owner, zone)}

        def undo(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            owner = owner_of(request)
            with told():
                self._companion.library.undo(owner, event._data["id"])
            return self.show(owner, zone)

        def look(event: gr.EventData, request: gr.Request) -> str:
            owner, doc_id = owner_of(request), event._data["id"]
            with told():
                document = self._companion.library.document(owner, doc_id)
                return render.passage_cards(document, self._companion.library.passages(owner, doc_id))

        shown = [self.list, self.clock]
        self.drop.arrived(begin, None, [self.results, self.clock], **AT_ONCE)
        self.drop.arrived(add, here.zone, [self.results, *shown], **QUEUED)
        self.list.replace(replace, here.zone, shown, **QUEUED)
        self.list.replace(begin, None, [self.results, self.clock], **AT_ONCE)
        self.list.remove(remove, here.zone, [self.undo, *shown], **AT_ONCE)
        self.undo.undo(undo, here.zone, shown, **AT_ONCE)
        self.list.open(look, None, sources.cards, **AT_ONCE)
        self.clock.tick(refresh, here.zone, shown, **AT_ONCE)

    def _html(self, owner: str, documents: list[Document], zone: str) -> str:
        progress = {one.doc_id: self._companion.library.progress(one.doc_id) for one in documents}
        own = [one for one in documents if one.owner == owner]
        samples = [one for one in documents if one.owner != owner]
        return render.document_list(own, samples, progress, now(), zone_of(zone))

    def _take_in(
        self, owner: str, files: list[dict[str, str]], if_exists: Any
    ) -> tuple[render.Results, list[str]]:
        """File by file; one that cannot be used does not hold up the others.

        Returns the results, and the names of the files that were there already, content and all.
        """
        self._companion.touch()
        results: render.Results = []
        known: list[str] = []
        accepted: dict[str, Document] = {}
        for file in files:
            try:
                document = self._accept(owner, file, if_exists)
            except CompanionError as error:
                results.append((file["name"], error.message))
                continue
            if document.state is not DocumentState.READING or document.doc_id in accepted:
                known.append(document.name)
            else:
                accepted[document.doc_id] = document
        results += [(document.name, self._ingest(document)) for document in accepted.values()]
        return results, known

    def _accept(self, owner: str, file: dict[str, str], if_exists: Any) -> Document:
        path = uploaded(file["path"])
        try:
            return self._companion.library.accept(owner, file["name"], path, if_exists=if_exists)
        finally:
            _forget(path)

    def _replace(self, owner: str, file: dict[str, str]) -> None:
        self._companion.touch()
        path = uploaded(file["path"])
        try:
            document = self._companion.library.replace(owner, file["id"], file["name"], path)
        finally:
            _forget(path)
        if error := self._ingest(document):
            warn(error)

    def _ingest(self, document: Document) -> str | None:
        """Why it could not be read, or None."""
        if document.state is not DocumentState.READING:
            return None
        try:
            return self._companion.library.ingest(document.doc_id).error
        except CompanionError as error:
            return error.message


def _reading(documents: list[Document]) -> bool:
    return any(document.state is DocumentState.READING for document in documents)


def _forget(path: Path) -> None:
    """The library has its own copy; nothing is left in the upload folder."""
    path.unlink(missing_ok=True)
