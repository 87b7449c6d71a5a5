"""One measurement on the live library: every question asked in every way, in pieces, then the figures.

Knows what a measurement depends on. It does not know who made the questions, or when there is time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from companion.domain import KnownItem, LayerInfo, Measurement
from companion.library.layer import Scope
from companion.quality.ranks import Asker, Ranks, figures_of

if TYPE_CHECKING:
    from companion.library.library import Library
    from companion.storage.store import Store


class Measuring:
    """Begun, asked in pieces, and finished by one thread."""

    def __init__(
        self, store: Store, library: Library, owner: str, items: Sequence[KnownItem], embed_deep: str
    ) -> None:
        """`embed_deep`: the deep embedder to prefer, as in a search."""
        self.owner = owner
        self.items = items
        self.ranks: dict[int, Ranks] = {}
        self._store = store
        self._library = library
        self._embed_deep = embed_deep
        self._situation = situation_of(store, library, owner, items, embed_deep)
        self._asker = Asker(store, library, owner, items, embed_deep)

    def ask(self, proceed: Callable[[], bool]) -> bool:
        """Ask until `proceed` says no; returns whether all were asked. Raises `EmbedderError`."""
        for item in self.items[len(self.ranks) :]:
            if not proceed():
                return False
            self.ranks[item.question_id] = self._asker.ranks(item)
        return True

    def result(self) -> Measurement:
        deep = deep_layer(self._library, self.owner, self._embed_deep)
        return Measurement(
            owner=self.owner,
            measured_at=datetime.now(UTC),
            situation=self._situation,
            questions=len(self.items),
            by_model=sum(item.made_by is not None for item in self.items),
            documents=len({item.doc_id for item in self.items}),
            passages=self._store.documents.totals((self.owner,)).passages,
            light=self._library.layers.serving.embedder.identity.name,
            deep=deep.embedder if deep else None,
            deep_passages=deep.embedded if deep else 0,
            figures=figures_of(self.ranks),
            ranks=self.ranks,
        )


def situation_of(
    store: Store, library: Library, owner: str, items: Sequence[KnownItem], embed_deep: str
) -> str:
    """A key of questions, passages and layers. Raises `EmbedderError` while there is no light embedder."""
    deep = deep_layer(library, owner, embed_deep)
    parts = (
        [item.question_id for item in items],
        store.documents.totals((owner,)).passages,
        library.layers.light.embedder_id,
        (deep.embedder_id, deep.embedded) if deep else None,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def deep_layer(library: Library, owner: str, embed_deep: str) -> LayerInfo | None:
    """The one that a search would use."""
    found = library.layers.deep_for(Scope((owner,)), embed_deep)
    layers = library.layers.deep(owner) if found else []
    return next((each for each in layers if found and each.embedder_id == found[0].embedder_id), None)
