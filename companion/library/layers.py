"""All layers of the library: the light one, and the deep ones that fill up in idle time.

Knows which layer is in force, how the index is opened, compared and rebuilt for all of them, and
how a deep one grows. It does not know when there is time for that, or who embeds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from companion.domain import EVERYBODY, Embedder, EmbedderIdentity, LayerInfo, LayerKind, PassageEmbedder
from companion.errors import EmbedderError, IndexUnusable, StorageError
from companion.library.clean_mark import CleanMark
from companion.library.layer import Layer, Scope
from companion.library.pace import Pace
from companion.library.vectors import NotProbed, Sample, VectorIndex, collection_name, vector_id

if TYPE_CHECKING:
    from companion.domain import Passage
    from companion.storage.store import Store

log = logging.getLogger(__name__)

GRACE = timedelta(days=30)
"""A layer that nobody used for so long is dropped; until then the way back is free."""
MOST = 2
"""Layers of a kind: the one in force, and one other."""

FEW_GONE = 200
GONE_OF_ALL = 4
"""Deleted vectors stay in the index until it is made anew: when they are more than a few, and more than
one for each so many that are there."""

PROBE_SAMPLES = 60
SHORT_PROBE_SAMPLES = 8
"""Of each collection; after a clean stop only whether the index opens is in doubt."""
MOST_SAMPLES = 600
"""Of all collections: each takes 2.5 ms, and as long again on a busy machine."""

Leaving = list[tuple[Layer, list[str]]]
"""Vector ids that are to leave the index, by layer."""


@dataclass(frozen=True, slots=True)
class Light:
    """The light layer that answers, and who embeds questions and documents for it."""

    layer: Layer
    embedder: Embedder


class Layers:
    """Thread-safe, except that only one thread may fill layers that do not answer."""

    def __init__(self, store: Store, index: VectorIndex, light: Embedder) -> None:
        self._store = store
        self._index = index
        self.pace = Pace(store.settings)
        first = Layer(store.embeddings, index, self.pace, lambda: light.identity.embedder_id)
        self._light = Light(first, light)
        self._mark = CleanMark(store.settings, index)
        self._others: dict[str, Layer] = {}
        self._guard = threading.Lock()
        self._in_force: dict[str, str | None] = {}
        self._completed: dict[tuple[str, str], str | None] = {}
        self._whole: dict[tuple[str, str], bool] = {}
        self._looked_over: int | None = None
        self._unprobed = False

    @property
    def light(self) -> Layer:
        return self._light.layer

    @property
    def serving(self) -> Light:
        """To be asked once for each piece of work: another one may take over at any moment."""
        return self._light

    # --- the index ------------------------------------------------------------------------

    def open(self, proceed: Callable[[], bool]) -> None:
        """Probe the index in a child, open it, make it agree with SQLite; rebuild it if torn.

        Stored vectors answer exactly until this is done. `proceed` says no when the app is closing.
        """
        if self._index.open:
            # A second process beside us would break what it looks at.
            self.mend(proceed)
            return
        self._find_layers()
        clean = self._mark.take()
        try:
            if self._index.exists:
                samples = self.samples(SHORT_PROBE_SAMPLES if clean else PROBE_SAMPLES)
                self._index.probe(samples, thorough=not clean)
            self._connect(proceed)
            self._unprobed = False
        except NotProbed as error:
            if not self._unprobed:
                log.warning("the vector index cannot be looked at yet: %s", error)
            self._unprobed = True
        except IndexUnusable as unusable:
            log.warning("the vector index is set aside and rebuilt: %s", unusable.message)
            self._unprobed = False
            self._rebuild(proceed)

    def samples(self, count: int) -> list[Sample]:
        """Stored vectors which a healthy index must find: of the largest collections `count` each, of the
        others one where there are many of them."""
        owners = self._store.documents.owners()
        collections = [(layer, owner) for layer in self._all() for owner in owners]
        if len(collections) * count > MOST_SAMPLES:
            collections.sort(key=lambda each: each[0].count(each[1]), reverse=True)
        found: list[Sample] = []
        for (layer, owner), share in zip(collections, _shares(len(collections), count), strict=True):
            found += layer.samples(owner, share)
        return found

    def mend(self, proceed: Callable[[], bool]) -> None:
        """Rebuild the index if it failed since it was opened, or its files say that it will; open it if
        nobody could look at it before."""
        if self._unprobed:
            self.open(proceed)
            return
        try:
            self._index.check_sizes()
            healthy = all(layer.serving for layer in self._all())
        except IndexUnusable as unusable:
            log.warning("%s", unusable.message)
            healthy = False
        if not healthy:
            self._rebuild(proceed)

    def renew(self, proceed: Callable[[], bool]) -> None:
        """Rebuild an index that holds too much of what was deleted. For a quiet moment."""
        if self._looked_over == self.changes:
            return
        self._looked_over = self.changes
        there = self._store.embeddings.total()
        gone = self._index.elements() - there
        if gone > FEW_GONE + there // GONE_OF_ALL:
            log.info("the vector index is made anew without %d deleted vectors", gone)
            self._rebuild(proceed)

    def agree(self, proceed: Callable[[], bool]) -> None:
        """Compare index and SQLite where something was written, and drop what belongs to nobody.

        While nobody else writes: what comes in between may be taken for a difference.
        """
        try:
            for layer in self._all():
                if layer.serving and not layer.agreed:
                    differed = layer.heal(self._store.documents.owners(), proceed)
                    if differed:
                        log.warning("the vector index differed from the database in %d entries", differed)
            self._sweep()
        except IndexUnusable as unusable:
            log.warning("%s", unusable.message)
            self._stop_serving()

    @property
    def agreed(self) -> bool:
        """Nothing was written since index and SQLite were compared last, as far as the index answers."""
        return all(layer.agreed for layer in self._all() if layer.serving)

    @property
    def changes(self) -> int:
        """Grows with every write."""
        return sum(layer.changes for layer in self._all())

    def close(self) -> None:
        """Close the index, for good; the next start takes its word if it was whole."""
        whole = self._index.open and all(layer.serving for layer in self._all())
        self._index.close()
        if whole:
            # Without a mark the next start looks more closely, no more.
            with suppress(StorageError, OSError):
                self._mark.leave()

    def vector_ids(self, chunk_ids: Sequence[str]) -> Leaving:
        """What the index holds of these passages; to be asked before their rows go."""
        found = []
        for layer in self._all() if chunk_ids else ():
            try:
                vectors = layer.vectors(chunk_ids)
            except EmbedderError:
                continue
            names = [vector_id(key, window) for key, rows in vectors.items() for window in range(len(rows))]
            found.append((layer, names))
        return found

    def forget(self, owner: str, leaving: Leaving) -> None:
        """Take vectors out of the index; their rows are gone already."""
        for layer, names in leaving:
            if names:
                layer.forget(owner, names)

    # --- search ---------------------------------------------------------------------------

    def deep_for(self, scope: Scope, wanted: str | None = None) -> tuple[Layer, bool] | None:
        """The deep layer of a search, and whether all of the scope is in it.

        The one of the embedder `wanted`, if that was whole once, else the one in force.
        """
        owner = scope.owners[0]
        embedder_id = (wanted and self._once_complete(owner, wanted)) or self._in_force_for(owner)
        if embedder_id is None:
            return None
        whole = all(self._is_whole(embedder_id, each) for each in scope.owners)
        return self._layer(embedder_id), whole

    def changed(self) -> None:
        """Documents came, went or came back: what was whole may not be so any more, nor what was held."""
        self._whole.clear()
        for layer in self._all():
            layer.release()

    # --- layers that do not answer yet ----------------------------------------------------

    def waiting(self, embedder_id: str) -> list[tuple[str, str]]:
        """(doc_id, owner) of documents that wait for vectors of this embedder."""
        return self._store.layers.pending(embedder_id)

    def fill(
        self,
        embedder: PassageEmbedder,
        owner: str,
        passages: Sequence[Passage],
        proceed: Callable[[int], bool],
    ) -> bool:
        """Embed some passages for a layer that does not answer; returns whether all were done."""
        try:
            return self._layer(embedder.identity.embedder_id).fill(embedder, owner, passages, proceed)
        finally:
            self._whole.clear()

    def settle(self, embedder_id: str, waiting: Iterable[tuple[str, str]]) -> list[str]:
        """Documents that are whole are deep, and the layer is in force for all owners of whom nothing is
        `waiting`; returns those owners."""
        self._store.layers.deepen(embedder_id)
        left = {owner for _doc_id, owner in waiting}
        done = []
        for owner in self._store.documents.owners():
            if owner in left or self._store.layers.in_force(owner, "deep") == embedder_id:
                continue
            total, embedded = self._store.layers.coverage(embedder_id, owner)
            if not embedded:
                continue
            self._store.layers.put_in_force(owner, "deep", embedder_id)
            log.info("a deep layer of %d passages is in force", total)
            done.append(owner)
        if done:
            self._forget_choices()
            self._whole.clear()
        return done

    def begin_light(self, identity: EmbedderIdentity) -> None:
        """Another light layer is to be filled; the one that it takes the place of goes."""
        self._store.embeddings.register(identity)
        self._store.layers.begin(EVERYBODY, "light", identity.embedder_id)
        self.drop_unused("light", {identity.embedder_id})

    def take_over(self, embedder: Embedder) -> bool:
        """From now on this embedder answers: one row, then one attribute.

        False, and nothing happens, while a passage has no vectors of it. Not during an ingest.
        """
        new, old = embedder.identity.embedder_id, self.light.embedder_id
        if new != old and self.waiting(new):
            return False
        self._put_light_in_force(embedder.identity)
        with self._guard:
            before = self.light
            # A new layer in place of the old one, which may hold the old embedder.
            self._others[old] = self._made(old, before.serving)
            layer = self._others.pop(new) if new in self._others else self._made(new, before.serving)
            self._light = Light(layer, embedder)
        before.release()
        return True

    # --- going ----------------------------------------------------------------------------

    def drop_unused(self, kind: LayerKind, wanted: set[str], now: datetime | None = None) -> int:
        """Remove layers of which there are too many or that nobody used for long, and vectors that were
        begun and are not wanted any more; returns how many. `wanted` are embedders in use."""
        before = (now or datetime.now(UTC)) - GRACE
        owners = self._store.documents.owners()
        light = {layer.embedder_id for layer in self._store.layers.list(EVERYBODY)}
        if kind == "light":
            gone = [(EVERYBODY, each) for each in self._surplus(EVERYBODY, wanted, before)]
            for _everybody, embedder_id in gone:
                self._drop([owner for owner in owners if not self._is_deep(owner, embedder_id)], embedder_id)
        else:
            gone = [(owner, each) for owner in owners for each in self._surplus(owner, wanted, before)]
            gone += self._store.layers.strays(wanted | light)
            for owner, embedder_id in gone:
                # The same model may serve both.
                self._drop([owner] if embedder_id not in light else [], embedder_id)
        for owner, embedder_id in gone:
            self._store.layers.drop(owner, embedder_id)
        if gone:
            self._forget_choices()
        return len(gone)

    def _surplus(self, owner: str, wanted: set[str], before: datetime) -> list[str]:
        layers = self._store.layers.list(owner)
        kept = wanted | {layer.embedder_id for layer in layers if layer.in_force}
        # The one used last comes first.
        others = [layer for layer in layers if layer.embedder_id not in kept]
        return [
            layer.embedder_id
            for place, layer in enumerate(others, start=len(kept))
            if place >= MOST or (layer.left_at is not None and layer.left_at < before)
        ]

    def _is_deep(self, owner: str, embedder_id: str) -> bool:
        return any(layer.embedder_id == embedder_id for layer in self._store.layers.list(owner))

    def _drop(self, owners: Sequence[str], embedder_id: str) -> None:
        for owner in owners:
            self._store.layers.drop_vectors(owner, embedder_id)
            self._index.drop(collection_name(embedder_id, owner))
        if embedder_id not in self._store.embeddings.embedders():
            with self._guard:
                self._others.pop(embedder_id, None)

    def deep(self, owner: str) -> list[LayerInfo]:
        """All deep layers of an owner, the one in force first."""
        return [layer for layer in self._store.layers.list(owner) if layer.kind == "deep"]

    # --- inside ---------------------------------------------------------------------------

    def _all(self) -> list[Layer]:
        with self._guard:
            return [self.light, *self._others.values()]

    def _layer(self, embedder_id: str) -> Layer:
        with self._guard:
            if embedder_id not in self._others:
                # Nothing of a new space is in the index, so there is nothing to compare.
                self._others[embedder_id] = self._made(embedder_id, self.light.serving)
            return self._others[embedder_id]

    def _made(self, embedder_id: str, serving: bool) -> Layer:
        stored = self._store.embeddings
        return Layer(stored, self._index, self.pace, lambda: embedder_id, serving=serving)

    def _put_light_in_force(self, identity: EmbedderIdentity) -> None:
        if self._store.layers.in_force(EVERYBODY, "light") != identity.embedder_id:
            self._store.embeddings.register(identity)
            self._store.layers.put_in_force(EVERYBODY, "light", identity.embedder_id)

    def _find_layers(self) -> None:
        """A torn deep collection would end this process, so all are known before any is opened."""
        light = self.light.embedder_id
        for embedder_id in self._store.embeddings.embedders():
            if embedder_id != light:
                self._layer(embedder_id)

    def _connect(self, proceed: Callable[[], bool]) -> None:
        # Its layer answers whatever was in force before: there is no other that could.
        self._put_light_in_force(self._light.embedder.identity)
        self._index.connect()
        self._find_layers()
        # Asked for only now: what comes in from here on goes into the open index by itself.
        owners = self._store.documents.owners()
        for layer in self._all():
            differed = layer.heal(owners, proceed)
            if differed is None:
                return
            if differed:
                log.info("the vector index took %d changes from the database", differed)
            layer.serving = True
            layer.release()

    def _rebuild(self, proceed: Callable[[], bool]) -> None:
        # Raises while there is no embedder, before anything is thrown away.
        _ = self.light.embedder_id
        self._stop_serving()
        if proceed():
            self._index.set_aside()
            self._connect(proceed)

    def _stop_serving(self) -> None:
        for layer in self._all():
            layer.serving = False

    def _sweep(self) -> None:
        """Drop collections of owners and embedders of whom nothing is left."""
        there = self._index.collections()
        owners = self._store.documents.owners()
        known = {name for layer in self._all() for name in layer.collections(owners)}
        for name in there:
            if name not in known:
                self._index.drop(name)

    def _in_force_for(self, owner: str) -> str | None:
        if owner not in self._in_force:
            self._in_force[owner] = self._store.layers.in_force(owner, "deep")
        return self._in_force[owner]

    def _once_complete(self, owner: str, name: str) -> str | None:
        key = (owner, name)
        if key not in self._completed:
            self._completed[key] = self._store.layers.once_complete(owner, "deep", name)
        return self._completed[key]

    def _forget_choices(self) -> None:
        """Another layer is in force, or one is gone."""
        self._in_force.clear()
        self._completed.clear()

    def _is_whole(self, embedder_id: str, owner: str) -> bool:
        key = (embedder_id, owner)
        if key not in self._whole:
            total, embedded = self._store.layers.coverage(embedder_id, owner)
            self._whole[key] = total == embedded
        return self._whole[key]


def _shares(collections: int, count: int) -> Iterator[int]:
    """How many of `MOST_SAMPLES` each collection gets: `count` as long as one is left for each behind it."""
    left = MOST_SAMPLES
    for behind in reversed(range(collections)):
        share = min(left, max(1, min(count, left - behind)))
        left -= share
        yield share
