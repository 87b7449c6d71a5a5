"""The database file is made, brought up to date, and refused when it cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from companion.errors import DatabaseTooNew, StorageError
from companion.storage.database import MIGRATIONS, Database, known_revisions
from companion.storage.fulltext import create_full_text
from companion.storage.store import Store
from companion.storage.tables import metadata

NOW = "CURRENT_TIMESTAMP"

# name, type, not null, default, primary key: what the design fixes
FIXED = {
    "sessions": {
        ("session_id", "TEXT", 1, None, 1),
        ("title", "TEXT", 0, None, 0),
        ("created_at", "DATETIME", 1, NOW, 0),
        ("updated_at", "DATETIME", 1, NOW, 0),
    },
    "messages": {
        ("message_id", "INTEGER", 1, None, 1),
        ("session_id", "TEXT", 1, None, 0),
        ("role", "TEXT", 1, None, 0),
        ("content", "TEXT", 1, None, 0),
        ("created_at", "DATETIME", 1, NOW, 0),
    },
    "documents": {
        ("doc_id", "TEXT", 1, None, 1),
        ("source_type", "TEXT", 1, None, 0),
        ("source_path", "TEXT", 0, None, 0),
        ("metadata", "JSON", 0, None, 0),
        ("created_at", "DATETIME", 1, NOW, 0),
        ("updated_at", "DATETIME", 1, NOW, 0),
    },
    "document_chunks": {
        ("chunk_id", "TEXT", 1, None, 1),
        ("doc_id", "TEXT", 1, None, 0),
        ("chunk_index", "INTEGER", 1, None, 0),
        ("text", "TEXT", 1, None, 0),
        ("chroma_id", "TEXT", 1, None, 0),
        ("created_at", "DATETIME", 1, NOW, 0),
    },
    "session_config": {
        ("session_id", "TEXT", 1, None, 1),
        ("model_name", "TEXT", 1, None, 0),
        ("thinking_mode", "TEXT", 1, None, 0),
        ("top_k", "INTEGER", 1, "5", 0),
        ("embed_light", "TEXT", 1, None, 0),
        ("embed_deep", "TEXT", 1, None, 0),
        ("idle_threshold_s", "INTEGER", 1, "600", 0),
    },
}
OURS = {
    "sessions": {"owner", "deleted_at"},
    "messages": {"mode", "model", "thinking", "sources", "notices", "state", "usage", "searched_for"},
    "documents": {
        "owner",
        "name",
        "content_hash",
        "size",
        "state",
        "error",
        "error_code",
        "notes",
        "deleted_at",
        "previous",
    },
    "document_chunks": {"seq", "text_hash", "place", "tokens"},
    "session_config": {"scope", "temperature", "system_prompt"},
}
FOREIGN_KEYS = {
    "messages": {("session_id", "sessions", "session_id", "NO ACTION")},
    "document_chunks": {("doc_id", "documents", "doc_id", "NO ACTION")},
    "session_config": {("session_id", "sessions", "session_id", "NO ACTION")},
}
A_ROW_OF_EVERYTHING = """
INSERT INTO sessions (session_id) VALUES ('s');
INSERT INTO messages (session_id, role, content) VALUES ('s', 'user', 'hello');
INSERT INTO session_config (session_id, model_name, thinking_mode, embed_light, embed_deep)
    VALUES ('s', 'm', 'rag', 'a', 'b');
INSERT INTO documents (doc_id, source_type, metadata) VALUES ('d', 'pdf', '{"author": "Ada"}');
INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)
    VALUES ('d:1', 'd', 0, 'an old zebra', 'd:1', 1);
INSERT INTO embedders VALUES ('e', 'n', 'w', 2, 8, 'mean', 1, '', '', 1, '2026-01-01 00:00:00');
INSERT INTO embeddings VALUES ('d:1', 'e', 0, x'003C003C');
INSERT INTO document_layers (doc_id, embedder_id, state) VALUES ('d', 'e', 'done');
INSERT INTO index_runs (embedder_id) VALUES ('e');
INSERT INTO settings VALUES ('top_k', '7');
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "100% mine" / "companion.db"


@pytest.fixture
def fresh(path):
    Database.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA foreign_keys=ON")
    yield connection
    connection.close()


