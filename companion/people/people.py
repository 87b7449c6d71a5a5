"""Users: added, removed, signed in and out, recognised by a cookie or a token; and what they may do.

Knows names, expiry and rights. It does not know requests, pages, or what belongs to anybody.
"""

from __future__ import annotations

import re
import time
import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from companion.domain import LOCAL_OWNER, LOCAL_PERSON, Person, User
from companion.errors import InvalidInput, NotSignedIn, Refused, TooMany
from companion.people.passwords import fits, hashed, is_outdated
from companion.people.secrets import key_of, new_secret
from companion.people.throttle import Throttle

if TYPE_CHECKING:
    from companion.config import Mode
    from companion.storage.store import Store

LONGEST_LOGIN = timedelta(days=14)
"""Then one signs in again, however much the page was used."""
IDLE_LOGIN = timedelta(hours=24)
NOTED_S = 60.0
"""So often it is written down that a login is used."""
REMEMBERED_S = 1.0
"""So long a recognised secret is not looked up again: a page asks for many things at once."""
WRONG = "This name and this password do not belong together."
ADMINS_ONLY = "Only an admin can do this; it concerns the whole machine."

_NAME = re.compile(r"[\w][\w.@+-]{0,63}")


class People:
    """Sync; what hashes a password takes a tenth of a second and belongs in a thread."""

    def __init__(
        self,
        store: Store,
        mode: Mode,
        *,
        throttle: Throttle | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._users = store.users
        self._mode = mode
        self._throttle = throttle or Throttle()
        self._now = now
        self._recent: dict[str, tuple[float, Person]] = {}

    # --- users ------------------------------------------------------------------------------

    def add(self, name: str, password: str, *, admin: bool = False) -> User:
        """The first one, where there is nobody, is an admin and owns what was made without logins.

        Raises InvalidInput for the name or the password, Conflict for a name that is taken.
        """
        first = not self._users.list()
        owner = LOCAL_OWNER if first else f"user-{uuid.uuid4().hex}"
        user = User(_checked_name(name), owner, admin or first, self._now())
        self._users.add(user, hashed(password))
        return user

    def list(self) -> list[User]:
        return self._users.list()

    def tokens(self, name: str) -> int:
        """How many a user has."""
        return self._users.tokens(plain_name(name))

    def remove(self, name: str) -> User:
        """They can come in no more; what they made is for the caller. Raises NotFound."""
        self._recent.clear()
        return self._users.remove(plain_name(name))

    def set_password(self, name: str, password: str) -> None:
        """Every browser has to sign in again. Raises InvalidInput, NotFound."""
        self._users.set_password(plain_name(name), hashed(password))
        self._recent.clear()

    def new_token(self, name: str) -> str:
        """A secret for programs, which is shown now and never again. Raises NotFound."""
        token = new_secret()
        self._users.add_token(key_of(token), plain_name(name), self._now())
        return token

    def revoke_tokens(self, name: str) -> int:
        """All of a user; returns how many there were."""
        self._recent.clear()
        return self._users.revoke_tokens(plain_name(name))

    # --- coming in --------------------------------------------------------------------------

    def sign_in(self, name: str, password: str, address: str) -> str:
        """The secret of a new login. Unknown names and wrong passwords cannot be told apart.

        Raises NotSignedIn, and TooMany for a name or an address that tried too often.
        """
        name = plain_name(name)
        keys = f"name {name}", f"address {address}"
        wait = self._throttle.attempt(*keys)
        if wait > 0:
            raise TooMany(f"Too many wrong tries; wait {_spoken(wait)} and try again.", wait)
        known = self._users.find(name)
        if not fits(known[1] if known else None, password) or known is None:
            raise NotSignedIn(WRONG)
        self._throttle.forgive(*keys)
        if is_outdated(known[1]):
            self._users.set_password(name, hashed(password), keep_logins=True)
        secret, at = new_secret(), self._now()
        self._users.begin(key_of(secret), name, at, expired=(at - LONGEST_LOGIN, at - IDLE_LOGIN))
        return secret

    def sign_out(self, secret: str) -> None:
        self._users.end(key_of(secret))
        self._recent.clear()

    def by_login(self, secret: str) -> Person | None:
        """Who signed in with this secret, if that still holds."""
        return self._remembered(key_of(secret), self._by_login)

    def by_token(self, token: str) -> Person | None:
        return self._remembered(key_of(token), self._by_token)

    def _remembered(self, key: str, look_up: Callable[[str], Person | None]) -> Person | None:
        at, person = self._recent.get(key, (0.0, LOCAL_PERSON))
        if time.monotonic() - at < REMEMBERED_S:
            return person
        found = look_up(key)
        if found:
            self._recent = {key: (time.monotonic(), found), **self._still_recent()}
        return found

    def _still_recent(self) -> dict[str, tuple[float, Person]]:
        since = time.monotonic() - REMEMBERED_S
        return {key: entry for key, entry in list(self._recent.items()) if entry[0] > since}

    def _by_login(self, key: str) -> Person | None:
        login, now = self._users.login(key), self._now()
        if login is None or now - login.created_at > LONGEST_LOGIN or now - login.used_at > IDLE_LOGIN:
            return None
        if (now - login.used_at).total_seconds() > NOTED_S:
            self._users.used(key, now)
        return _person(login.user)

    def _by_token(self, key: str) -> Person | None:
        user = self._users.of_token(key)
        return _person(user) if user else None

    # --- rights -----------------------------------------------------------------------------

    def is_admin(self, owner: str) -> bool:
        """Whether somebody may change what concerns the whole machine."""
        if self._mode == "local" or owner == LOCAL_OWNER:
            return True
        user = self._users.of_owner(owner) if self._mode == "shared" else None
        return user is not None and user.admin

    def require_admin(self, owner: str) -> None:
        """Raises Refused."""
        if not self.is_admin(owner):
            raise Refused(ADMINS_ONLY)


def plain_name(name: str) -> str:
    """One way to write a name: letters that look the same are the same."""
    return unicodedata.normalize("NFKC", name).casefold().strip()[:200]


def _checked_name(name: str) -> str:
    plain = plain_name(name)
    if not _NAME.fullmatch(plain):
        raise InvalidInput(
            "A name has 1 to 64 letters, digits, and the signs . _ - + @; the first is no sign.", field="name"
        )
    return plain


def _person(user: User) -> Person:
    return Person(user.owner, user.admin, user.name)


def _spoken(seconds: float) -> str:
    whole = max(round(seconds), 1)
    return f"{whole} seconds" if whole < 120 else f"{round(whole / 60)} minutes"
