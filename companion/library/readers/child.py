"""The reading child: `python -m companion.library.readers.child MEMORY CPU RETIRE` (bytes, seconds, bytes).

Takes one JSON line for each file, {path, name}, and answers with a JSON line for each section, then
one that ends the answer. It does not know the library, holds no secret, and has no network.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from companion.child import allow_cpu, follow_parent, limit_resources, refuse_network
from companion.errors import DocumentError, UnreadableDocument
from companion.library.readers.reading import read_file

_FILE_BYTES = 1_000_000


def main() -> None:
    follow_parent()
    answers = _take_stdout()
    # Parsers log pieces of documents.
    logging.disable(logging.CRITICAL)
    refuse_network()
    memory_bytes, cpu_s, retire_bytes = map(int, sys.argv[1:])
    limit_resources(memory_bytes=memory_bytes, file_bytes=_FILE_BYTES)
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        allow_cpu(cpu_s)
        for answer in _answer(Path(request["path"]), request["name"]):
            answers.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
        answers.flush()
        if psutil.Process().memory_info().rss > retire_bytes:
            # It will not give this memory back; a fresh child costs less.
            return


def _take_stdout() -> IO[bytes]:
    """The pipe to the parent; what a library prints goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "wb", buffering=65_536)
    os.dup2(2, 1)
    return answers


def _answer(path: Path, name: str) -> Iterator[dict[str, object]]:
    try:
        reading = read_file(path, name)
    except MemoryError:
        yield _failure(
            UnreadableDocument(
                f"Reading {name} needs more memory than is allowed; it was given up. "
                "Split it and add the parts."
            )
        )
    except DocumentError as error:
        yield _failure(error)
    except Exception:  # The outermost edge: whatever a parser lets through is a damaged file.
        yield _failure(
            UnreadableDocument(f"{name} is damaged and cannot be read; save it as a new file and add that.")
        )
    else:
        for section in reading.sections:
            place = section.place
            yield {"section": [section.text, place.page, place.heading, place.start_s, place.end_s]}
        yield {"source_type": reading.source_type, "notes": reading.notes}


def _failure(error: DocumentError) -> dict[str, object]:
    return {"error": error.code, "message": error.message}


if __name__ == "__main__":
    main()
