"""All that there is to say of the search on somebody's documents, at one moment.

Brings together what is stored and what is done now. It does not know how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from companion.domain import SAMPLE_OWNER, KnownItem, Measurement
from companion.errors import NotFound
from companion.quality.judgement import Change, Judgement, changes, judge, misses

if TYPE_CHECKING:
    from companion.quality.study import Study, StudyStatus
    from companion.storage.store import Store

MOST = 300
"""Questions of a library, whatever the setting was."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A question whose passage is not among the first five."""

    item: KnownItem
    ranks: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Overview:
    """The questions as they are, and the measurements, newest first."""

    status: StudyStatus
    samples: bool
    """The sample library is measured, for want of anything of one's own."""
    items: tuple[KnownItem, ...]
    all_documents: int
    """That can be searched."""
    history: tuple[Measurement, ...]
    judgement: Judgement | None
    """Of the latest measurement, as all that follows."""
    changes: dict[str, Change]
    misses: tuple[Miss, ...]
    """Those whose question is still there, nearly found first."""

    @property
    def latest(self) -> Measurement | None:
        return self.history[0] if self.history else None

    @property
    def models(self) -> tuple[str, ...]:
        """Chat models that made questions."""
        return tuple(dict.fromkeys(item.made_by for item in self.items if item.made_by))

    @property
    def without_model(self) -> int:
        return sum(item.made_by is None for item in self.items)

    @property
    def documents(self) -> int:
        """That questions were made from."""
        return len({item.doc_id for item in self.items})


def overview(store: Store, study: Study, owner: str) -> Overview:
    whose = study.library_of(owner)
    history = tuple(store.quality.measurements(whose))
    items = tuple(store.quality.questions(whose, MOST))
    return Overview(
        status=study.status(owner),
        samples=whose == SAMPLE_OWNER,
        items=items,
        all_documents=store.documents.totals((whose,)).searchable,
        history=history,
        judgement=judge(history[0]) if history else None,
        changes=changes(history[0], history[1]) if len(history) > 1 else {},
        misses=_missed(history[0], items) if history else (),
    )


def item_of(store: Store, study: Study, owner: str, question_id: int) -> KnownItem:
    """A question of the owner's library. Raises `NotFound`."""
    for item in store.quality.questions(study.library_of(owner), MOST):
        if item.question_id == question_id:
            return item
    raise NotFound("This question is gone, because its passage has changed or is deleted.")


def _missed(measurement: Measurement, items: tuple[KnownItem, ...]) -> tuple[Miss, ...]:
    there = {item.question_id: item for item in items}
    return tuple(Miss(there[key], measurement.ranks[key]) for key in misses(measurement) if key in there)
