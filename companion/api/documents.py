"""Routes of the documents and their passages: upload, list, read, replace, delete, bring back.

It does not know how a file is read, or what makes a passage.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, cast

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from companion.api.access import CompanionOf, OwnerOf
from companion.api.errors import refusals
from companion.api.paging import Limit, Offset, next_offset
from companion.api.places import LOCATED, locate
from companion.api.schemas import documents as shapes
from companion.api.schemas.passages import Passage
from companion.api.schemas.shape import ErrorAnswer, ErrorText
from companion.api.uploads import MAX_FILES, Form, ReceivedFile, received_form
from companion.app import Companion
from companion.domain import SAMPLE_OWNER, Document, DocumentState
from companion.errors import CompanionError, DocumentError, DocumentTooLarge, InvalidInput, NotFound
from companion.library.intake import IfExists

log = logging.getLogger(__name__)

router = APIRouter(tags=["documents"])

_KEPT = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
UNREADABLE = "This file cannot be read; add the original file."
Wait = Annotated[bool, Query(description="false: answer 202 once the files are kept; reading goes on")]


def _form_body(properties: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI for a form that the route reads by itself, as a stream."""
    schema = {"type": "object", "required": ["files"], "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary"}
_UPLOAD = _form_body(
    {
        "files": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": MAX_FILES},
        "if_exists": {"type": "string", "enum": ["replace", "keep"], "default": "replace"},
    }
)


@router.get("/documents")
def documents(
    companion: CompanionOf, owner: OwnerOf, limit: Limit = 200, offset: Offset = 0
) -> shapes.Documents:
    """One's own documents, newest first, then the sample library's."""
    found = companion.library.documents(owner)
    shown = found[offset : offset + limit]
    return shapes.Documents(
        documents=[_shape(companion, document) for document in shown],
        totals=shapes.Totals.model_validate(companion.library.totals(owner)),
        total=len(found),
        next=next_offset(offset, len(shown), len(found)),
    )


@router.post(
    "/documents",
    response_model=shapes.UploadResults | shapes.FailedUpload,
    openapi_extra=_UPLOAD,
    status_code=201,
    responses={
        201: LOCATED,
        202: {"model": shapes.UploadResults, "description": "Kept; being read (`wait=false`)"} | LOCATED,
        207: {"model": shapes.UploadResults, "description": "Some files failed; each says why"},
        422: {
            "model": shapes.FailedUpload | ErrorAnswer,
            "description": "No file could be added, or this is not a form",
        },
    },
)
async def upload(
    request: Request,
    response: Response,
    later: BackgroundTasks,
    companion: CompanionOf,
    owner: OwnerOf,
    wait: Wait = True,
) -> shapes.UploadResults | shapes.FailedUpload:
    """Add files, in form fields named `files`. One that cannot be used does not stop the others."""
    companion.touch()
    await run_in_threadpool(companion.library.require_room, _announced(request))
    async with received_form(request, companion.settings) as form:
        if_exists = _if_exists(form)
        if not form.files:
            raise InvalidInput("The form holds no file; send files in fields named `files`.", "files")
        before = await run_in_threadpool(companion.library.uses_samples, owner)
        results = [
            await run_in_threadpool(_take, companion, owner, file, if_exists, wait) for file in form.files
        ]
    if not wait:
        for result in results:
            if result.document and result.document.state is DocumentState.READING:
                later.add_task(_ingest_later, companion, result.document.doc_id)
    response.status_code = _status(results, wait)
    if len(results) == 1 and results[0].document:
        locate(request, response, f"/documents/{results[0].document.doc_id}")
    if response.status_code == 422:
        return shapes.FailedUpload(results=results, error=_common_reason(results))
    samples_left = before and not await run_in_threadpool(companion.library.uses_samples, owner)
    return shapes.UploadResults(results=results, samples_left=samples_left)


@router.get("/documents/{doc_id}", responses=refusals(404))
def document(
    companion: CompanionOf, owner: OwnerOf, doc_id: str, limit: Limit = 200, offset: Offset = 0
) -> shapes.DocumentDetail:
    """A document with its passages, in their order."""
    found = companion.library.document(owner, doc_id)
    passages = companion.library.passages(owner, doc_id)
    shown = passages[offset : offset + limit]
    return shapes.DocumentDetail(
        document=_shape(companion, found),
        passages=[Passage.model_validate(passage) for passage in shown],
        total=len(passages),
        next=next_offset(offset, len(shown), len(passages)),
    )


@router.get(
    "/documents/{doc_id}/original",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file as it was given"},
        **refusals(404),
    },
)
def original(companion: CompanionOf, owner: OwnerOf, doc_id: str) -> FileResponse:
    """The file as it was given, to be kept: whatever is in it, a browser does not open it as a page."""
    name = companion.library.document(owner, doc_id).name.rpartition("/")[2]
    path = companion.library.original(owner, doc_id)
    if not path.is_file():
        raise NotFound(f"The original of {name} is not in the data folder any more; add it again.")
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers=_KEPT)


