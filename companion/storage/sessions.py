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

from sqlalchemy import Connection, delete, insert, select, update

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
from companion.storage.database import Database
from companion.storage.tables import AnyRow, messages, session_config, sessions

TITLE_LENGTH = 60


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
        found = select(sessions).where(sessions.c.owner == owner)
        newest = found.order_by(sessions.c.updated_at.desc(), sessions.c.session_id)
        with self._database.reading() as connection:
            return [_to_session(row) for row in connection.execute(newest.limit(limit).offset(offset))]

    def rename(self, owner: str, session_id: str, title: str) -> Session:
        with self._database.writing() as connection:
            _session(connection, owner, session_id)
            connection.execute(
                update(sessions).where(sessions.c.session_id == session_id).values(title=title)
            )
            return _session(connection, owner, session_id)

    def delete(self, owner: str, session_id: str) -> None:
        with self._database.writing() as connection:
            _session(connection, owner, session_id)
            for table in (messages, session_config, sessions):
                connection.execute(delete(table).where(table.c.session_id == session_id))

    def config(self, owner: str, session_id: str) -> SessionConfig:
        with self._database.reading() as connection:
            _session(connection, owner, session_id)
            return _config(connection, session_id)

    def save_config(self, owner: str, config: SessionConfig) -> SessionConfig:
        with self._database.writing() as connection:
            _session(connection, owner, config.session_id)
            connection.execute(
                update(session_config)
                .where(session_config.c.session_id == config.session_id)
                .values(**asdict(config))
            )
            return _config(connection, config.session_id)

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
    ) -> Message:
        """Keep an answer, whole or as far as it came."""
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
        }
        with self._database.writing() as connection:
            session = _session(connection, owner, session_id)
            return _append(connection, session_id, session.title, values)

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

    def message(self, owner: str, message_id: int) -> Message:
        """Raises NotFound if there is none, or it is somebody else's."""
        statement = (
            select(messages)
            .join(sessions, sessions.c.session_id == messages.c.session_id)
            .where(messages.c.message_id == message_id, sessions.c.owner == owner)
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        if row is None:
            raise NotFound("There is no such message.")
        return _to_message(row)


def _session(connection: Connection, owner: str, session_id: str) -> Session:
    own = select(sessions).where(sessions.c.session_id == session_id, sessions.c.owner == owner)
    row = connection.execute(own).first()
    if row is None:
        raise NotFound("There is no such conversation.")
    return _to_session(row)


def _config(connection: Connection, session_id: str) -> SessionConfig:
    row = connection.execute(select(session_config).where(session_config.c.session_id == session_id)).first()
    if row is None:
        raise NotFound("There are no settings for this conversation.")
    values = row._asdict()
    return SessionConfig(**{**values, "thinking_mode": ThinkingMode(values["thinking_mode"])})


def _append(connection: Connection, session_id: str, title: str | None, values: dict[str, Any]) -> Message:
    now = datetime.now(UTC)
    added = insert(messages).values(session_id=session_id, created_at=now, **values).returning(messages)
    message = _to_message(connection.execute(added).one())
    connection.execute(
        update(sessions).where(sessions.c.session_id == session_id).values(title=title, updated_at=now)
    )
    return message


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
    )


def _to_source(values: dict[str, Any]) -> Source:
    place = Place(**_known(Place, values["place"]))
    return Source(**{**_known(Source, values), "place": place, "layers": tuple(values["layers"])})


def _known(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Only the fields the value has today: stored JSON may be older or newer."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
