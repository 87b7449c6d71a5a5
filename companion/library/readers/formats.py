"""Which formats can be read, and how a file is recognised by its name and first bytes.

Knows suffixes and signatures. It does not know how any format is read.
"""

from __future__ import annotations

from pathlib import PurePath

from companion.errors import (
    DocumentError,
    EmptyDocument,
    EncryptedDocument,
    UnknownFormat,
    UnreadableDocument,
)

_PLAIN = (
    "txt text log rst adoc org tex json jsonl yaml yml toml ini cfg conf "
    "py js ts java c h cpp hpp cs go rs rb php sh sql css r"
)

SUFFIXES: dict[str, str] = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "markdown",
    ".markdown": "markdown",
    ".srt": "transcript",
    ".vtt": "transcript",
    ".csv": "csv",
    ".tsv": "csv",
    ".ipynb": "notebook",
    ".eml": "email",
    ".xml": "xml",
    ".rss": "xml",
    **{f".{suffix}": "text" for suffix in _PLAIN.split()},
}
"""Suffix, lower case with its dot, to source type."""

READABLE = (
    "PDF, Word (.docx), HTML, Markdown, plain text, CSV, subtitles (.srt, .vtt), "
    "notebooks (.ipynb), e-mail (.eml) and XML"
)

_SIGNATURES = (
    (b"PK\x03\x04", "zip archive"),
    (b"PK\x05\x06", "zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office file"),
    (b"{\\rtf", "RTF file"),
    (b"\x1f\x8b", "compressed file"),
    (b"BZh", "compressed file"),
    (b"7z\xbc\xaf", "compressed file"),
    (b"\xfd7zXZ", "compressed file"),
    (b"\x89PNG", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
    (b"\x7fELF", "program"),
    (b"SQLite format 3\x00", "database"),
)
_HEAD_BYTES = 1024


def recognise(head: bytes, name: str) -> str:
    """Source type of a file whose first bytes are `head`; `name` as the person knows it.

    Raises `UnknownFormat`, `EmptyDocument`, `EncryptedDocument` or `UnreadableDocument`.
    """
    if not head:
        raise EmptyDocument(f"{name} is empty; add it again once it has content.")
    suffix = PurePath(name).suffix.lower()
    kind, content = SUFFIXES.get(suffix), _kind_of(head)
    if kind is None:
        return _guess(content, head, name)
    _check_promise(kind, content, suffix, name)
    return kind


def _kind_of(head: bytes) -> str | None:
    # The specification of PDF asks for its mark within the first 1,024 bytes only.
    if b"%PDF-" in head[:_HEAD_BYTES]:
        return "PDF"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


def _guess(content: str | None, head: bytes, name: str) -> str:
    if content == "PDF":
        return "pdf"
    if content is None and _is_plain(head):
        return "text"
    raise UnknownFormat(
        f"{name} is in a format that cannot be read; these can: {READABLE}. "
        "Save it as one of them and add that."
    )


def _is_plain(head: bytes) -> bool:
    """UTF-8 without control characters; the last character may be cut in two."""
    try:
        text = head[:-3].decode() if len(head) > _HEAD_BYTES else head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 6:
            return False
        text = head[: error.start].decode()
    return not any(ord(character) < 32 and character not in "\t\n\r\f" for character in text)


def _check_promise(kind: str, content: str | None, suffix: str, name: str) -> None:
    if kind == "pdf" and content != "PDF":
        raise UnreadableDocument(f"{name} is named .pdf but is not a PDF; add the original file.")
    if kind == "docx":
        _check_docx(content, name)
    elif kind != "pdf" and content is not None:
        # A text may well mention %PDF- in its beginning.
        if content == "PDF":
            return
        raise UnreadableDocument(f"{name} is named {suffix} but is a {content}; rename it and add it again.")


def _check_docx(content: str | None, name: str) -> None:
    if content == "old Office file":
        raise EncryptedDocument(
            f"{name} is protected with a password or is an old Word file; "
            "save it in Word as .docx without a password and add that."
        )
    if content != "zip archive":
        raise UnreadableDocument(f"{name} is named .docx but is not a Word file; add the original file.")


def same_error(code: str, message: str) -> DocumentError:
    """The error that a child reported by its code."""
    known: tuple[type[DocumentError], ...] = tuple(DocumentError.__subclasses__())
    return next((kind for kind in known if kind.code == code), UnreadableDocument)(message)
