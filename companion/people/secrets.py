"""Secrets that somebody else holds, of which we keep a hash only.

Knows how they are made and compared. It does not know what one opens.
"""

from __future__ import annotations

import hashlib
import secrets


def new_secret() -> str:
    """256 random bits, fit for a cookie or a header."""
    return secrets.token_urlsafe(32)


def key_of(secret: str) -> str:
    """What is stored of a secret. Without salt: nobody can guess so many bits."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
