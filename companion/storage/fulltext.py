"""Full text over the passages: SQLite's FTS5, kept in step with their table by triggers.

Knows the FTS5 table, its triggers and its query language. It does not know which words are
worth asking for: that is the library's choice.

FTS5 ends words at spaces and marks. So the table is given texts in which each two neighbouring letters
of a script without spaces stand apart as a word, and `words.FOLDED` spellings are one; it keeps no
text itself (“contentless”). One table for all scripts has one count of how rare a word is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, TextClause, text

from companion.storage.tables import clean
from companion.words import FOLDED, SPACELESS, is_spaceless

MAX_TERMS = 256
"""More terms make a query slow and no better."""
MERGE_PAGES = 200
"""Pages of the full text that are merged at a time: some tens of milliseconds."""

# Signs on letters belong to their word: without Mn and Mc a vowel sign of Arabic or Hindi would end it.
_CREATE = """CREATE VIRTUAL TABLE passages_fts USING fts5(text, content='',
    tokenize="porter unicode61 remove_diacritics 2 categories 'L* Mn Mc N* Co' separators '\ufe0f'")"""

_WIDE = "\u0e00-\u17ff\u2e80-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""All of `SPACELESS` and a little more, in ranges that are quick to try on each letter of a passage."""

_SPELLINGS = " ".join(f"WHEN '{spelling}' THEN '{plain}'" for spelling, plain in FOLDED.items())
# Each letter of such a script with the next one; the last of a run alone, so that a letter begins a word
# wherever it stands. In SQL, because a function of ours would keep other programs from writing.
_SPACED = f"""(
    WITH RECURSIVE letters(at, pair) AS (
        SELECT 1, substr({{text}}, 1, 2)
        UNION ALL SELECT at + 1, substr({{text}}, at + 1, 2) FROM letters WHERE pair <> '')
    SELECT group_concat(CASE
        WHEN pair GLOB '[{SPACELESS}][{SPACELESS}]' THEN ' ' || pair || ' '
        WHEN pair GLOB '[{SPACELESS}]*' THEN ' ' || substr(pair, 1, 1) || ' '
        ELSE CASE substr(pair, 1, 1) {_SPELLINGS} ELSE substr(pair, 1, 1) END END, '') FROM letters)"""


def _indexed(text: str) -> str:
    """What the table is given of a column, as SQL; a text in ASCII is given as it is, at no cost."""
    folded = text
    for spelling, plain in FOLDED.items():
        folded = f"replace({folded}, '{spelling}', '{plain}')"
    return f"""CASE
        WHEN length(CAST({text} AS BLOB)) = length({text}) THEN {text}
        WHEN {text} GLOB '*[{_WIDE}]*' THEN {_SPACED.format(text=text)}
        ELSE {folded} END"""


_FILL = f"INSERT INTO passages_fts(rowid, text) SELECT seq, {_indexed('text')} FROM document_chunks"
_ADD = f"INSERT INTO passages_fts(rowid, text) VALUES (new.seq, {_indexed('new.text')});"
_REMOVE = f"""INSERT INTO passages_fts(passages_fts, rowid, text)
    VALUES ('delete', old.seq, {_indexed("old.text")});"""
_TRIGGERS = {
    "passages_fts_insert": f"AFTER INSERT ON document_chunks BEGIN {_ADD} END",
    "passages_fts_delete": f"AFTER DELETE ON document_chunks BEGIN {_REMOVE} END",
    "passages_fts_update": f"AFTER UPDATE OF seq, text ON document_chunks BEGIN {_REMOVE} {_ADD} END",
}

# CROSS JOIN fixes the order of the loops: FTS5 ranks first, and rows are looked up only until
# the limit is reached. The plus keeps SQLite from trying each of the documents for every row.
_SEARCH = """
    SELECT c.chunk_id, -f.rank
    FROM passages_fts AS f CROSS JOIN document_chunks AS c ON c.seq = f.rowid
    WHERE f.passages_fts MATCH :match AND +c.doc_id IN (
        SELECT doc_id FROM documents
        WHERE deleted_at IS NULL AND owner IN (SELECT value FROM json_each(:owners)) {scope})
    ORDER BY f.rank LIMIT :limit
"""
_SCOPE = "AND doc_id IN (SELECT value FROM json_each(:doc_ids))"


def search_statement(*, scoped: bool) -> TextClause:
    """Parameters `match`, `owners`, `limit`, and `doc_ids` if scoped; lists are JSON arrays.

    Gives (chunk_id, score), best first; the score is FTS5's BM25, higher is better.
    """
    return text(_SEARCH.format(scope=_SCOPE if scoped else ""))


def create_full_text(connection: Connection) -> None:
    """Create table and triggers anew, and fill the table from the passages.

    A migration that rebuilds `document_chunks` calls this afterwards: the rebuild drops the
    triggers without a word. So does one that changes what the table is given of a text.
    """
    for name in _TRIGGERS:
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
    connection.exec_driver_sql("DROP TABLE IF EXISTS passages_fts")
    connection.exec_driver_sql(_CREATE)
    connection.exec_driver_sql(_FILL)
    for name, body in _TRIGGERS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {body}")


def forget_some_words(connection: Connection, *, first: bool) -> bool:
    """Merge some of the segments, which leaves out deleted words; False when all are merged.

    All at once (`optimize`) holds up other writers for seconds in a large library. `first` begins
    a round, in which everything that was deleted before is forgotten.
    """
    before = _changes(connection)
    pages = -MERGE_PAGES if first else MERGE_PAGES
    connection.exec_driver_sql(f"INSERT INTO passages_fts(passages_fts, rank) VALUES ('merge', {pages})")
    return _changes(connection) - before >= 2


def _changes(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT total_changes()").scalar_one())


def match_expression(terms: Sequence[str]) -> str | None:
    """The terms as an FTS5 query: each quoted, joined by OR; None if nothing can be asked."""
    usable = list(dict.fromkeys(_quoted(term) for term in map(clean, terms) if _has_word(term)))
    return " OR ".join(usable[:MAX_TERMS]) or None


def _has_word(term: Iterable[str]) -> bool:
    return any(character.isalnum() for character in term)


def _quoted(term: str) -> str:
    # A letter of a script without spaces stands there with the next one: all words that begin with it.
    alone = len(term) == 1 and is_spaceless(term)
    return '"' + term.replace('"', '""') + '"' + (" *" if alone else "")
