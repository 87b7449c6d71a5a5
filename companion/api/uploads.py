"""A multipart form becomes files on disk: streamed, counted, and gone after the request.

Knows forms and sizes. It does not know what a document is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from companion.config import Settings
from companion.errors import FULL, DiskFull, DocumentTooLarge, InvalidInput

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FILES = 20
MAX_FIELD_BYTES = 10_000
OVERHEAD_BYTES = 1_000_000

BROKEN_OFF = "The form ended in the middle; upload again."


@dataclass(slots=True)
class ReceivedFile:
    """A file of a form. Beyond the limit its bytes are counted and dropped."""

    name: str
    path: Path
    size: int = 0
    too_large: bool = False


@dataclass(slots=True)
class Form:
    """What a form held: files in their order, and plain fields."""

    files: list[ReceivedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


def incoming_folder(settings: Settings) -> Path:
    """Where uploads stand until the library has taken them over."""
    return settings.data_dir / "incoming"


def clear_incoming(settings: Settings) -> None:
    """Remove what a killed process left."""
    shutil.rmtree(incoming_folder(settings), ignore_errors=True)


@asynccontextmanager
async def received_form(request: Request, settings: Settings) -> AsyncIterator[Form]:
    """The form of a request; its files exist inside the `async with` only.

    Raises `InvalidInput` on a form that is not whole, 415 on what is none, `DiskFull`.
    """
    folder = incoming_folder(settings)
    with _full_disk_is_said():
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder))
    try:
        yield await _receive(request, own, settings.max_upload_mb * 1_000_000)
    finally:
        await run_in_threadpool(shutil.rmtree, own, ignore_errors=True)


async def _receive(request: Request, folder: Path, max_bytes: int) -> Form:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise HTTPException(415, "Send files as multipart/form-data, in fields named `files`.")
    if b"boundary" not in options:
        raise InvalidInput("The form does not say what stands between its parts.", "files")
    sink = _Sink(folder, max_bytes)
    try:
        parser = MultipartParser(options[b"boundary"], sink.callbacks())
        taken = 0
        with _full_disk_is_said():
            async for chunk in request.stream():
                taken += len(chunk)
                if taken > MAX_FILES * max_bytes + OVERHEAD_BYTES:
                    raise DocumentTooLarge("This is more than can be uploaded at once; send fewer files.")
                await run_in_threadpool(parser.write, chunk)
            parser.finalize()
            sink.close()
    except FormParserError as error:
        raise InvalidInput("The form is not valid multipart/form-data.") from error
    except ClientDisconnect as error:
        # Nobody hears it; what came is removed all the same.
        raise InvalidInput(BROKEN_OFF) from error
    finally:
        with suppress(OSError):
            # What a full disk could not take is tried again by closing.
            sink.close()
    if not sink.ended:
        raise InvalidInput(BROKEN_OFF)
    return sink.form


@contextmanager
def _full_disk_is_said() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull("The disk is full; free some space and add the document again.") from error
        raise


class _Sink:
    """Takes the parser's callbacks, in any thread but one at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self._folder = folder
        self._max_bytes = max_bytes
        self._start_part()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._start_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _start_part(self) -> None:
        self._header_name = self._header_value = b""
        self._disposition: dict[bytes, bytes] = {}
        self._file: ReceivedFile | None = None
        self._open: IO[bytes] | None = None
        self._value = bytearray()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = parse_options_header(self._header_value)[1]
        self._header_name = self._header_value = b""

    def _open_part(self) -> None:
        if b"filename" not in self._disposition:
            return
        if len(self.form.files) == MAX_FILES:
            raise InvalidInput(f"At most {MAX_FILES} files can be uploaded at once.", "files")
        # The name is the sender's; on disk the file has ours.
        name = self._disposition[b"filename"].decode("utf-8", "replace")
        self._file = ReceivedFile(name, self._folder / str(len(self.form.files)))
        self._open = self._file.path.open("wb")
        self.form.files.append(self._file)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None or self._open is None:
            self._value += data[start:end]
            if len(self._value) > MAX_FIELD_BYTES:
                raise InvalidInput("A field of the form is too long; send files with a file name.")
            return
        self._file.size += end - start
        self._file.too_large = self._file.size > self._max_bytes
        if not self._file.too_large:
            self._open.write(data[start:end])

    def _end_part(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
        elif name := self._disposition.get(b"name"):
            if len(self.form.fields) == MAX_FILES:
                raise InvalidInput("The form has too many fields.", "files")
            self.form.fields[name.decode("utf-8", "replace")] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True
