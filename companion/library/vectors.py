"""The vector index: Chroma as a cache that can be thrown away, and the probe that tells when.

Knows ids and vectors. It does not know texts, owners' rights or SQLite: whoever calls brings
the stored vectors to rebuild from. Chroma's files are not crash-safe, so they are opened by a
child first (`python -m companion.library.vectors`), which may hang, crash or grow in our place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import select
import shutil
import struct
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from companion.child import Child, follow_parent, limit_resources
from companion.errors import IndexUnusable
from companion.library.index_files import blank_empty_places, check_sizes, elements, graph_fault

if TYPE_CHECKING:
    from companion.domain import Vectors

log = logging.getLogger(__name__)

PIECE = 32
"""Vectors per write. Chroma holds the interpreter's lock for a whole call: 32 take about 75 ms."""
READ_PIECE = 2000
PROBE_TIMEOUT_S = 30.0
PROBE_COLLECTION_S = 0.2
"""More for each collection: to open one takes 25 ms on a busy machine."""
PROBE_MEMORY = 8 * 1024**3
PROBE_FILE_GROWTH = 256 * 1024**2
PROBE_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored vector that the index must find again."""

    collection: str
    vector_id: str
    vector: Vectors


class NotProbed(Exception):
    """No process could be started, which says nothing of the index."""


def collection_name(embedder_id: str, owner: str) -> str:
    """One collection per space and owner: spaces never mix, and no filter is ever needed."""
    return f"{embedder_id}-{hashlib.sha256(owner.encode()).hexdigest()[:16]}"


def vector_id(chunk_id: str, window: int) -> str:
    return f"{chunk_id}#{window}"


class VectorIndex:
    """Chroma in one folder per generation: a torn one is left behind, never repaired in place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client: Any = None
        self._collections: dict[str, Any] = {}
        self._graphs: set[Path] = set()
        self._writing = threading.RLock()
        self._closed = False

    @property
    def open(self) -> bool:
        return self._client is not None

    def warm(self) -> None:
        """Import Chroma, which takes a second."""
        import chromadb  # noqa: F401

    @property
    def exists(self) -> bool:
        """Raises `IndexUnusable` where that cannot be seen."""
        with translated():
            return self.generation().exists()

    def generation(self) -> Path:
        """Folder of the newest generation; the first one if there is none."""
        found = self._generations()
        return found[-1] if found else self._folder / "0001"

    def probe(self, samples: Sequence[Sample], *, thorough: bool = True) -> None:
        """Raises `IndexUnusable` if the newest generation is torn or forgetful, `NotProbed` if nobody
        could look.

        Without `thorough`, for an index that was closed in good order, it only has to open and to
        find the samples; else all of its files are read, and every vector.
        """
        self.check_sizes()
        check_in_child(self.generation(), samples, thorough=thorough)

    def check_sizes(self) -> None:
        """A quick look at the files, also while they are in use. Raises `IndexUnusable`."""
        check_sizes(self.generation())

    def elements(self) -> int:
        """Vectors in the files, with those that were deleted and are only marked; 0 if they cannot be
        counted, as while they are written."""
        try:
            return elements(self.generation())
        except (OSError, struct.error):
            return 0

    def connect(self) -> None:
        """Open the newest generation in this process; probe it before."""
        import chromadb
        from chromadb.config import Settings

        generation = self.generation()
        with self._writing, translated():
            if self._closed:
                raise IndexUnusable("The app is closing.")
            generation.mkdir(parents=True, exist_ok=True)
            self._blank_new_graphs(generation)
            self._client = chromadb.PersistentClient(
                path=str(generation), settings=Settings(anonymized_telemetry=False)
            )
            self._remove_older()

    def set_aside(self) -> None:
        """Leave the newest generation and begin another; the old files are removed."""
        with self._writing, translated():
            torn = self.generation()
            self._disconnect()
            if self._folder.is_file():
                # Whatever that was: this is the place of a cache.
                self._folder.unlink()
            fresh = self._folder / f"{int(torn.name) + 1:04d}"
            fresh.mkdir(parents=True)
            self._remove_older()

    def upsert(self, collection: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Write vectors, shape (len(ids), dimension), in small pieces."""
        for start in range(0, len(ids), PIECE):
            piece = slice(start, start + PIECE)
            with self._writing, translated():
                self._collection(collection).upsert(ids=list(ids[piece]), embeddings=vectors[piece])
                self._blank_new_graphs(self.generation())
            # Lets threads that waited for the interpreter's lock go first.
            time.sleep(0.001)

    def delete(self, collection: str, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), PIECE):
            with self._writing, translated():
                self._collection(collection).delete(ids=list(ids[start : start + PIECE]))

    def collections(self) -> list[str]:
        """Names of all collections; none while the index is closed."""
        with self._writing, translated():
            return [known.name for known in self._client.list_collections()] if self.open else []

    def drop(self, collection: str) -> None:
        """Forget a collection whole; harmless where there is none."""
        if collection in self.collections():
            with self._writing, translated():
                self._client.delete_collection(collection)
                self._collections.pop(collection, None)

    def search(self, collection: str, query: Vectors, count: int) -> list[tuple[str, float]]:
        """Nearest windows as (chunk id, cosine), best first; a passage may come several times."""
        with translated():
            found = self._collection(collection).query(
                query_embeddings=query[None, :], n_results=count, include=["distances"]
            )
        return [
            (key.rpartition("#")[0], 1.0 - float(distance))
            for key, distance in zip(found["ids"][0], found["distances"][0], strict=True)
        ]

    def ids(self, collection: str) -> set[str]:
        """All vector ids of a collection."""
        found: set[str] = set()
        with translated():
            while page := self._collection(collection).get(include=[], limit=READ_PIECE, offset=len(found))[
                "ids"
            ]:
                found.update(page)
        return found

    def close(self) -> None:
        """For good; nothing opens it again."""
        with self._writing:
            self._closed = True
            self._disconnect()

    def _generations(self) -> list[Path]:
        """Oldest first."""
        found = [path for path in self._folder.glob("[0-9]*") if path.is_dir() and path.name.isdecimal()]
        return sorted(found, key=lambda path: int(path.name))

    def _remove_older(self) -> None:
        """A kill may have left them, as large as a torn one can be."""
        for old in self._generations()[:-1]:
            shutil.rmtree(old, ignore_errors=True)

    def _blank_new_graphs(self, generation: Path) -> None:
        """Right after a first small write: Chroma touches the files again only after a thousand."""
        new = [folder for folder in generation.glob("*/") if folder not in self._graphs]
        for folder in new:
            blank_empty_places(folder)
        self._graphs.update(new)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._collections.clear()
        if client is not None:
            # A torn one may refuse even this.
            with suppress(IndexUnusable), translated():
                client.close()

    def _collection(self, name: str) -> Any:
        client = self._client
        if client is None:
            raise IndexUnusable("The vector index is closed.")
        if name not in self._collections:
            self._collections[name] = open_collection(client, name)
        return self._collections[name]


def open_collection(client: Any, name: str) -> Any:
    # Without an explicit None, Chroma would fetch an embedding model of its own.
    return client.get_or_create_collection(
        name, embedding_function=None, configuration={"hnsw": {"space": "cosine", "ef_search": 400}}
    )


class translated:
    """Turns whatever Chroma raises into `IndexUnusable`; its Rust part has no common base."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, IndexUnusable):
            raise IndexUnusable("The vector index cannot be used; it is being rebuilt.") from error


def check_in_child(generation: Path, samples: Sequence[Sample], *, thorough: bool) -> None:
    """Let a child open the generation and find the samples; it is killed when it takes too long.

    Raises `NotProbed` when there can be no child at this moment.
    """
    try:
        child = Child("companion.library.vectors", [str(generation), *(["thorough"] if thorough else [])])
    except OSError as error:
        raise NotProbed(error.strerror or str(error)) from error
    try:
        child.stdin.write("".join(_to_line(sample) for sample in samples).encode())
        child.stdin.close()
        # A torn index may hang for ever at open.
        readable, _, _ = select.select([child.stdout], [], [], _patience_s(generation))
        answer = child.stdout.readline().decode().strip() if readable else "it does not open"
    except BrokenPipeError:
        answer = "it crashes at open"
    finally:
        child.kill()
    if answer != "ok":
        raise IndexUnusable(f"The vector index is torn: {answer or 'it crashes at open'}.")


def _patience_s(generation: Path) -> float:
    """A folder for the graph of each collection."""
    return PROBE_TIMEOUT_S + PROBE_COLLECTION_S * sum(1 for _ in generation.glob("*/"))


def _to_line(sample: Sample) -> str:
    return (
        json.dumps([sample.collection, sample.vector_id, [round(float(x), 5) for x in sample.vector]]) + "\n"
    )


def _forgotten(client: Any, lines: Iterable[str]) -> str | None:
    """What is wrong with the index, as half a sentence; None when every sample is found."""
    for line in lines:
        name, key, vector = json.loads(line)
        query = np.asarray(vector, dtype=np.float32)[None, :]
        collection = open_collection(client, name)
        if not collection.get(ids=[key], include=[])["ids"]:
            # Missing, not torn: a kill between the two stores. Comparing them heals that.
            continue
        found = collection.query(query_embeddings=query, n_results=PROBE_NEIGHBOURS, include=["distances"])
        twins = [d for d in found["distances"][0] if d < 1e-3]
        # Many equal passages may fill the list with the sample's twins.
        if key not in found["ids"][0] and len(twins) < PROBE_NEIGHBOURS:
            return "it has lost vectors"
    return None


def _unreadable(client: Any) -> str | None:
    """Asks for every vector: the list of ids is in SQLite and whole, whatever the graph has lost."""
    for collection in client.list_collections():
        read = 0
        while True:
            page = collection.get(include=["embeddings"], limit=READ_PIECE, offset=read)
            if len(page["embeddings"]) != len(page["ids"]):
                return "it has lost vectors"
            if not page["ids"]:
                break
            read += len(page["ids"])
    return None


def _fault(generation: Path, lines: Sequence[str], *, thorough: bool) -> str | None:
    """What is wrong with a generation, as half a sentence."""
    if thorough and (fault := graph_fault(generation)):
        return fault
    try:
        with translated():
            return _fault_of_opened(generation, lines, thorough=thorough)
    except IndexUnusable as unusable:
        return str(unusable.__cause__).replace("\n", " ")


def _fault_of_opened(generation: Path, lines: Sequence[str], *, thorough: bool) -> str | None:
    import chromadb
    from chromadb.config import Settings

    client: Any = chromadb.PersistentClient(
        path=str(generation), settings=Settings(anonymized_telemetry=False)
    )
    try:
        return (_unreadable(client) if thorough else None) or _forgotten(client, lines)
    finally:
        client.close()


def _probe_main() -> None:
    follow_parent()
    generation = Path(sys.argv[1])
    largest = max((path.stat().st_size for path in generation.rglob("*") if path.is_file()), default=0)
    cpu_s = int(2 * _patience_s(generation))
    limit_resources(memory_bytes=PROBE_MEMORY, cpu_s=cpu_s, file_bytes=largest + PROBE_FILE_GROWTH)
    # Read to the end before the index is opened: the parent would hang on a full pipe with us.
    samples = sys.stdin.readlines()
    fault = _fault(generation, samples, thorough="thorough" in sys.argv[2:])
    sys.stdout.write((fault or "ok") + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _probe_main()
