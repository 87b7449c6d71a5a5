"""The first tables: sessions, documents, passages with full text, vectors, settings.

Revision 0001. Written out in full, so that it stays what it was when `tables.py` moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from companion.storage.fulltext import create_full_text

revision = "0001"
down_revision = None

NOW = sa.text("CURRENT_TIMESTAMP")


def upgrade() -> None:
    _create_conversations()
    _create_documents()
    _create_vectors()
    op.create_table(
        "settings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
    create_full_text(op.get_bind())


def _create_conversations() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("title", sa.Text),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("updated_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("owner", sa.Text, nullable=False, server_default="local"),
    )
    op.create_index("ix_sessions_owner", "sessions", ["owner", "updated_at"])
    op.create_table(
        "messages",
        sa.Column("message_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.session_id"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("mode", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("thinking", sa.Text, nullable=False, server_default=""),
        sa.Column("sources", sa.JSON),
        sa.Column("notices", sa.JSON),
        sa.Column("state", sa.Text, nullable=False, server_default="complete"),
        sa.Column("usage", sa.JSON),
        sa.CheckConstraint("role IN ('user', 'assistant')", name="ck_messages_role"),
        sa.CheckConstraint("state IN ('complete', 'stopped', 'failed')", name="ck_messages_state"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_session", "messages", ["session_id", "message_id"])
    op.create_table(
        "session_config",
        sa.Column("session_id", sa.Text, sa.ForeignKey("sessions.session_id"), primary_key=True),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("thinking_mode", sa.Text, nullable=False),
        sa.Column("top_k", sa.Integer, nullable=False, server_default=sa.text("5")),
        sa.Column("embed_light", sa.Text, nullable=False),
        sa.Column("embed_deep", sa.Text, nullable=False),
        sa.Column("idle_threshold_s", sa.Integer, nullable=False, server_default=sa.text("600")),
        sa.CheckConstraint(
            "thinking_mode IN ('cot', 'rag', 'hybrid')", name="ck_session_config_thinking_mode"
        ),
    )


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("doc_id", sa.Text, primary_key=True),
        sa.Column("source_type", sa.Text, nullable=False),
        sa.Column("source_path", sa.Text),
        sa.Column("metadata", sa.JSON),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("updated_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("owner", sa.Text, nullable=False, server_default="local"),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("content_hash", sa.Text, nullable=False, server_default=""),
        sa.Column("size", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("state", sa.Text, nullable=False, server_default="reading"),
        sa.Column("error", sa.Text),
        sa.Column("notes", sa.JSON),
        sa.Column("deleted_at", sa.DateTime),
        sa.Column("previous", sa.JSON),
        sa.CheckConstraint("state IN ('reading', 'searchable', 'deep', 'failed')", name="ck_documents_state"),
    )
    op.create_index("ix_documents_owner", "documents", ["owner", "content_hash"])
    op.create_table(
        "document_chunks",
        sa.Column("chunk_id", sa.Text, primary_key=True),
        sa.Column("doc_id", sa.Text, sa.ForeignKey("documents.doc_id"), nullable=False),
        sa.Column("chunk_index", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("chroma_id", sa.Text, unique=True, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("seq", sa.Integer, unique=True, nullable=False),
        sa.Column("text_hash", sa.Text, nullable=False, server_default=""),
        sa.Column("place", sa.JSON),
        sa.Column("tokens", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("ix_document_chunks_document", "document_chunks", ["doc_id", "chunk_index"])
    op.create_index("ix_document_chunks_text_hash", "document_chunks", ["text_hash"])
    op.create_index("ix_document_chunks_found", "document_chunks", ["seq", "doc_id", "chunk_id"])


def _create_vectors() -> None:
    op.create_table(
        "embedders",
        sa.Column("embedder_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("weight_hash", sa.Text, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("pooling", sa.Text, nullable=False),
        sa.Column("normalize", sa.Boolean, nullable=False),
        sa.Column("query_prompt", sa.Text, nullable=False),
        sa.Column("passage_prompt", sa.Text, nullable=False),
        sa.Column("chunker_version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=NOW),
    )
    op.create_table(
        "embeddings",
        sa.Column("chunk_id", sa.Text, sa.ForeignKey("document_chunks.chunk_id"), primary_key=True),
        sa.Column("embedder_id", sa.Text, sa.ForeignKey("embedders.embedder_id"), primary_key=True),
        sa.Column("window", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "document_layers",
        sa.Column("doc_id", sa.Text, sa.ForeignKey("documents.doc_id"), primary_key=True),
        sa.Column("embedder_id", sa.Text, sa.ForeignKey("embedders.embedder_id"), primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("done", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("total", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("error", sa.Text),
        sa.Column("updated_at", sa.DateTime, nullable=False, server_default=NOW),
    )
    op.create_table(
        "index_runs",
        sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("embedder_id", sa.Text, sa.ForeignKey("embedders.embedder_id"), nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False, server_default=NOW),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("outcome", sa.Text),
        sa.Column("passages", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("reason", sa.Text),
        sqlite_autoincrement=True,
    )
