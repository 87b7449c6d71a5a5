"""The shapes of passages and of a search for them.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from companion.api.schemas.shape import Shape


class Place(Shape):
    page: int | None
    heading: str | None
    start_s: float | None
    end_s: float | None


class Passage(Shape):
    chunk_id: str
    doc_id: str
    chunk_index: int
    text: str
    text_hash: str
    place: Place
    tokens: int


class Hit(Shape):
    passage: Passage
    document_name: str
    score: float
    layers: tuple[str, ...]
    similarity: float | None


class SearchAnswer(Shape):
    hits: tuple[Hit, ...]
    layers: tuple[str, ...]
    took_ms: float
    notices: tuple[str, ...]
