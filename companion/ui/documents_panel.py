"""The documents: add, watch them being read, find, look inside, replace, delete and undo.

Knows which files came from the browser and what to show of them. It does not know how a
file is read or searched.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.domain import Document, DocumentState
from companion.errors import CompanionError, InvalidInput, NotFound
from companion.ui.here import (
    AT_ONCE,
    EACH,
    QUEUED,
    Here,
    Update,
    html,
    now,
    owner_of,
    piece,
    told,
    uploaded,
    warn,
    zone_of,
)
from companion.ui.render.documents import (
    PAGE,
    Arrangement,
    Results,
    Shelf,
    arrange,
    document_list,
    no_room,
    undo_bar,
    upload_results,
)
from companion.ui.sources_panel import SourcesPanel

REFRESH_S = 0.7
UPLOADS = 20
"""Uploads whose results are remembered: they come in several parts."""
NO_ROOM = ("disk_full", "disk_nearly_full")


@dataclass(slots=True)
class Upload:
    """What became of the files that were added together, as far as they are read."""

    on_samples: bool
    """The sample library answered when it began."""
    results: Results = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    """Files that were there already, content and all."""
    unread: list[str] = field(default_factory=list)
    """Files whose rows in the list say why they could not be read."""
    answered: list[str] = field(default_factory=list)
    """The parts, by the names that the page gave them."""


class DocumentsPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-docpane"):
            limit = str(companion.settings.max_upload_mb)
            self.room = html(js="room.js", elem_id="lc-room")
            self.drop = html(piece("drop.html", max_mb=limit), js="drop.js", elem_id="lc-dropzone")
            self.results = html(elem_id="lc-results")
            self.undo = html(js="undo.js", elem_id="lc-undo")
            self.finder = html(piece("docfilter.html"), js="docfilter.js", elem_id="lc-docfilter")
            self.list = html(js="documents.js", elem_id="lc-doclist")
        self.clock = gr.Timer(REFRESH_S, active=False)
        self.arranged = gr.State(Arrangement())
        self._uploads: OrderedDict[tuple[str, str], Upload] = OrderedDict()

    @property
    def outputs(self) -> list[Any]:
        return [self.list, self.clock, self.room]

    def show(self, owner: str, zone: str, arranged: Arrangement) -> Update:
        """The list as it is; the clock runs as long as something in it is being read."""
        documents = self._companion.library.documents(owner)
        conditions = self._companion.conditions(owner)
        full = next((one.sentence for one in conditions if one.code in NO_ROOM), None)
        return {
            self.list: self._html(owner, documents, zone, arranged),
            self.clock: gr.Timer(active=_reading(documents)),
            self.room: no_room(full),
        }

    def reveal(self, owner: str, doc_id: str, zone: str, arranged: Arrangement) -> Update:
        """The list, with that document in it. Raises `NotFound`."""
        document = self._companion.library.document(owner, doc_id)
        listed = [one for one in self._companion.library.documents(owner) if one.owner == document.owner]
        everything = replace(arranged, find="")
        place = arrange(listed, everything).index(document)
        wider = replace(everything, most=max(arranged.most, place + 1))
        return {self.arranged: wider, **self.show(owner, zone, wider)}

    def wire(self, here: Here, sources: SourcesPanel) -> None:
        def refresh(zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            return self.show(owner_of(request), zone, arranged)

        def begin(event: gr.EventData) -> Update:
            first = event._data.get("first", True)
            return {self.results: "" if first else gr.skip(), self.clock: gr.Timer(active=True)}

        def add(event: gr.EventData, zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            owner, sent = owner_of(request), event._data
            upload = self._upload(owner, str(sent["upload"]))
            self._take_in(owner, upload, sent["files"], "keep" if sent["clash"] == "keep" else "replace")
            upload.answered.append(str(sent["part"]))
            return {self.results: self._results(owner, upload), **self.show(owner, zone, arranged)}

        def swap(event: gr.EventData, zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            owner = owner_of(request)
            with told():
                self._replace(owner, event._data)
            return self.show(owner, zone, arranged)

        def remove(event: gr.EventData, zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            owner, doc_id = owner_of(request), event._data["id"]
            with told():
                document = self._companion.library.document(owner, doc_id)
                self._companion.library.delete(owner, doc_id)
            return {self.undo: undo_bar(document, now()), **self.show(owner, zone, arranged)}

        def undo(event: gr.EventData, zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            owner = owner_of(request)
            with told():
                self._companion.library.undo(owner, event._data["id"])
            return self.show(owner, zone, arranged)

        def look(event: gr.EventData, request: gr.Request) -> str:
            with told():
                return sources.document(owner_of(request), str(event._data["id"]))

        def find(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            arranged = Arrangement(str(event._data["find"]), str(event._data["order"]))
            return {self.arranged: arranged, **self.show(owner_of(request), zone, arranged)}

        def more(zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            wider = replace(arranged, most=arranged.most + PAGE)
            return {self.arranged: wider, **self.show(owner_of(request), zone, wider)}

        tab, shown = [here.zone, self.arranged], self.outputs
        self.drop.arrived(begin, None, [self.results, self.clock], **AT_ONCE)
        self.drop.arrived(add, tab, [self.results, *shown], **QUEUED, **EACH)
        self.list.replace(begin, None, [self.results, self.clock], **AT_ONCE)
        self.list.replace(swap, tab, shown, **QUEUED, **EACH)
        self.list.remove(remove, tab, [self.undo, *shown], **AT_ONCE)
        self.undo.undo(undo, tab, shown, **AT_ONCE)
        self.list.open(look, None, sources.cards, **AT_ONCE, **EACH)
        self.list.more(more, tab, [self.arranged, *shown], **AT_ONCE, **EACH)
        self.finder.find(find, here.zone, [self.arranged, *shown], **AT_ONCE, **EACH)
        self.clock.tick(refresh, tab, shown, **AT_ONCE)

    def _html(self, owner: str, documents: list[Document], zone: str, arranged: Arrangement) -> str:
        own = [one for one in documents if one.owner == owner]
        samples = [one for one in documents if one.owner != owner]
        progress = {one.doc_id: self._companion.library.progress(one.doc_id) for one in own}
        shelf = Shelf(own, samples, self._companion.library.totals(owner), progress)
        return document_list(shelf, now(), zone_of(zone), arranged)

    def _upload(self, owner: str, key: str) -> Upload:
        upload = owner, key
        if upload not in self._uploads:
            self._uploads[upload] = Upload(self._companion.library.uses_samples(owner))
            while len(self._uploads) > UPLOADS:
                self._uploads.popitem(last=False)
        return self._uploads[upload]

    def _results(self, owner: str, upload: Upload) -> str:
        left = upload.on_samples and not self._companion.library.uses_samples(owner)
        return upload_results(
            upload.results, upload.known, upload.unread, samples_left=left, answered=upload.answered
        )

    def _take_in(self, owner: str, upload: Upload, files: list[dict[str, str]], if_exists: Any) -> None:
        """File by file; one that cannot be used does not hold up the others."""
        self._companion.touch()
        accepted: dict[str, Document] = {}
        for file in files:
            try:
                document = self._accept(owner, file, if_exists)
            except CompanionError as error:
                upload.results.append((file["name"], error.message))
                continue
            if document.state is not DocumentState.READING or document.doc_id in accepted:
                upload.known.append(document.name)
            else:
                accepted[document.doc_id] = document
        # A large one does not keep the others waiting.
        for document in sorted(accepted.values(), key=lambda one: one.size):
            trouble = self._ingest(document)
            if trouble and self._failed(document):
                upload.unread.append(document.name)
            else:
                upload.results.append((document.name, trouble))

    def _accept(self, owner: str, file: dict[str, str], if_exists: Any) -> Document:
        path = self._arrived(owner, file)
        try:
            return self._companion.library.accept(owner, file["name"], path, if_exists=if_exists)
        finally:
            self._companion.arrivals.done(owner, path)

    def _replace(self, owner: str, file: dict[str, str]) -> None:
        self._companion.touch()
        path = self._arrived(owner, file)
        try:
            document = self._companion.library.replace(owner, file["id"], file["name"], path)
        finally:
            self._companion.arrivals.done(owner, path)
        if error := self._ingest(document):
            warn(error)

    def _arrived(self, owner: str, file: dict[str, str]) -> Path:
        try:
            return uploaded(self._companion.arrivals, owner, file["path"])
        except InvalidInput:
            # The server takes none on a full disk, and then that is the reason.
            self._companion.library.require_room()
            raise

    def _failed(self, document: Document) -> bool:
        """Whether the document is listed as failed: not if an older version of it stays in force."""
        try:
            state = self._companion.library.document(document.owner, document.doc_id).state
        except NotFound:
            return False
        return state is DocumentState.FAILED

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