@router.put(
    "/documents/{doc_id}",
    openapi_extra=_form_body({"files": _FILE}),
    responses={
        202: {"model": shapes.Document, "description": "Kept; being read (`wait=false`)"},
        **refusals(404, 409),
    },
)
async def replace(
    request: Request,
    response: Response,
    later: BackgroundTasks,
    companion: CompanionOf,
    owner: OwnerOf,
    doc_id: str,
    wait: Wait = True,
) -> shapes.Document:
    """New content for a document, in one form field `files`. Unreadable content changes nothing."""
    companion.touch()
    await run_in_threadpool(companion.library.require_room, _announced(request))
    async with received_form(request, companion.settings) as form:
        if len(form.files) != 1:
            raise InvalidInput("Send exactly one file, in a field named `files`.", "files")
        file = _sized(companion, form.files[0])
        kept = await run_in_threadpool(companion.library.replace, owner, doc_id, file.name, file.path)
    if not wait:
        later.add_task(_ingest_later, companion, doc_id)
        response.status_code = 202
        return _shape(companion, kept)
    read = await run_in_threadpool(companion.library.ingest, doc_id)
    if read.state is DocumentState.FAILED:
        raise DocumentError(read.error or UNREADABLE)
    return _shape(companion, read)


@router.delete("/documents/{doc_id}", status_code=204, responses=refusals(404, 409))
def delete(companion: CompanionOf, owner: OwnerOf, doc_id: str) -> None:
    """Remove a document; for ten seconds `undo` brings it back, then it is gone from the disk."""
    companion.library.delete(owner, doc_id)


@router.post("/documents/{doc_id}/undo", responses=refusals(404, 409))
def undo(companion: CompanionOf, owner: OwnerOf, doc_id: str) -> shapes.Document:
    """Bring back a document deleted a moment ago."""
    return _shape(companion, companion.library.undo(owner, doc_id))


@router.get("/passages/{chunk_id:path}", responses=refusals(404))
def passage(companion: CompanionOf, owner: OwnerOf, chunk_id: str) -> shapes.PassageDetail:
    """A passage as a citation opens it, with its document and the passages around it."""
    found, its_document = companion.library.passage(owner, chunk_id)
    around = [Passage.model_validate(each) for each in companion.library.neighbours(owner, chunk_id)]
    return shapes.PassageDetail(
        passage=Passage.model_validate(found),
        document=_shape(companion, its_document),
        before=[each for each in around if each.chunk_index < found.chunk_index],
        after=[each for each in around if each.chunk_index > found.chunk_index],
    )


def _shape(companion: Companion, document: Document) -> shapes.Document:
    values = {
        name: getattr(document, name) for name in shapes.Document.model_fields if hasattr(document, name)
    }
    progress = companion.library.progress(document.doc_id)
    return shapes.Document(
        **values,
        sample=document.owner == SAMPLE_OWNER,
        progress=shapes.Progress.model_validate(progress) if progress else None,
    )


def _announced(request: Request) -> int:
    """Bytes that are to come, as far as the sender tells: refused before they fill the disk."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _if_exists(form: Form) -> IfExists:
    choice = form.fields.get("if_exists", "replace")
    if choice not in ("replace", "keep"):
        raise InvalidInput("if_exists is either `replace` or `keep`.", "if_exists")
    return cast(IfExists, choice)


def _take(
    companion: Companion, owner: str, file: ReceivedFile, if_exists: IfExists, wait: bool
) -> shapes.UploadResult:
    """One file of an upload: a document or the reason why not."""
    library = companion.library
    try:
        document = library.accept(owner, file.name, _sized(companion, file).path, if_exists=if_exists)
        already_there = document.state is not DocumentState.READING
        if wait and not already_there:
            document = library.ingest(document.doc_id)
    except CompanionError as error:
        reason = ErrorText(code=error.code, message=error.message)
        return shapes.UploadResult(name=file.name, ok=False, error=reason)
    failed = document.state is DocumentState.FAILED
    return shapes.UploadResult(
        name=file.name,
        ok=not failed,
        already_there=already_there,
        document=_shape(companion, document),
        error=_reason(document) if failed else None,
    )


def _reason(failed: Document) -> ErrorText:
    return ErrorText(code=failed.error_code or DocumentError.code, message=failed.error or UNREADABLE)


def _sized(companion: Companion, file: ReceivedFile) -> ReceivedFile:
    if file.too_large:
        raise DocumentTooLarge(
            f"This file is larger than the {companion.settings.max_upload_mb} MB a document may have; "
            "split it and add the parts."
        )
    return file


def _common_reason(results: list[shapes.UploadResult]) -> ErrorText:
    """One sentence for an upload of which nothing could be used."""
    if len(results) == 1 and results[0].error:
        return results[0].error
    return ErrorText(
        code=DocumentError.code, message="None of the files could be added; each result says why."
    )


def _ingest_later(companion: Companion, doc_id: str) -> None:
    try:
        companion.library.ingest(doc_id)
    except CompanionError as error:
        # Nobody waits for an answer any more; the document itself shows what is wrong.
        log.warning("a document that was kept could not be read: %s", error.message)


def _status(results: list[shapes.UploadResult], wait: bool) -> int:
    good = sum(result.ok for result in results)
    if not good:
        return 422
    if good < len(results):
        return 207
    return 201 if wait else 202
