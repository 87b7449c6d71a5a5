"""Search with the real light embedder on a small judged set."""

import pytest

from companion.domain import LOCAL_OWNER
from companion.inference.embedders import OnnxEmbedder
from companion.library.chunking import CHUNKER_VERSION
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.quality.judged import read_judged_set
from companion.quality.measures import Scorer
from companion.storage.store import Store

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def judged(tmp_path_factory, shared, light_embedder):
    """The set ADI in a library of its own."""
    folder = tmp_path_factory.mktemp("adi")
    adi = read_judged_set(shared / "eval" / "adi")
    store = Store.open(folder / "companion.db")
    library = Library(
        store, light_embedder, VectorIndex(folder / "index"), originals=folder / "originals", max_bytes=10**6
    )
    for key, text in adi.corpus.items():
        library.add(LOCAL_OWNER, f"{key}.txt", text.encode())
    library.open_index()
    yield library, adi.questions, adi.grades
    library.close()
    store.close()


def test_index_and_exact_search_rank_alike(judged):
    library, queries, _grades = judged
    for question in list(queries.values())[:10]:
        indexed = [hit.passage.chunk_id for hit in library.search(LOCAL_OWNER, question).hits]
        library.layers.light.serving = False
        exact = [hit.passage.chunk_id for hit in library.search(LOCAL_OWNER, question).hits]
        library.layers.light.serving = True
        assert indexed == exact


def test_neither_half_a_deep_layer_nor_a_whole_one_does_harm(judged, deep_folder, weights_settings):
    library, queries, grades = judged
    embedder = OnnxEmbedder.load(
        deep_folder,
        name="all-mpnet-base-v2",
        cache_dir=weights_settings.weights_folder / "onnx",
        chunker_version=CHUNKER_VERSION,
    )
    documents = library.documents(LOCAL_OWNER)

    def deepen(part):
        for document in part:
            library.layers.fill(
                embedder, LOCAL_OWNER, library.passages(LOCAL_OWNER, document.doc_id), lambda done: True
            )

    light = found_by_search(library, queries, grades)
    deepen(documents[::2])
    # In force from an earlier completion: what waits came later.
    library._store.layers.put_in_force(LOCAL_OWNER, "deep", embedder.identity.embedder_id)
    library.layers._in_force.clear()
    half = found_by_search(library, queries, grades)
    deepen(documents[1::2])
    whole = found_by_search(library, queries, grades)
    assert half > light - 0.008, (light, half)
    assert whole > light - 0.003, (light, whole)
    assert "deep" in library.search(LOCAL_OWNER, next(iter(queries.values()))).layers


def found_by_search(library, queries, grades) -> float:
    """Mean nDCG@10 of the search as everybody uses it."""
    run = {}
    for key in grades:
        hits = library.search(LOCAL_OWNER, queries[key], top_k=20).hits
        # A document's score is that of its best passage, which comes first.
        run[key] = {hit.document_name.removesuffix(".txt"): hit.score for hit in reversed(hits)}
    return Scorer(grades).quality(run).ndcg_10
