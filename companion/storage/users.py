"""Users, the browsers they signed in with, and their tokens.

Knows hashes of secrets, never a secret. It does not know how one is hashed, or when it expires.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select, update

from companion.domain import Login, User
from companion.errors import Conflict, NotFound
from companion.storage.database import Database
from companion.storage.tables import AnyRow, logins, tokens, users


class UserStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: User, password: str) -> None:
        """`password` is a hash. Raises Conflict for a name or an owner that is there already."""
        row = {
            "name": user.name,
            "owner": user.owner,
            "password": password,
            "admin": user.admin,
            "created_at": user.created_at,
        }
        with self._database.writing() as connection:
            taken = select(users.c.name).where(or_(users.c.name == user.name, users.c.owner == user.owner))
            if connection.execute(taken).first():
                raise Conflict(f"There is already a user called {user.name}.")
            connection.execute(insert(users).values(row))

    def remove(self, name: str) -> User:
        """With all logins and tokens; what they made stays. Raises NotFound."""
        with self._database.writing() as connection:
            _require(connection, name)
            found = connection.execute(select(users).where(users.c.name == name)).one()
            for table in (logins, tokens):
                connection.execute(delete(table).where(table.c.name == name))
            connection.execute(delete(users).where(users.c.name == name))
        return _user(found)

    def list(self) -> list[User]:
        """By name."""
        with self._database.reading() as connection:
            return [_user(row) for row in connection.execute(select(users).order_by(users.c.name))]

    def find(self, name: str) -> tuple[User, str] | None:
        """A user and the hash of their password."""
        with self._database.reading() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).first()
            return (_user(row), row.password) if row else None

    def of_owner(self, owner: str) -> User | None:
        with self._database.reading() as connection:
            row = connection.execute(select(users).where(users.c.owner == owner)).first()
            return _user(row) if row else None

    def set_password(self, name: str, password: str, *, keep_logins: bool = False) -> None:
        """All browsers have to sign in again, unless only the hash is a new one. Raises NotFound."""
        with self._database.writing() as connection:
            _require(connection, name)
            connection.execute(update(users).where(users.c.name == name).values(password=password))
            if not keep_logins:
                connection.execute(delete(logins).where(logins.c.name == name))

    # --- logins -----------------------------------------------------------------------------

    def begin(self, key: str, name: str, at: datetime, expired: tuple[datetime, datetime]) -> None:
        """Remember a browser, and forget those that were begun or used before `expired`.

        Raises NotFound if the user has gone meanwhile.
        """
        born, idle = expired
        with self._database.writing() as connection:
            connection.execute(delete(logins).where(or_(logins.c.created_at < born, logins.c.used_at < idle)))
            _require(connection, name)
            connection.execute(insert(logins).values(key=key, name=name, created_at=at, used_at=at))

    def login(self, key: str) -> Login | None:
        statement = select(users, logins.c.created_at.label("begun"), logins.c.used_at).join(
            users, users.c.name == logins.c.name
        )
        with self._database.reading() as connection:
            row = connection.execute(statement.where(logins.c.key == key)).first()
            return Login(_user(row), row.begun, row.used_at) if row else None

    def used(self, key: str, at: datetime) -> None:
        with self._database.writing() as connection:
            connection.execute(update(logins).where(logins.c.key == key).values(used_at=at))

    def end(self, key: str) -> None:
        """Harmless if it has ended."""
        with self._database.writing() as connection:
            connection.execute(delete(logins).where(logins.c.key == key))

    # --- tokens -----------------------------------------------------------------------------

    def add_token(self, key: str, name: str, at: datetime) -> None:
        """Raises NotFound for a user that is not there."""
        with self._database.writing() as connection:
            _require(connection, name)
            connection.execute(insert(tokens).values(key=key, name=name, created_at=at))

    def of_token(self, key: str) -> User | None:
        statement = select(users).join(tokens, tokens.c.name == users.c.name)
        with self._database.reading() as connection:
            row = connection.execute(statement.where(tokens.c.key == key)).first()
            return _user(row) if row else None

    def tokens(self, name: str) -> int:
        """How many a user has."""
        with self._database.reading() as connection:
            return len(connection.execute(select(tokens.c.key).where(tokens.c.name == name)).all())

    def revoke_tokens(self, name: str) -> int:
        """All of a user; returns how many there were."""
        with self._database.writing() as connection:
            return connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount


def _require(connection: Connection, name: str) -> None:
    if not connection.execute(select(users.c.name).where(users.c.name == name)).first():
        raise NotFound(f"There is no user called {name}.")


def _user(row: AnyRow) -> User:
    return User(row.name, row.owner, row.admin, row.created_at)
