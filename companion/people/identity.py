"""The place in a request where the door writes who asks, and where everybody reads it.

Knows a key of ASGI's scope. It does not know how somebody was recognised.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from companion.domain import Person
from companion.errors import NotSignedIn

_KEY = "companion.person"
WHO = "Sign in first."


def introduce(scope: MutableMapping[str, Any], person: Person) -> None:
    """From here on the request acts in this person's name."""
    scope[_KEY] = person


def person_of(scope: Mapping[str, Any]) -> Person:
    """Raises NotSignedIn where no door has let the request in."""
    person = scope.get(_KEY)
    if not isinstance(person, Person):
        raise NotSignedIn(WHO)
    return person
