"""The shapes of documents and of what became of an upload.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from companion.api.schemas.passages import Passage
from companion.api.schemas.shape import ErrorText, Page, Shape
from companion.domain import DocumentState


class Progress(Shape):
    stage: Literal["waiting", "reading", "embedding"]
    done: int
    total: int


class Document(Shape):
    doc_id: str
    name: str
    source_type: str
    size: int
    content_hash: str
    state: DocumentState
    created_at: datetime
    updated_at: datetime
    error: str | None
    error_code: str | None
    notes: tuple[str, ...]
    passages: int
    sample: bool
    """Part of the bundled sample library, which cannot be changed."""
    progress: Progress | None


class Totals(Shape):
    documents: int
    searchable: int
    """Those of them that have passages."""
    passages: int
    size: int
    """Bytes of the original files."""


class Documents(Page):
    documents: list[Document]
    totals: Totals
    """Of one's own documents, without the sample library."""


class DocumentDetail(Page):
    """A document with a part of its passages."""

    document: Document
    passages: list[Passage]
    """From `offset` on, at most `limit`."""


class UploadResult(Shape):
    """What became of one file; with `ok` false, `error` says why."""

    name: str
    ok: bool
    already_there: bool = False
    """The same content was there under this name; nothing had to be done."""
    document: Document | None = None
    error: ErrorText | None = None


class UploadResults(Shape):
    results: list[UploadResult]
    samples_left: bool = False
    """With these, the first documents of one's own, the sample library is not searched any more.
    Never true with `wait=false`: that is decided once they are read."""


class FailedUpload(UploadResults):
    """Not one file could be used."""

    error: ErrorText


class PassageDetail(Shape):
    passage: Passage
    document: Document
    before: list[Passage]
    after: list[Passage]
