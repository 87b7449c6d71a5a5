"""The tables, and the types their columns are kept in.

Knows names, types and constraints as they are now; `migrations/` knows how they came to be.
It does not know domain values: the stores translate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    TypeDecorator,
    func,
    select,
    text,
)

AnyRow = Row[*tuple[Any, ...]]

_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(value: str) -> str:
    """The text as it can be stored: NUL dropped, lone surrogates replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", value.replace("\0", ""))


def _clean_all(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_clean_all(key): _clean_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_all(item) for item in value]
    return value


class CleanText(TypeDecorator[str]):
    """Text of any origin. Every stored or compared string passes here, so none can fail."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class CleanJson(TypeDecorator[Any]):
    """JSON whose strings are cleaned like other text."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return _clean_all(value)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times in, aware times in UTC out; SQLite itself forgets the zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


def among(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """`column` is one of `values`; one parameter however many there are."""
    listed = func.json_each(json.dumps([clean(value) for value in values])).table_valued("value")
    return column.in_(select(listed.c.value))


NOW = text("CURRENT_TIMESTAMP")
metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", CleanText, primary_key=True),
    Column("title", CleanText),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("updated_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("owner", CleanText, nullable=False, server_default="local"),
    Column("deleted_at", UtcDateTime),
    Index("ix_sessions_owner", "owner", "updated_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("message_id", Integer, primary_key=True, autoincrement=True),
    Column("session_id", CleanText, ForeignKey("sessions.session_id"), nullable=False),
    Column("role", CleanText, nullable=False),
    Column("content", CleanText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("mode", CleanText),
    Column("model", CleanText),
    Column("thinking", CleanText, nullable=False, server_default=""),
    Column("sources", CleanJson(none_as_null=True)),
    Column("notices", CleanJson(none_as_null=True)),
    Column("state", CleanText, nullable=False, server_default="complete"),
    Column("usage", CleanJson(none_as_null=True)),
    Column("searched_for", CleanText),
    CheckConstraint("role IN ('user', 'assistant')", name="ck_messages_role"),
    CheckConstraint("state IN ('complete', 'stopped', 'failed')", name="ck_messages_state"),
    Index("ix_messages_session", "session_id", "message_id"),
    # Ids are never used twice, so an old link cannot open another message.
    sqlite_autoincrement=True,
)

session_config = Table(
    "session_config",
    metadata,
    Column("session_id", CleanText, ForeignKey("sessions.session_id"), primary_key=True),
    Column("model_name", CleanText, nullable=False),
    Column("thinking_mode", CleanText, nullable=False),
    Column("top_k", Integer, nullable=False, server_default=text("5")),
    Column("embed_light", CleanText, nullable=False),
    Column("embed_deep", CleanText, nullable=False),
    Column("idle_threshold_s", Integer, nullable=False, server_default=text("600")),
    # Ids of the chosen documents; NULL means all.
    Column("scope", CleanJson(none_as_null=True)),
    Column("temperature", Float, nullable=False, server_default=text("0.2")),
    Column("system_prompt", CleanText, nullable=False, server_default=""),
    CheckConstraint("thinking_mode IN ('cot', 'rag', 'hybrid')", name="ck_session_config_thinking_mode"),
)

documents = Table(
    "documents",
    metadata,
    Column("doc_id", CleanText, primary_key=True),
    Column("source_type", CleanText, nullable=False),
    Column("source_path", CleanText),
    # `metadata` is taken in SQLAlchemy's models; here, too, it is `extra` in code.
    Column("metadata", CleanJson(none_as_null=True), key="extra"),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("updated_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("owner", CleanText, nullable=False, server_default="local"),
    Column("name", CleanText, nullable=False, server_default=""),
    Column("content_hash", CleanText, nullable=False, server_default=""),
    Column("size", Integer, nullable=False, server_default=text("0")),
    Column("state", CleanText, nullable=False, server_default="reading"),
    Column("error", CleanText),
    Column("error_code", CleanText),
    Column("notes", CleanJson(none_as_null=True)),
    Column("deleted_at", UtcDateTime),
    # The version that the passages are of, while a newer one is not read or this one not finished.
    Column("previous", CleanJson(none_as_null=True)),
    CheckConstraint("state IN ('reading', 'searchable', 'deep', 'failed')", name="ck_documents_state"),
    Index("ix_documents_owner", "owner", "content_hash"),
)

document_chunks = Table(
    "document_chunks",
    metadata,
    Column("chunk_id", CleanText, primary_key=True),
    Column("doc_id", CleanText, ForeignKey("documents.doc_id"), nullable=False),
    Column("chunk_index", Integer, nullable=False),
    Column("text", CleanText, nullable=False),
    Column("chroma_id", CleanText, unique=True, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    # Rowid of the full-text row; SQLite's own rowids would change on VACUUM.
    Column("seq", Integer, unique=True, nullable=False),
    Column("text_hash", CleanText, nullable=False, server_default=""),
    Column("place", CleanJson(none_as_null=True)),
    Column("tokens", Integer, nullable=False, server_default=text("0")),
    Index("ix_document_chunks_document", "doc_id", "chunk_index"),
    Index("ix_document_chunks_text_hash", "text_hash"),
    # A full-text hit becomes an id and an owner without reading the fat row.
    Index("ix_document_chunks_found", "seq", "doc_id", "chunk_id"),
)

embedders = Table(
    "embedders",
    metadata,
    Column("embedder_id", CleanText, primary_key=True),
    Column("name", CleanText, nullable=False),
    Column("weight_hash", CleanText, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("max_tokens", Integer, nullable=False),
    Column("pooling", CleanText, nullable=False),
    Column("normalize", Boolean, nullable=False),
    Column("query_prompt", CleanText, nullable=False),
    Column("passage_prompt", CleanText, nullable=False),
    Column("chunker_version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("chunk_id", CleanText, ForeignKey("document_chunks.chunk_id"), primary_key=True),
    Column("embedder_id", CleanText, ForeignKey("embedders.embedder_id"), primary_key=True),
    Column("window", Integer, primary_key=True, autoincrement=False),
    Column("vector", LargeBinary, nullable=False),
)

document_layers = Table(
    "document_layers",
    metadata,
    Column("doc_id", CleanText, ForeignKey("documents.doc_id"), primary_key=True),
    Column("embedder_id", CleanText, ForeignKey("embedders.embedder_id"), primary_key=True),
    Column("state", CleanText, nullable=False),
    Column("done", Integer, nullable=False, server_default=text("0")),
    Column("total", Integer, nullable=False, server_default=text("0")),
    Column("error", CleanText),
    Column("updated_at", UtcDateTime, nullable=False, server_default=NOW),
)

layers = Table(
    "layers",
    metadata,
    Column("owner", CleanText, primary_key=True),
    Column("embedder_id", CleanText, ForeignKey("embedders.embedder_id"), primary_key=True),
    Column("kind", CleanText, nullable=False),
    # Set as long as searches use it …
    Column("in_force_since", UtcDateTime),
    # … and this one since another took its place, or while it is filled.
    Column("left_at", UtcDateTime),
    CheckConstraint("kind IN ('light', 'deep')", name="ck_layers_kind"),
    Index(
        "ux_layers_in_force", "owner", "kind", unique=True, sqlite_where=text("in_force_since IS NOT NULL")
    ),
)

index_runs = Table(
    "index_runs",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=True),
    Column("embedder_id", CleanText, ForeignKey("embedders.embedder_id"), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("ended_at", UtcDateTime),
    Column("outcome", CleanText),
    Column("passages", Integer, nullable=False, server_default=text("0")),
    Column("reason", CleanText),
    sqlite_autoincrement=True,
)

settings = Table(
    "settings",
    metadata,
    Column("name", CleanText, primary_key=True),
    Column("value", CleanJson, nullable=False),
)

quality_questions = Table(
    "quality_questions",
    metadata,
    # Never used twice: earlier measurements name questions by their ids.
    Column("question_id", Integer, primary_key=True, autoincrement=True),
    Column("chunk_id", CleanText, ForeignKey("document_chunks.chunk_id"), nullable=False),
    Column("text_hash", CleanText, nullable=False),
    Column("question", CleanText, nullable=False),
    # A chat model; NULL: made without one.
    Column("made_by", CleanText),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    Index("ux_quality_questions_chunk", "chunk_id", unique=True),
    sqlite_autoincrement=True,
)

quality_measurements = Table(
    "quality_measurements",
    metadata,
    Column("measurement_id", Integer, primary_key=True, autoincrement=True),
    Column("owner", CleanText, nullable=False),
    Column("measured_at", UtcDateTime, nullable=False, server_default=NOW),
    # What it depends on, as one key: another one is worth another measurement.
    Column("situation", CleanText, nullable=False),
    Column("facts", CleanJson, nullable=False),
    # Question id to method to rank. Numbers only: nothing of a text outlives its document here.
    Column("ranks", CleanJson, nullable=False),
    Index("ix_quality_measurements_owner", "owner", "measurement_id"),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    Column("name", CleanText, primary_key=True),
    Column("owner", CleanText, unique=True, nullable=False),
    # As argon2 writes it, with salt and costs.
    Column("password", CleanText, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
)

logins = Table(
    "logins",
    metadata,
    # Of this, and of `tokens` and `visitors`: a hash of the secret that somebody else holds.
    Column("key", CleanText, primary_key=True),
    Column("name", CleanText, ForeignKey("users.name"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
    Column("used_at", UtcDateTime, nullable=False, server_default=NOW),
)

tokens = Table(
    "tokens",
    metadata,
    Column("key", CleanText, primary_key=True),
    Column("name", CleanText, ForeignKey("users.name"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, server_default=NOW),
)

visitors = Table(
    "visitors",
    metadata,
    Column("owner", CleanText, primary_key=True),
    Column("key", CleanText, unique=True, nullable=False),
    Column("used_at", UtcDateTime, nullable=False, server_default=NOW),
)