def migrate_to(path, revision):
    path.parent.mkdir(exist_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def rows_of(connection, columns):
    """The named columns of each table's rows: a later revision may have more."""
    return {
        table: connection.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()
        for table, names in columns.items()
        # Tables of a later revision have none.
        if names
    }


def find(connection, word):
    statement = (
        "SELECT chunk_id FROM passages_fts JOIN document_chunks ON seq = passages_fts.rowid"
        " WHERE passages_fts MATCH ? ORDER BY chunk_id"
    )
    return [row[0] for row in connection.execute(statement, [word])]


@pytest.mark.parametrize("table", FIXED)
def test_the_five_tables_have_exactly_the_agreed_columns(fresh, table):
    columns = {tuple(row[1:]) for row in fresh.execute(f"PRAGMA table_info({table})")}
    # SQLite alone lets a text key be NULL; ours cannot, and says so.
    if table == "messages":
        columns = {
            (name, kind, 1 if key else notnull, default, key) for name, kind, notnull, default, key in columns
        }
    assert columns >= FIXED[table]
    assert {column[0] for column in columns - FIXED[table]} == OURS[table]
    keys = fresh.execute(f"PRAGMA foreign_key_list({table})")
    assert {(row[3], row[2], row[4], row[6]) for row in keys} == FOREIGN_KEYS.get(table, set())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO messages (session_id, role, content) VALUES ('s', 'system', 'x')",
        "INSERT INTO messages (session_id, role, content) VALUES ('nobody', 'user', 'x')",
        "INSERT INTO messages (session_id, role, content, state) VALUES ('s', 'user', 'x', 'lost')",
        "UPDATE session_config SET thinking_mode = 'fast'",
        "UPDATE session_config SET session_id = 'nobody'",
        "UPDATE documents SET state = 'lost'",
        "UPDATE document_chunks SET doc_id = 'nothing'",
        "DELETE FROM documents",
        "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
        " VALUES ('d:2', 'd', 1, 'x', 'd:1', 2)",
        "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
        " VALUES ('d:2', 'd', 1, 'x', 'd:2', 1)",
        "INSERT INTO embeddings VALUES ('d:1', 'nobody', 0, x'00')",
    ],
)
def test_the_constraints_hold(fresh, statement):
    fresh.executescript(A_ROW_OF_EVERYTHING)
    with pytest.raises(sqlite3.IntegrityError):
        fresh.execute(statement)


def test_message_ids_are_never_used_twice(fresh):
    (sql,) = fresh.execute("SELECT sql FROM sqlite_master WHERE name = 'messages'").fetchone()
    assert "AUTOINCREMENT" in sql


def test_the_migrations_end_where_the_tables_are(fresh, path):
    engine = create_engine(f"sqlite:///{path}")

    def ours(_object, name, kind, _reflected, _compared):
        return not (kind == "table" and name.startswith("passages_fts"))

    with engine.connect() as connection:
        options = {"include_object": ours, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


def test_file_names_and_alembic_agree_on_the_revisions():
    script = ScriptDirectory(str(MIGRATIONS))
    assert known_revisions() == [step.revision for step in script.walk_revisions()][::-1]
    assert script.get_heads() == [known_revisions()[-1]]


@pytest.mark.parametrize("revision", known_revisions())
def test_data_of_every_revision_survives_the_upgrade_and_is_found(path, revision):
    migrate_to(path, revision)
    with sqlite3.connect(path) as connection:
        connection.executescript(A_ROW_OF_EVERYTHING)
        columns = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in metadata.tables
        }
        before = rows_of(connection, columns)
    connection.close()

    for _ in range(2):
        store = Store.open(path)
        assert store.words.search(["local"], ["zebras"], 5)[0][0] == "d:1"
        assert store.sessions.messages("local", "s")[0].content == "hello"
        assert store.embeddings.matrix("e", ["local"])[2].tolist() == [[1.0, 1.0]]
        assert store.settings.load() == {"top_k": 7}
        assert store.sessions.config("local", "s").scope is None
        assert store.documents.get("local", "d").error_code is None
        store.close()

    with sqlite3.connect(path) as connection:
        assert rows_of(connection, columns) == before
        connection.execute(
            "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
            " VALUES ('d:2', 'd', 1, 'a new zebra', 'd:2', 2)"
        )
        assert find(connection, "zebra") == ["d:1", "d:2"]
        connection.execute("UPDATE document_chunks SET text = 'a horse' WHERE chunk_id = 'd:2'")
        assert find(connection, "zebra") == ["d:1"]
        assert find(connection, "horses") == ["d:2"]
        connection.execute("DELETE FROM document_chunks WHERE chunk_id = 'd:2'")
        assert find(connection, "horses") == []
        connection.execute("INSERT INTO passages_fts(passages_fts) VALUES ('integrity-check')")
    connection.close()


