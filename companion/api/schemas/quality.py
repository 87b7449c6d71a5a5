"""The shapes of answers about quality.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from companion.api.schemas.shape import Shape
from companion.quality.judgement import Verdict


class Figures(Shape):
    """Means over all questions, 0 to 1."""

    recall_5: float
    mrr: float
    ndcg_10: float


class Measurement(Shape):
    measured_at: datetime
    questions: int
    by_model: int
    """Questions that a chat model made."""
    documents: int
    """They were made from."""
    passages: int
    light: str
    deep: str | None
    deep_passages: int
    """Those in the deep layer."""
    figures: dict[str, Figures]
    """By method, as `python -m companion evaluate` names them."""


class Judgement(Shape):
    """The search with the deep layer against the same search without it, counted in questions."""

    verdict: Verdict
    sentence: str
    questions: int
    gained: int
    lost: int
    higher: int
    lower: int


class Change(Shape):
    """Recall at 5 before and now, on the questions that both measurements have."""

    questions: int
    before: float
    now: float


class Miss(Shape):
    """A question whose passage is not among the first five."""

    question_id: int
    question: str
    made_by: str | None
    """Null: made without a model."""
    chunk_id: str
    """The passage it was made from."""
    doc_id: str
    document_name: str
    ranks: dict[str, int | None]
    """By method; null: not found at all."""


class Quality(Shape):
    activity: Literal["off", "idle", "waiting", "making", "measuring"]
    done: int
    total: int
    trouble: str | None
    samples: bool
    """The sample library is measured, for want of anything of one's own."""
    questions: int
    without_model: int
    """Those of them that were made without a chat model."""
    models: tuple[str, ...]
    latest: Measurement | None
    judgement: Judgement | None
    changes: dict[str, Change]
    """Of the latest measurement against the one before, by method."""
    misses: list[Miss]
    history: list[Measurement]
    """Newest first."""


class QualityWish(Shape):
    wish: Literal["measure"]
