"""Passwords as argon2id hashes (RFC 9106, second recommended option: 64 MiB, three passes).

Knows how to make and check a hash. It does not know whose it is.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from companion.errors import InvalidInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST = 8
LONGEST = 1000
"""Characters; a longer one would only cost time."""

# Each check takes 64 MiB: a flood of them must not take the machine's memory.
_AT_ONCE = threading.BoundedSemaphore(2)


def hashed(password: str) -> str:
    """With a salt of its own. Raises InvalidInput for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidInput(f"A password has {SHORTEST} to {LONGEST} characters.", field="password")
    return _hash(password)


def fits(stored: str | None, password: str) -> bool:
    """Whether a password is the one of the hash; takes the same time where there is none."""
    from argon2.exceptions import VerificationError

    with _AT_ONCE:
        try:
            _hasher().verify(stored or _nobodys(), password[: LONGEST + 1].encode("utf-8", "replace"))
        except VerificationError:
            return False
    return stored is not None


def is_outdated(stored: str) -> bool:
    """Made with other costs than today's."""
    return _hasher().check_needs_rehash(stored)


def _hash(password: str) -> str:
    with _AT_ONCE:
        return _hasher().hash(password.encode("utf-8", "replace"))


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash("nobody has this password")
