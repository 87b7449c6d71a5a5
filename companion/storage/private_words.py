"""BM25 within the owners that are searched, for a store that several people use.

FTS5 counts in its whole table how rare a word is and how long passages are, so that its scores tell
of documents of others. Here its ranks are taken apart into how often a word is in a passage, which
tells of that passage alone, and put together again with counts of the owners' own.

Knows how FTS5 computes `rank` (its `fts5_aux.c`) and keeps its counts. It does not know which words
are worth asking for.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from companion.storage.fulltext import match_expression
from companion.storage.tables import clean

K1, B = 1.2, 0.75
"""As FTS5 has them."""
USUAL_WORDS = 250.0
"""Words of a usual passage, in place of the mean over all: passages are cut to one size."""
LEAST_IDF = 1e-6
"""FTS5's, for words in more than half of the passages."""

_OWN = """c.doc_id IN (
    SELECT doc_id FROM documents
    WHERE deleted_at IS NULL AND owner IN (SELECT value FROM json_each(:owners)))"""
# As in `fulltext`: the order of the loops is fixed, and the plus keeps SQLite from another one.
_HITS = text(f"""
    SELECT c.chunk_id, c.doc_id, f.rank, s.sz
    FROM passages_fts AS f
    CROSS JOIN document_chunks AS c ON c.seq = f.rowid
    CROSS JOIN passages_fts_docsize AS s ON s.id = f.rowid
    WHERE f.passages_fts MATCH :match AND +{_OWN}""")
_FREQUENCY = text(f"""
    SELECT count(*) FROM (
        SELECT 1 FROM passages_fts AS f CROSS JOIN document_chunks AS c ON c.seq = f.rowid
        WHERE f.passages_fts MATCH :match AND +{_OWN} LIMIT :most)""")
_TOTAL = text(f"SELECT count(*) FROM document_chunks AS c WHERE {_OWN}")
_EVERYWHERE = text("SELECT count(*) FROM passages_fts WHERE passages_fts MATCH :match")
_COUNTS = text("SELECT block FROM passages_fts_data WHERE id = 1")


def total(connection: Connection, owners: Sequence[str]) -> int:
    """Passages of the owners."""
    return int(connection.execute(_TOTAL, {"owners": _listed(owners)}).scalar_one())


def frequency(connection: Connection, owners: Sequence[str], match: str, most: int | None) -> int:
    """Passages of the owners that a query matches. With `most`, only whether there are more is exact:
    to look for the owner of each passage with a common word takes longer than the search itself."""
    values = {"match": match, "owners": _listed(owners), "most": -1 if most is None else most + 1}
    # What is rare among all is rare among the owners' own, which says nothing of the others.
    if most is not None and int(connection.execute(_EVERYWHERE, values).scalar_one()) <= most:
        return most
    return int(connection.execute(_FREQUENCY, values).scalar_one())


def search(
    connection: Connection,
    owners: Sequence[str],
    terms: Sequence[str],
    limit: int,
    doc_ids: Sequence[str] | None,
) -> list[tuple[str, float]]:
    """(chunk_id, score) of the best passages, best first; rarity is counted over all of the owners'
    passages, also where only some documents are searched."""
    own = total(connection, owners)
    wanted = None if doc_ids is None else set(doc_ids)
    scores: defaultdict[str, float] = defaultdict(float)
    for match in _single(terms):
        hits = list(_hits(connection, owners, match))
        idf = _idf(own, len(hits))
        for chunk_id, doc_id, times, words in hits:
            if wanted is None or doc_id in wanted:
                scores[chunk_id] += idf * times * (K1 + 1) / (times + _damping(words, USUAL_WORDS))
    best = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
    return best[:limit]


def _single(terms: Sequence[str]) -> list[str]:
    """Each term as a query of its own, as often as `match_expression` would ask for it: once."""
    found = match_expression(terms)
    known = {match_expression([term]) for term in terms}
    return [] if found is None else sorted(match for match in known if match)


def _hits(connection: Connection, owners: Sequence[str], match: str) -> Iterator[tuple[str, str, int, int]]:
    """(chunk_id, doc_id, how often the term is in it, words)."""
    rows = connection.execute(_HITS, {"match": match, "owners": _listed(owners)}).all()
    if not rows:
        return
    passages, words_of_all = _counts(connection)
    idf = _idf(passages, int(connection.execute(_EVERYWHERE, {"match": match}).scalar_one()))
    usual = words_of_all / passages
    for chunk_id, doc_id, rank, size in rows:
        words = _varints(size)[0]
        share = -rank / (idf * (K1 + 1))
        yield chunk_id, doc_id, max(round(share * _damping(words, usual) / (1 - share)), 1), words


def _idf(passages: int, found: int) -> float:
    rare = (passages - found + 0.5) / (found + 0.5)
    return math.log(rare) if rare > 1 else LEAST_IDF


def _damping(words: int, usual: float) -> float:
    return K1 * (1 - B + B * words / usual)


def _counts(connection: Connection) -> tuple[int, int]:
    """Passages and words in the whole table, as FTS5 keeps them."""
    passages, words = _varints(connection.execute(_COUNTS).scalar_one())[:2]
    return passages, words


def _varints(block: bytes) -> list[int]:
    """SQLite's variable-length integers of at most eight bytes."""
    found, value = [], 0
    for byte in block:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            found.append(value)
            value = 0
    return found


def _listed(owners: Sequence[str]) -> str:
    return json.dumps([clean(owner) for owner in owners])
