"""Bytes become text, whatever their encoding.

Knows byte order marks, declarations and guesses. It does not know formats.
"""

from __future__ import annotations

import codecs
import re

import charset_normalizer

from companion.errors import UnreadableDocument

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 32_768
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SPOKEN = {"cp1252": "Western European (windows-1252)"}


def decode(data: bytes, name: str, notes: list[str], declared: str | None = None) -> str:
    """The text in `data`. A guess or damage is told in `notes`.

    A byte order mark wins, then valid UTF-8, then what the file itself declares, then a guess.
    Raises `UnreadableDocument` for bytes that are no text.
    """
    text = _marked(data, notes)
    if text is None:
        text = _unmarked(data, notes, declared)
    if _is_binary(text):
        raise UnreadableDocument(f"{name} holds no text that can be read; add the original file.")
    return text


def _marked(data: bytes, notes: list[str]) -> str | None:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data[len(mark) :], encoding, notes)
    encoding_by_zeros = _wide_encoding(data[:4000])
    return _decode_as(data, encoding_by_zeros, notes) if encoding_by_zeros else None


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 without its mark: nearly every second byte is zero."""
    half = len(head) // 2
    if half < 8:
        return None
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd < 0.1 * half else None


def _unmarked(data: bytes, notes: list[str], declared: str | None) -> str:
    text = _strict(data, "utf-8")
    if text is None and declared is not None:
        text = _strict(data, declared)
    if text is None:
        text = _nearly_utf8(data, notes)
    return _guessed(data, notes) if text is None else text


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError, TypeError):
        # LookupError: the file declares an encoding that does not exist, or one like base64.
        return None


def _nearly_utf8(data: bytes, notes: list[str]) -> str | None:
    """UTF-8 with a few damaged characters, which a guess would turn into rubbish throughout."""
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    foreign = len(re.findall(r"[^\x00-\x7f\ufffd]", text))
    if damaged * 10 > foreign:
        return None
    notes.append(f"{damaged} damaged characters were replaced.")
    return text


def _guessed(data: bytes, notes: list[str]) -> str:
    encoding = _guess(_telling_lines(data)) or "cp1252"
    notes.append(
        f"The encoding was guessed as {_SPOKEN.get(encoding, encoding)}; "
        "if letters look wrong, save the file as UTF-8 and add it again."
    )
    return data.decode(encoding, "replace")


def _telling_lines(data: bytes) -> bytes:
    """Lines with other bytes than ASCII: only they tell encodings apart."""
    sample = bytearray()
    for match in re.finditer(rb"[^\n]{0,500}[\x80-\xff][^\n]{0,500}\n?", data):
        sample += match.group()
        if len(sample) >= _SAMPLE_BYTES:
            break
    return bytes(sample)


def _guess(sample: bytes) -> str | None:
    matches = charset_normalizer.from_bytes(sample)
    best = matches.best()
    if best is None:
        return None
    for match in matches:
        # Short Western texts fit several code pages equally well; this one is by far the commonest.
        as_good = match.chaos <= best.chaos and match.coherence >= best.coherence - 0.02
        if as_good and "cp1252" in match.could_be_from_charset:
            return "cp1252"
    return best.encoding


def _decode_as(data: bytes, encoding: str, notes: list[str]) -> str:
    text = data.decode(encoding, "replace")
    if "\ufffd" in text:
        notes.append("Damaged characters were replaced.")
    return text


def _is_binary(text: str) -> bool:
    """NUL alone does not make a file binary: exports pad with it."""
    head = text[:20_000]
    controls = sum(1 for match in _CONTROL.finditer(head) if match.group() != "\x00")
    return controls > 0.02 * len(head) or head.count("\x00") > 0.5 * len(head) > 0
