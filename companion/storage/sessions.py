"""Conversations: sessions, their settings, their messages.

Knows owners: what belongs to somebody else does not exist. It does not know how an answer
comes about.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from companion.domain import (
    Message,
    MessageState,
    Place,
    Role,
    Session,
    SessionConfig,
    Source,
    ThinkingMode,
    Usage,
)
from companion.errors import Conflict, NotFound
from companion.storage.database import Database, insists
from companion.storage.owed import Owed, owe
from companion.storage.tables import AnyRow, messages, session_config, sessions

TITLE_LENGTH = 60

_ALIVE = sessions.c.deleted_at.is_(None)


def title_from(question: str) -> str | None:
    """A title from a first question: one line, cut at a word; None if there is no word."""
    words = question.replace("\0", "").split()
    title = ""
    for word in words:
        if len(title) + len(word) >= TITLE_LENGTH:
            return f"{title or word[: TITLE_LENGTH - 1]}…"
        title = f"{title} {word}".lstrip()
    return title or None


class SessionStore:
    """Every method raises NotFound for a session that is not there or not the owner's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @insists
    def create(self, owner: str, session_id: str, config: SessionConfig, title: str | None = None) -> Session:
        """Raises Conflict if the id is taken."""
        now = datetime.now(UTC)
        with self._database.writing() as connection:
            if connection.execute(
                select(sessions.c.owner).where(sessions.c.session_id == session_id)
            ).first():
                raise Conflict("There is already a conversation with this id.")
            connection.execute(
                insert(sessions).values(
                    session_id=session_id, owner=owner, title=title, created_at=now, updated_at=now
                )
            )
            connection.execute(
                insert(session_config).values(**asdict(replace(config, session_id=session_id)))
            )
            return _session(connection, owner, session_id)

    def get(self, owner: str, session_id: str) -> Session:
        with self._database.reading() as connection:
            return _session(connection, owner, session_id)

    def list(self, owner: str, limit: int = 200, offset: int = 0) -> builtins.list[Session]:
        """Newest activity first."""
        found = select(sessions).where(sessions.c.owner == owner, _ALIVE)
        newest = found.order_by(sessions.c.updated_at.desc(), sessions.c.session_id)
        with self._database.reading() as connection:
            return [_to_session(row) for row in connection.execute(newest.limit(limit).offset(offset))]

    def count(self, owner: str) -> int:
        counted = select(func.count()).select_from(sessions).where(sessions.c.owner == owner, _ALIVE)
        with self._database.reading() as connection:
            return int(connection.execute(counted).scalar_one())

    @insists
    def rename(self, owner: str, session_id: str, title: str) -> Session:
        with self._database.writing() as connection:
            _session(connection, owner, session_id)
            connection.execute(
                update(sessions).where(sessions.c.session_id == session_id).values(title=title)
            )
            return _session(connection, owner, session_id)

    @insists
    def delete(self, owner: str, session_id: str) -> None:
        with self._database.writing() as connection:
            _session(connection, owner, session_id)
            _purge(connection, session_id)

    @insists
    def mark_deleted(self, owner: str, session_id: str, at: datetime) -> None:
        """Hide the session until it is restored or purged."""
        with self._database.writing() as connection:
            _session(connection, owner, session_id)
            connection.execute(
                update(sessions).where(sessions.c.session_id == session_id).values(deleted_at=at)
            )

    @insists
    def restore(self, owner: str, session_id: str, since: datetime) -> Session:
        """Show a session again. Raises NotFound if it was deleted before `since`."""
        in_time = (sessions.c.session_id == session_id, sessions.c.deleted_at >= since)
        with self._database.writing() as connection:
            shown = update(sessions).where(*in_time, sessions.c.owner == owner)
            connection.execute(shown.values(deleted_at=None))
            return _session(connection, owner, session_id)

    def purge(self, before: datetime) -> int:
        """Remove the sessions of all owners that were deleted before this time; returns how many."""
        with self._database.reading() as connection:
            due = select(sessions.c.session_id).where(sessions.c.deleted_at < before)
            if not connection.execute(due).first():
                # Asked every few seconds: nobody is to wait for the writer because of it.
                return 0
        with self._database.writing() as connection:
            found = list(connection.execute(due).scalars())
            for session_id in found:
                _purge(connection, session_id)
        return len(found)

    def config(self, owner: str, session_id: str) -> SessionConfig:
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            return _config(connection, session_id)

    @insists
    def save_config(self, owner: str, config: SessionConfig) -> SessionConfig:
        with self._database.writing() as connection:
            _session(connection, owner, config.session_id)
            connection.execute(
                update(session_config)
                .where(session_config.c.session_id == config.session_id)
                .values(**asdict(config))
            )
            return _config(connection, config.session_id)

    @insists
    def add_message(
        self,
        owner: str,
        session_id: str,
        role: Role,
        content: str,
        *,
        mode: ThinkingMode | None = None,
        model: str | None = None,
    ) -> Message:
        """Keep a message. The first question becomes the title of a session without one."""
        with self._database.writing() as connection:
            session = _session(connection, owner, session_id)
            title = title_from(content) if role is Role.USER and not session.title else session.title
            return _append(
                connection,
                session_id,
                title,
                {"role": role, "content": content, "mode": mode, "model": model},
            )

    @insists
    def add_answer(
        self,
        owner: str,
        session_id: str,
        content: str,
        *,
        state: MessageState,
        mode: ThinkingMode | None = None,
        model: str | None = None,
        thinking: str = "",
        sources: Sequence[Source] = (),
        notices: Sequence[str] = (),
        usage: Usage | None = None,
        searched_for: str | None = None,
        replacing: int | None = None,
    ) -> Message:
        """Keep an answer, whole or as far as it came. With `replacing`, the id of a question, all
        that was said after it goes in the same transaction.
        """
        values = {
            "role": Role.ASSISTANT,
            "content": content,
            "state": state,
            "mode": mode,
            "model": model,
            "thinking": thinking,
            # Scores may be numpy's floats, which JSON does not know.
            "sources": [asdict(replace(source, score=float(source.score))) for source in sources],
            "notices": list(notices),
            "usage": asdict(usage or Usage()),
            "searched_for": searched_for,
        }
        with self._database.writing() as connection:
            session = _session(connection, owner, session_id)
            if replacing is not None:
                _cut_after(connection, session_id, replacing)
            return _append(connection, session_id, session.title, values)

    @insists
    def rewrite_question(
        self, owner: str, session_id: str, message_id: int, content: str, *, mode: ThinkingMode | None = None
    ) -> Message:
        """Give a question another text, now, and drop everything after it, in one transaction.

        A title that came from it follows. Raises NotFound for a message that is not in the session.
        """
        now = datetime.now(UTC)
        rewritten = (
            update(messages)
            .where(messages.c.message_id == message_id)
            .values(content=content, mode=mode, created_at=now)
            .returning(messages)
        )
        with self._database.writing() as connection:
            session = _session(connection, owner, session_id)
            before = _message(connection, session_id, message_id)
            title = session.title
            if title == title_from(before.content) and _is_first(connection, before):
                title = title_from(content)
            _cut_after(connection, session_id, message_id)
            message = _to_message(connection.execute(rewritten).one())
            _touch(connection, session_id, title, now)
            return message

    def messages(
        self, owner: str, session_id: str, limit: int | None = None, before: int | None = None
    ) -> builtins.list[Message]:
        """Oldest first; `limit` keeps the latest ones, `before` is a message id."""
        latest = (
            select(messages).where(messages.c.session_id == session_id).order_by(messages.c.message_id.desc())
        )
        if before is not None:
            latest = latest.where(messages.c.message_id < before)
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            found = [_to_message(row) for row in connection.execute(latest.limit(limit))]
        return found[::-1]

    def count_messages(self, owner: str, session_id: str) -> int:
        counted = select(func.count()).select_from(messages).where(messages.c.session_id == session_id)
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            return int(connection.execute(counted).scalar_one())

    def words(
        self, owner: str, session_id: str, limit: int, before: int | None = None
    ) -> builtins.list[Message]:
        """As `messages`, but only who said what, when, and what was searched for it: a long
        conversation is read in a millisecond.
        """
        of = messages.c
        said = select(of.message_id, of.role, of.content, of.created_at, of.searched_for)
        latest = said.where(of.session_id == session_id)
        if before is not None:
            latest = latest.where(of.message_id < before)
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            found = connection.execute(latest.order_by(of.message_id.desc()).limit(limit)).all()
        return [
            Message(
                row.message_id,
                session_id,
                Role(row.role),
                row.content,
                row.created_at,
                searched_for=row.searched_for,
            )
            for row in reversed(found)
        ]

    def questions(self, owner: str, session_id: str) -> builtins.list[str]:
        """The texts of all questions, oldest first."""
        asked = (
            select(messages.c.content)
            .where(messages.c.session_id == session_id, messages.c.role == Role.USER)
            .order_by(messages.c.message_id)
        )
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            return [row.content for row in connection.execute(asked)]

    def said_since_last_question(self, owner: str, session_id: str) -> builtins.list[Message]:
        """The last question and what follows it, in order; empty before the first question."""
        asked = (messages.c.session_id == session_id, messages.c.role == Role.USER)
        last = select(func.max(messages.c.message_id)).where(*asked).scalar_subquery()
        since = (
            select(messages)
            .where(messages.c.session_id == session_id, messages.c.message_id >= last)
            .order_by(messages.c.message_id)
        )
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            return [_to_message(row) for row in connection.execute(since)]

    def message(self, owner: str, message_id: int) -> Message:
        """Raises NotFound if there is none, or it is somebody else's."""
        statement = (
            select(messages)
            .join(sessions, sessions.c.session_id == messages.c.session_id)
            .where(messages.c.message_id == message_id, sessions.c.owner == owner, _ALIVE)
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None:
            raise NotFound("There is no such message.")
        return _to_message(row)


def _session(connection: Connection, owner: str, session_id: str) -> Session:
    own = select(sessions).where(sessions.c.session_id == session_id, sessions.c.owner == owner, _ALIVE)
    row = connection.execute(own).first()
    if row is None:
        raise NotFound("There is no such conversation.")
    return _to_session(row)


def _purge(connection: Connection, session_id: str) -> None:
    owe(connection, Owed.REMAINS)
    for table in (messages, session_config, sessions):
        connection.execute(delete(table).where(table.c.session_id == session_id))


def _config(connection: Connection, session_id: str) -> SessionConfig:
    row = connection.execute(select(session_config).where(session_config.c.session_id == session_id)).first()
    if row is None:
        raise NotFound("There are no settings for this conversation.")
    values = row._asdict()
    scope = None if row.scope is None else tuple(row.scope)
    return SessionConfig(**{**values, "thinking_mode": ThinkingMode(values["thinking_mode"]), "scope": scope})


def _append(connection: Connection, session_id: str, title: str | None, values: dict[str, Any]) -> Message:
    now = datetime.now(UTC)
    added = insert(messages).values(session_id=session_id, created_at=now, **values).returning(messages)
    message = _to_message(connection.execute(added).one())
    _touch(connection, session_id, title, now)
    return message


def _touch(connection: Connection, session_id: str, title: str | None, now: datetime) -> None:
    connection.execute(
        update(sessions).where(sessions.c.session_id == session_id).values(title=title, updated_at=now)
    )


def _cut_after(connection: Connection, session_id: str, message_id: int) -> None:
    """Everything that was said after a message goes."""
    owe(connection, Owed.REMAINS)
    later = (messages.c.session_id == session_id, messages.c.message_id > message_id)
    connection.execute(delete(messages).where(*later))


def _message(connection: Connection, session_id: str, message_id: int) -> Message:
    own = select(messages).where(messages.c.session_id == session_id, messages.c.message_id == message_id)
    row = connection.execute(own).first()
    if row is None:
        raise NotFound("There is no such message.")
    return _to_message(row)


def _is_first(connection: Connection, message: Message) -> bool:
    earlier = (messages.c.session_id == message.session_id, messages.c.message_id < message.message_id)
    return connection.execute(select(messages.c.message_id).where(*earlier)).first() is None


def _to_session(row: AnyRow) -> Session:
    return Session(row.session_id, row.owner, row.title, row.created_at, row.updated_at)


def _to_message(row: AnyRow) -> Message:
    return Message(
        message_id=row.message_id,
        session_id=row.session_id,
        role=Role(row.role),
        content=row.content,
        created_at=row.created_at,
        state=MessageState(row.state),
        mode=ThinkingMode(row.mode) if row.mode else None,
        model=row.model,
        thinking=row.thinking,
        sources=tuple(_to_source(values) for values in row.sources or ()),
        notices=tuple(row.notices or ()),
        usage=Usage(**_known(Usage, row.usage or {})),
        searched_for=row.searched_for,
    )


def _to_source(values: dict[str, Any]) -> Source:
    place = Place(**_known(Place, values["place"]))
    return Source(**{**_known(Source, values), "place": place, "layers": tuple(values["layers"])})


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Only the fields the value has today: stored JSON may be older or newer."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
