"""The words of passages: which passages hold them, and how rare they are.

Knows the owners that are searched, and whether others may be counted with them. It does not know
questions, or which words are worth asking for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import func, select, text

from companion.storage import private_words
from companion.storage.database import Database
from companion.storage.fulltext import match_expression, search_statement
from companion.storage.tables import clean, document_chunks

_SEARCH = {scoped: search_statement(scoped=scoped) for scoped in (False, True)}
_FREQUENCY = text("SELECT count(*) FROM passages_fts WHERE passages_fts MATCH :match")


class WordStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.private = False
        """Several people: how rare a word is, and how long passages are, is counted within the owners
        that are searched, else a score would tell of documents of others."""

    def search(
        self, owners: Sequence[str], terms: Sequence[str], limit: int, doc_ids: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """(chunk_id, score) of passages with any of the terms, best first by BM25.

        Any text is a valid term; what contains no letter or digit is ignored, as are terms
        beyond the first 256 different ones.
        """
        match = match_expression(terms)
        if match is None:
            return []
        values: dict[str, object] = {"match": match, "owners": _as_json(owners), "limit": limit}
        if doc_ids is not None:
            values["doc_ids"] = _as_json(doc_ids)
        with self._database.reading() as connection:
            if self.private:
                return private_words.search(connection, owners, terms, limit, doc_ids)
            # All at once: a row at a time costs some milliseconds.
            rows = connection.execute(_SEARCH[doc_ids is not None], values).all()
            return [(row[0], row[1]) for row in rows]

    def frequency(self, term: str, owners: Sequence[str] = (), most: int | None = None) -> int:
        """How many passages, of all or, where words are private, of these owners contain the term or a
        form of it. With `most`, only whether there are more than that is exact.
        """
        match = match_expression([term])
        if match is None:
            return 0
        with self._database.reading() as connection:
            if self.private:
                return private_words.frequency(connection, owners, match, most)
            return int(connection.execute(_FREQUENCY, {"match": match}).scalar_one())

    def passages(self, owners: Sequence[str] = ()) -> int:
        """All passages, or the owners' where words are private: the base of `frequency`."""
        with self._database.reading() as connection:
            if self.private:
                return private_words.total(connection, owners)
            return int(connection.execute(select(func.count()).select_from(document_chunks)).scalar_one())


def _as_json(values: Sequence[str]) -> str:
    return json.dumps([clean(value) for value in values])
