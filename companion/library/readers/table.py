"""CSV and TSV: each row as `header: value; …`, so that a row makes sense alone.

Knows delimiters and headers. It does not know types: a value stays as it was written.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from companion.domain import Place, Section
from companion.errors import UnreadableDocument
from companion.library.chunking import count_tokens
from companion.library.readers.decoding import decode
from companion.tuning import LONGEST_PASSAGE

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_NUMBER = re.compile(r"[-+(]?[\d.,' ]{1,40}[%)]?")


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    text = decode(path.read_bytes(), name, notes).replace("\x00", "")
    csv.field_size_limit(max(len(text), 1))
    try:
        yield from _sections(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise UnreadableDocument(
            f"{name} is not a valid table; save it again as CSV (UTF-8) and add that."
        ) from error


def _delimiter(text: str) -> str:
    """The one that gives most rows the same number of columns, and more than one."""
    return max(_DELIMITERS, key=lambda delimiter: _evenness(text, delimiter))


def _evenness(text: str, delimiter: str) -> tuple[float, int]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    widths = Counter(len(row) for row in itertools.islice(reader, _SAMPLE_ROWS) if row)
    if not widths:
        return 0.0, 0
    width, rows = max(widths.items(), key=lambda item: (item[1], item[0]))
    return (rows / widths.total(), width) if width > 1 else (0.0, 0)


def _sections(rows: Iterator[list[str]]) -> Iterator[Section]:
    """As many whole rows as fit into one passage; numbers count rows of data from 1."""
    header, data = _header(rows)
    lines: list[str] = []
    tokens, first = 0, 1
    for number, row in enumerate(data, 1):
        line = _line(header, row)
        size = count_tokens(line)
        if lines and tokens + size > LONGEST_PASSAGE:
            yield _section(lines, first, number - 1)
            lines, tokens, first = [], 0, number
        if line:
            lines.append(line)
            tokens += size
    if lines:
        yield _section(lines, first, number)
    elif header and first == 1:
        yield Section("; ".join(filter(None, header)))


def _section(lines: Sequence[str], first: int, last: int) -> Section:
    heading = f"row {first}" if first == last else f"rows {first}–{last}"
    return Section("\n".join(lines), Place(heading=heading))


def _header(rows: Iterator[list[str]]) -> tuple[list[str], Iterator[list[str]]]:
    """Names of columns, empty when the first row is data already, and the rows after them."""
    first = next((row for row in rows if any(map(str.strip, row))), [])
    if any(_NUMBER.fullmatch(cell.strip()) for cell in first):
        return [], itertools.chain([first], rows)
    return [" ".join(cell.split()) for cell in first], rows


def _line(header: Sequence[str], row: Sequence[str]) -> str:
    pairs = itertools.zip_longest(header, row[: max(len(header), len(row))], fillvalue="")
    shown = ((name, " ".join(value.split())) for name, value in pairs)
    return "; ".join(f"{name}: {value}" if name else value for name, value in shown if value)
