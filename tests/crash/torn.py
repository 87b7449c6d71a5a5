"""Torn index files: any mix of old and new ones, or one that is missing, empty or halved.

`python -m tests.crash.torn FOLDER STATE…` opens the library in each state and says what came of it; it
runs in a process of its own, with a limit on the size of files, for some states write terabytes.
"""

import itertools
import resource
import shutil
import struct
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from companion.domain import Document, DocumentState
from companion.errors import CompanionError
from companion.library import vectors
from companion.library.clean_mark import SETTING
from companion.library.library import Library
from companion.library.vectors import VectorIndex, vector_id
from companion.storage.store import Store
from tests.fakes import FakeDeep, FakeEmbedder, passage

ME = "local"
FILES = ("data_level0.bin", "header.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")
MIXES = ["".join(mix) for mix in itertools.product("no", repeat=len(FILES))]
"""For each file whether it is the new or the old one."""
DAMAGES = [f"{file} {damage}" for file in FILES for damage in ("missing", "empty", "halved")]
STATES = [*MIXES, *DAMAGES, "folder missing"]
LAYERS = ("light", "deep")
SOME = [
    "light nnnnn", "light ooooo", "light nnnon", "light onnnn", "light nnnno", "light data_level0.bin halved",
    "light header.bin empty", "light index_metadata.pickle missing", "light folder missing",
    "deep nonnn", "deep link_lists.bin halved", "deep index_metadata.pickle empty",
]  # fmt: skip
BEFORE, AFTER, MORE = 110, 100, 300
LARGEST_FILE = 200_000_000
PER_VECTOR = 20_000
"""Bytes on the disk for each vector of this small index, its log and its first places included."""


def open_eagerly(client, name):
    """As the product does, but written to the files after 20 vectors, not after 1,000."""
    settings = {"space": "cosine", "ef_search": 400, "batch_size": 10, "sync_threshold": 20}
    return client.get_or_create_collection(name, embedding_function=None, configuration={"hnsw": settings})


class Shelf:
    """A library without a reader: passages come as they are."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store.open(folder / "companion.db")
        self.light, self.deep = FakeEmbedder(), FakeDeep()
        self.deep.start()
        self.index = VectorIndex(folder / "index")
        self.library = Library(
            self.store, self.light, self.index, originals=folder / "originals", max_bytes=1_000_000
        )
        self.library.open_index()

    def write(self, doc_id, count, owner=ME):
        """A document of so many passages, in both layers."""
        found = add_passages(self.store, doc_id, count, owner)
        self.library.layers.light.fill(self.light, owner, found, lambda _done: True)
        self.library.layers.fill(self.deep, owner, found, lambda _done: True)
        self.library.layers.settle(self.deep.identity.embedder_id, ())

    def close(self):
        self.library.close()
        self.store.close()


def add_passages(store, doc_id, count, owner=ME):
    """A document of so many passages, without vectors; returns the passages."""
    now = datetime.now(UTC)
    document = Document(
        doc_id=doc_id, owner=owner, name=f"{doc_id}.txt", source_type="text", source_path=None,
        content_hash=doc_id, size=1, state=DocumentState.READING, created_at=now, updated_at=now,
    )  # fmt: skip
    store.documents.add(document)
    texts = [f"{doc_id} keeps the secret word{number}" for number in range(count)]
    found = [passage(number, text, doc=doc_id) for number, text in enumerate(texts)]
    store.passages.write(document, "text", (), found)
    store.documents.set_state(doc_id, DocumentState.SEARCHABLE)
    return found


def prepare(folder):
    """Two moments of one index below `folder`: `old`, and `new` some writes later."""
    usual, vectors.open_collection = vectors.open_collection, open_eagerly
    try:
        shelf = Shelf(folder / "new")
        shelf.write("first", BEFORE)
        shelf.close()
        shutil.copytree(folder / "new", folder / "old")
        shelf = Shelf(folder / "new")
        shelf.write("second", AFTER)
        # As a kill leaves it: nobody says that the index was closed well.
        shelf.close()
        store = Store.open(folder / "new" / "companion.db")
        store.settings.save({SETTING: None})
        store.close()
    finally:
        vectors.open_collection = usual


def tear(folder, state):
    """A data folder in this state, beside `old` and `new`."""
    layer, damage = state.split(" ", 1)
    target = folder / state
    shutil.copytree(folder / "new", target)
    segment, old = segment_of(target, layer), segment_of(folder / "old", layer)
    if damage == "folder missing":
        shutil.rmtree(segment)
    elif damage in MIXES:
        for file, age in zip(FILES, damage, strict=True):
            if age == "o":
                shutil.copyfile(old / file, segment / file)
    else:
        spoil(segment / damage.split()[0], damage.split()[1])
    return target


def segment_of(folder, layer):
    """The files of a layer's collection, known by the size of their elements."""
    wanted = {"light": FakeEmbedder(), "deep": FakeDeep()}[layer].identity.dimension
    for header in folder.glob("index/*/*/header.bin"):
        label, offset = struct.unpack_from("<QQ", header.read_bytes(), 36)
        if (label - offset) // 4 == wanted:
            return header.parent
    raise AssertionError(f"no files of the {layer} layer in {folder}")


def spoil(file, damage):
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[: len(content) // 2] if damage == "halved" else b"")


def fault(folder):
    """What is not well after a start on this folder, in words; None if it is healthy and complete."""
    shelf = Shelf(folder)
    try:
        return _fault(shelf) or _fault_after_more(shelf)
    except CompanionError as error:
        return f"{type(error).__name__}: {error.message}"
    finally:
        shelf.close()


def _fault(shelf):
    if not all(layer.serving for layer in (shelf.library.layers.light, _deep(shelf))):
        return "the index does not answer"
    for layer, embedder in ((shelf.library.layers.light, shelf.light), (_deep(shelf), shelf.deep)):
        (collection,) = layer.collections([ME])
        keys = shelf.store.embeddings.keys(embedder.identity.embedder_id, ME)
        if shelf.index.ids(collection) != {vector_id(*key) for key in keys}:
            return "the ids of index and database differ"
        stored = layer.vectors([key for key, _window in keys])
        lost = [key for key, rows in stored.items() if not _finds(shelf.index, collection, key, rows[0])]
        if lost:
            return f"{len(lost)} of {len(keys)} passages are not found"
    size = sum(path.stat().st_size for path in (shelf.folder / "index").rglob("*") if path.is_file())
    if size > PER_VECTOR * 2 * len(keys):
        return f"the index has {size} bytes"
    return None


def _deep(shelf):
    return shelf.library.layers._layer(shelf.deep.identity.embedder_id)


def _finds(index, collection, key, vector):
    return any(found == key and cosine > 0.99 for found, cosine in index.search(collection, vector, 5))


def _fault_after_more(shelf):
    """Some torn ones answer well at first and grow without end when they are written."""
    shelf.write("third", MORE)
    found = _fault(shelf)
    return found and f"after more was written {found}"


def main():
    folder, *states = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    for state in states:
        begun = time.monotonic()
        target = tear(Path(folder), state)
        print(f"{state}\t{fault(target) or 'ok'}\t{time.monotonic() - begun:.1f} s", flush=True)
        shutil.rmtree(target)


if __name__ == "__main__":
    main()
