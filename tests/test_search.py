"""Search with the real light embedder on a small judged set."""

import pytest

from companion.domain import LOCAL_OWNER
from companion.library.layer import Scope
from companion.library.library import Library
from companion.library.retriever import HybridRetriever, LexicalRetriever, VectorRetriever
from companion.library.vectors import VectorIndex
from companion.storage.store import Store
from tests.metrics import ndcg, read_set

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def judged(tmp_path_factory, shared, light_embedder):
    """The set ADI in a library of its own, and a way to score a retriever on it."""
    folder = tmp_path_factory.mktemp("adi")
    corpus, queries, grades = read_set(shared / "eval" / "adi")
    store = Store.open(folder / "companion.db")
    library = Library(
        store, light_embedder, VectorIndex(folder / "index"), originals=folder / "originals", max_bytes=10**6
    )
    for key, text in corpus.items():
        library.add(LOCAL_OWNER, f"{key}.txt", text.encode())
    library.open_index()
    yield library, queries, grades
    library.close()
    store.close()


def score(library: Library, kind, queries, grades) -> float:
    """Mean nDCG@10 of one retriever; a document's score is its best passage's."""
    documents = library._store.documents
    total = []
    for key in grades:
        retriever = kind(documents, Scope((LOCAL_OWNER,)), 20)
        nodes = retriever.retrieve(queries[key])
        names = [retriever.found[node.node.node_id][1].removesuffix(".txt") for node in nodes]
        total.append(ndcg(list(dict.fromkeys(names)), grades[key]))
    return sum(total) / len(total)


def test_words_and_meanings_together_beat_each_alone(judged):
    library, queries, grades = judged
    layer = library._light
    lexical = score(library, LexicalRetriever, queries, grades)
    light = score(library, lambda *a: VectorRetriever(*a, layer), queries, grades)
    hybrid = score(library, lambda *a: HybridRetriever(*a, layer), queries, grades)
    assert hybrid > max(lexical, light), (lexical, light, hybrid)
    assert hybrid > 0.4, hybrid


def test_index_and_exact_search_rank_alike(judged):
    library, queries, _grades = judged
    for question in list(queries.values())[:10]:
        indexed = [hit.passage.chunk_id for hit in library.search(LOCAL_OWNER, question).hits]
        library._light.serving = False
        exact = [hit.passage.chunk_id for hit in library.search(LOCAL_OWNER, question).hits]
        library._light.serving = True
        assert indexed == exact
