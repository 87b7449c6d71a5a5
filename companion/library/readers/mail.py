"""E-mail: who, when, what about, and the body; attachments are named, not read.

Knows MIME through the standard library. It does not know keys: an encrypted mail stays closed.
"""

from __future__ import annotations

import email
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path

from companion.domain import Section
from companion.errors import EncryptedDocument, UnreadableDocument
from companion.library.readers import html

_HEADERS = ("Subject", "From", "To", "Cc", "Date")
_CLOSED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


def read(path: Path, name: str, notes: list[str]) -> Iterator[Section]:
    try:
        message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
        if any(part.get_content_type() in _CLOSED for part in message.walk()):
            raise EncryptedDocument(f"{name} is an encrypted mail; save it decrypted and add that.")
        lines = [
            f"{header}: {value}" for header in _HEADERS if (value := str(message.get(header, "")).strip())
        ]
        body = list(_body(message))
        attached = [part.get_filename() or "unnamed" for part in message.iter_attachments()]
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableDocument(
            f"{name} is a damaged mail; save its text as a file and add that."
        ) from error
    if attached:
        notes.append(f"Attachments were not read: {', '.join(attached[:10])}.")
    if lines:
        yield Section("\n".join(lines))
    yield from body


def _body(message: EmailMessage) -> Iterator[Section]:
    part = message.get_body(("plain", "html"))
    if part is None:
        return
    content = part.get_content()
    if part.get_content_subtype() == "html":
        yield from html.sections(content)
    else:
        yield Section(content)
