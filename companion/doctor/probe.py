"""The index looked at from outside, while no app has it open: its sizes, then in a child.

It does not know how a torn index is mended; the next start of the app does that.
"""

from __future__ import annotations

from companion.config import Settings
from companion.doctor import findings
from companion.doctor.findings import Finding
from companion.errors import CompanionError, IndexUnusable
from companion.library.vectors import Sample, VectorIndex, collection_name, vector_id
from companion.storage.snapshot import has_content, is_current, snapshot
from companion.storage.store import Store

SAMPLES = 60
"""Vectors that the index must find again."""


def probe_index(settings: Settings) -> Finding:
    """Whoever calls holds the folder: two processes in one index stop each other."""
    index = VectorIndex(settings.index_dir)
    try:
        if not index.exists or not has_content(settings.database_path):
            return findings.index("none")
        with snapshot(settings.database_path) as state:
            if not is_current(state.revision):
                return findings.index("unknown")
            if state.trouble():
                return findings.index("unread")
        index.probe(_samples(settings))
    except IndexUnusable as error:
        return findings.index("sound", error.message)
    except CompanionError:
        return findings.index("unread")
    return findings.index("sound")


def _samples(settings: Settings) -> list[Sample]:
    """Stored vectors of every layer and owner, spread over everything."""
    store = Store.open(settings.database_path)
    try:
        return [
            sample
            for embedder_id in store.embeddings.embedders()
            for owner in store.documents.owners()
            for sample in _spread(store, embedder_id, owner)
        ]
    finally:
        store.close()


def _spread(store: Store, embedder_id: str, owner: str) -> list[Sample]:
    keys = store.embeddings.keys(embedder_id, owner)
    chosen = keys[:: max(1, len(keys) // SAMPLES)]
    vectors = store.embeddings.vectors(embedder_id, [chunk_id for chunk_id, _window in chosen])
    collection = collection_name(embedder_id, owner)
    return [
        Sample(collection, vector_id(chunk_id, window), vectors[chunk_id][window])
        for chunk_id, window in chosen
    ]