OF_BEFORE = """
DROP TABLE passages_fts;
CREATE VIRTUAL TABLE passages_fts USING fts5(text, content='document_chunks', content_rowid='seq',
    tokenize='porter unicode61 remove_diacritics 2');
DROP TRIGGER passages_fts_insert;
DROP TRIGGER passages_fts_update;
DROP TRIGGER passages_fts_delete;
CREATE TRIGGER passages_fts_insert AFTER INSERT ON document_chunks BEGIN
    INSERT INTO passages_fts(rowid, text) VALUES (new.seq, new.text);
END;
"""
"""The full text as revisions up to 0008 made it."""


def test_a_full_text_of_before_is_made_anew_for_words_of_all_scripts(path):
    migrate_to(path, "0008")
    connection = sqlite3.connect(path)
    connection.executescript(OF_BEFORE + A_ROW_OF_EVERYTHING)
    for number, text in enumerate(("保修期三年", "an der Straße", "كِتَابٌ"), 2):
        connection.execute(
            "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
            f" VALUES ('d:{number}', 'd', {number}, ?, 'd:{number}', {number})",
            [text],
        )
    connection.commit()
    assert find(connection, "保修") == find(connection, "strasse") == find(connection, "كتاب") == []
    Store.open(path).close()
    found = [find(connection, word) for word in ("zebras", "保修", "strasse", "كتاب")]
    assert found == [["d:1"], ["d:2"], ["d:3"], ["d:4"]]
    connection.execute("UPDATE document_chunks SET text = '年假' WHERE chunk_id = 'd:2'")
    connection.execute("DELETE FROM document_chunks WHERE chunk_id = 'd:3'")
    assert find(connection, "保修") == find(connection, "strasse") == []
    assert find(connection, "年假") == ["d:2"]
    connection.close()


def test_full_text_survives_a_rebuild_of_its_table_and_a_vacuum(fresh, path):
    fresh.executescript(A_ROW_OF_EVERYTHING)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as writing:
        (sql,) = writing.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'document_chunks'").one()
        writing.exec_driver_sql(sql.replace("document_chunks", "rebuilt", 1))
        writing.exec_driver_sql("INSERT INTO rebuilt SELECT * FROM document_chunks")
        writing.exec_driver_sql("DROP TABLE document_chunks")
        writing.exec_driver_sql("ALTER TABLE rebuilt RENAME TO document_chunks")
        create_full_text(writing)
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO document_chunks (chunk_id, doc_id, chunk_index, text, chroma_id, seq)"
            " VALUES ('d:2', 'd', 1, 'a new zebra', 'd:2', 9)"
        )
        connection.commit()
        connection.execute("VACUUM")
        assert find(connection, "zebra") == ["d:1", "d:2"]
    connection.close()


def test_a_start_with_an_up_to_date_database_needs_no_alembic(fresh, path):
    code = (
        "import sys, pathlib; from companion.storage.store import Store;"
        "Store.open(pathlib.Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_a_database_of_a_newer_program_is_refused_unchanged(fresh, path):
    fresh.execute("UPDATE alembic_version SET version_num = '9999'")
    fresh.commit()
    with pytest.raises(DatabaseTooNew, match="newer version"):
        Store.open(path)
    assert fresh.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_migration_that_leaves_orphans_is_undone(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE orphans (parent INTEGER REFERENCES parents(id))")
        connection.execute("INSERT INTO orphans VALUES (7)")
    with pytest.raises(StorageError, match="left as it was"):
        Database.open(path)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    assert tables.fetchall() == [("orphans",), ("parents",)]
    connection.close()


def test_foreign_keys_hold_again_after_a_migration(path):
    database = Database.open(path)
    with pytest.raises(StorageError), database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO messages (session_id, role, content) VALUES ('?', 'user', 'x')"
        )
    database.close()


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file\n" * 400, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_a_file_that_is_no_database_is_refused_unchanged(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StorageError, match="not a database"):
        Store.open(path)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="permissions"):
        Store.open(tmp_path / "file" / "companion.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StorageError, match="permissions"):
        Store.open(tmp_path / "folder.db")
