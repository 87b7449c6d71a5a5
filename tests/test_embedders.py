"""The light embedder gives the vectors of sentence-transformers, without torch in this process."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from companion.config import REPOSITORY
from companion.domain import EmbedderIdentity
from companion.errors import EmbedderError, EmbedderWarming
from companion.inference.embedders import OnnxEmbedder, plan_batches
from companion.inference.export import exported
from companion.inference.late_embedder import LateEmbedder
from companion.inference.recipe import read_recipe
from companion.inference.weight_hash import weight_hash
from tests.waiting import until

TEXTS = [
    "",
    "yes",
    "What is hybrid mode?",
    "Grüße aus Köln: 東京タワー, 🙂, naïve café",
    "The ferry waited in the rain for nobody in particular. " * 5,
    "A much longer text, which the model cannot read to its end. " * 60,
]

REFERENCE = """
import json, sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = json.loads(sys.argv[2])
answer = {}
for kind in ("query", "document"):
    encode = getattr(model, f"encode_{kind}")
    answer[kind] = encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
print("ANSWER" + json.dumps(answer))
"""


def reference(run_python, folder):
    """Vectors of TEXTS as sentence-transformers makes them, by kind."""
    output = run_python(REFERENCE, folder, json.dumps(TEXTS))
    return {kind: np.array(v) for kind, v in json.loads(output.partition("ANSWER")[2]).items()}


def assert_same(embedder, expected):
    passages = embedder.embed_passages(TEXTS)
    queries = np.stack([embedder.embed_query(text) for text in TEXTS])
    for ours, theirs in ((passages, expected["document"]), (queries, expected["query"])):
        assert ours.dtype == np.float32
        assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        assert (ours * theirs).sum(axis=1).min() >= 0.9999


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="session")
def tiny(tiny_folder, tiny_cache):
    return OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tiny_cache, threads=1)


def home_of(folder, cache):
    return cache / weight_hash(folder, cache)[:32]


# --- the vectors ------------------------------------------------------------------------


def test_the_light_embedder_gives_the_vectors_of_sentence_transformers(
    light_embedder, light_folder, run_python
):
    assert_same(light_embedder, reference(run_python, light_folder))


def test_prompts_and_cls_pooling_are_those_of_the_folder(tiny, tiny_folder, run_python):
    assert (tiny.identity.pooling, tiny.identity.max_tokens, tiny.identity.dimension) == ("cls", 48, 32)
    assert (tiny.identity.query_prompt, tiny.identity.passage_prompt) == ("find this: ", "a text: ")
    assert_same(tiny, reference(run_python, tiny_folder))
    question = tiny.embed_query("hybrid mode")
    # Prompts, words and pooling all matter to this model, else it would prove nothing.
    assert question @ tiny.embed_passages(["hybrid mode"])[0] < 0.9
    assert question @ tiny.embed_query("another text") < 0.9


def test_last_token_pooling_is_that_of_the_folder(tiny, tiny_folder, tmp_path, run_python):
    """As 7B-class embedders pool."""
    folder = shutil.copytree(tiny_folder, tmp_path / "last")
    config = folder / "1_Pooling" / "config.json"
    config.write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "lasttoken"}))
    embedder = OnnxEmbedder.load(folder, name="last", cache_dir=tmp_path / "cache", threads=1)
    assert_same(embedder, reference(run_python, folder))
    assert embedder.embed_query("hybrid mode") @ tiny.embed_query("hybrid mode") < 0.99


def test_the_order_of_the_texts_is_kept_whatever_their_lengths(light_embedder):
    texts = [f"{number} " + "word " * (number * 7 % 50) for number in range(70)]
    together = light_embedder.embed_passages(texts)
    for number in (0, 13, 69):
        assert together[number] @ light_embedder.embed_passages([texts[number]])[0] > 0.9999


def test_no_texts_give_no_rows(light_embedder):
    assert light_embedder.embed_passages([]).shape == (0, 384)


def test_meaning_is_near_meaning(light_embedder):
    question = light_embedder.embed_query("How do I put a file into the library?")
    near, far = light_embedder.embed_passages(["Upload documents with the button.", "Whales sing in winter."])
    assert question @ near > question @ far + 0.2


def test_several_threads_may_embed_at_once(light_embedder):
    expected = light_embedder.embed_passages(TEXTS)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(light_embedder.embed_passages(TEXTS)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.allclose(result, expected, atol=1e-5) for result in results)


def test_torch_never_enters_the_process_that_embeds(light_folder, weights_settings, run_python):
    script = """
import sys
from pathlib import Path
from companion.inference import weights
from companion.inference.embedders import OnnxEmbedder
embedder = OnnxEmbedder.load(Path(sys.argv[1]), name="light", cache_dir=Path(sys.argv[2]))
embedder.embed_passages(embedder.windows("some words " * 500))
heavy = {"torch", "transformers", "sentence_transformers", "gradio"} & set(sys.modules)
print("HEAVY", sorted(heavy))
"""
    cache = weights_settings.weights_folder / "onnx"
    assert "HEAVY []" in run_python(script, light_folder, cache)


def test_onnxruntime_waits_until_an_embedder_is_opened(run_python):
    script = """
import sys
import companion.inference.embedders
print("LOADED", "onnxruntime" in sys.modules)
"""
    assert "LOADED False" in run_python(script)


def test_the_export_child_has_no_page_in_it(run_python):
    script = """
import sys
import companion.inference.embedder_process
print("LOADED", {"gradio", "torch"} & set(sys.modules))
"""
    assert "LOADED set()" in run_python(script)


# --- windows ----------------------------------------------------------------------------

# Each with a running number, so that a window has one place only.
LONG = [
    "".join(f"The ferry {number} waited, in the rain; nobody came. " for number in range(80)),
    "".join(
        f"unbelievably{number}supercalifragilistic antidisestablishmentarianism " for number in range(60)
    ),
    "".join(f"東京タワー{number}は高い。" for number in range(120)),
    "x" * 3000,
    # Words longer than a small window: a piece of one may have more tokens than it had inside the word.
    " ".join("".join(random.Random(number).choices("bcdfghjklmnpqrstvwxz", k=95)) for number in range(60)),
    "".join(f"🙂🙃{number} " for number in range(700)),
    "".join(f"  spaces {number}  \n\n\t and\u200bzero width \x00 signs  " for number in range(90)),
]


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("which", ["light_embedder", "tiny"])
def test_windows_cover_the_text_and_the_model_reads_each_whole(text, which, request):
    embedder = request.getfixturevalue(which)
    windows = embedder.windows(text)
    position = reached = 0
    for window in windows:
        position = text.index(window, position)
        assert position <= reached, "a gap between two windows"
        reached = max(reached, position + len(window))
        count = len(embedder._windows._tokenizer.encode(embedder.identity.passage_prompt + window).ids)
        assert count <= embedder.identity.max_tokens
    assert reached == len(text)


def test_a_text_that_fits_is_one_window(light_embedder):
    assert light_embedder.windows("A short text. ") == ["A short text. "]
    assert light_embedder.windows("") == [""]


def test_windows_overlap_a_little_and_begin_with_whole_words(light_embedder):
    text = " ".join(f"word{number}" for number in range(600))
    windows = light_embedder.windows(text)
    words = set(text.split())
    for before, after in itertools.pairwise(windows):
        shared = set(before.split()) & set(after.split())
        assert 0 < len(shared) < len(before.split()) / 3
        assert after.split()[0] in words
    tokens = len(light_embedder._windows._tokenizer.encode(text).ids)
    assert len(windows) < 2 * tokens / light_embedder.identity.max_tokens


def test_batches_hold_every_row_once_longest_first_and_stay_small():
    lengths = [5, 256, 1, 256, 90, 3000] * 20
    batches = plan_batches(lengths)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 256
        assert len(batch) <= 16
    assert plan_batches([]) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_batches_side_by_side_give_each_text_its_own_vector(tiny_folder, tiny_cache, threads):
    embedder = OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tiny_cache, threads=threads)
    texts = [f"text {number} " + "and more " * (number % 40) for number in range(60)]
    alone = np.stack([embedder.embed_passages([text])[0] for text in texts])
    assert np.allclose(embedder.embed_passages(texts), alone, atol=1e-5)


def test_a_batch_that_breaks_off_elsewhere_is_an_error_after_all_have_landed(tiny_folder, tiny_cache):
    embedder = OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tiny_cache, threads=3)
    session = BreakingSession(embedder._session)
    embedder._session = session
    with pytest.raises(EmbedderError, match="broke off"):
        embedder.embed_passages(["long enough for a batch of its own " * 30] * 12)
    assert session.flying == 0


class BreakingSession:
    """A real session whose second flight fails, as one without memory does."""

    def __init__(self, session):
        self.session = session
        self.flights = 0
        self.flying = 0

    def run(self, outputs, feeds):
        return self.session.run(outputs, feeds)

    def run_async(self, outputs, feeds, callback, data):
        self.flights += 1
        self.flying += 1
        fails = self.flights == 2

        def landed(results, given, error):
            self.flying -= 1
            callback([] if fails else results, given, "out of memory" if fails else error)

        self.session.run_async(outputs, feeds, landed, data)


# --- the export -------------------------------------------------------------------------


def test_a_second_start_exports_nothing(tiny, tiny_folder, tiny_cache):
    before = (home_of(tiny_folder, tiny_cache) / "model.onnx").stat().st_mtime_ns
    again = OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tiny_cache, may_export=False)
    assert again.identity == tiny.identity
    assert (home_of(tiny_folder, tiny_cache) / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "model.json"])
def test_a_torn_export_is_noticed(tiny, tiny_folder, tiny_cache, tmp_path, file):
    home = tmp_path / home_of(tiny_folder, tiny_cache).name
    shutil.copytree(home_of(tiny_folder, tiny_cache), home)
    OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tmp_path, may_export=False)
    data = bytearray((home / file).read_bytes())
    data[len(data) // 2] ^= 1
    (home / file).write_bytes(data[:-1])
    with pytest.raises(EmbedderError, match="not prepared"):
        OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tmp_path, may_export=False)


def test_a_torn_export_is_made_again(tiny_folder, tmp_path):
    home = home_of(tiny_folder, tmp_path)
    home.mkdir(parents=True)
    (home / "model.onnx").write_bytes(b"torn")
    embedder = OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tmp_path)
    assert embedder.embed_query("hello").shape == (32,)


def test_two_processes_that_start_at_once_share_one_export(tiny_folder, tmp_path):
    script = (
        "import sys; from pathlib import Path; from companion.inference.embedders import OnnxEmbedder;"
        "e = OnnxEmbedder.load(Path(sys.argv[1]), name='tiny', cache_dir=Path(sys.argv[2]));"
        "print(e.embed_query('hello').tolist())"
    )
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tiny_folder), str(tmp_path)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = [start.communicate(timeout=240)[0] for start in starts]
    assert [start.returncode for start in starts] == [0, 0]
    assert np.allclose(json.loads(answers[0]), json.loads(answers[1]))
    assert len(list(tmp_path.glob("*/model.onnx"))) == 1
    assert not list(tmp_path.glob(".*.partial"))


def exports_of(pid):
    """Process ids of the export children of a process."""
    command = ["ps", "-o", "pid=,args=", "--ppid", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [int(line.split()[0]) for line in listed if "companion.inference.embedder_process" in line]


wait_for = partial(until, seconds=120.0, pause_s=0.02)


@pytest.mark.skipif(os.name == "nt", reason="needs ps and SIGKILL")
def test_an_export_killed_in_the_middle_leaves_nothing_and_says_so(tiny_folder, tmp_path):
    failures = []

    def load():
        try:
            OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tmp_path)
        except EmbedderError as error:
            failures.append(error.message)

    loading = threading.Thread(target=load)
    loading.start()
    wait_for(lambda: list(tmp_path.glob(".*.partial")))
    (child,) = exports_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    loading.join(60)
    assert failures == ["The embedder model could not be prepared: see the log."]
    assert not list(tmp_path.glob(".*.partial"))
    assert not list(tmp_path.glob("*/model.onnx"))


@pytest.mark.skipif(os.name == "nt", reason="needs ps and SIGKILL")
def test_when_the_app_is_killed_the_export_ends_and_the_next_start_is_clean(tiny_folder, tmp_path):
    script = (
        "import sys; from pathlib import Path; from companion.inference.embedders import OnnxEmbedder;"
        "OnnxEmbedder.load(Path(sys.argv[1]), name='tiny', cache_dir=Path(sys.argv[2]))"
    )
    app = subprocess.Popen([sys.executable, "-c", script, str(tiny_folder), str(tmp_path)], cwd=REPOSITORY)
    (child,) = wait_for(lambda: exports_of(app.pid))
    wait_for(lambda: list(tmp_path.glob(".*.partial")))
    app.kill()
    app.wait()
    wait_for(lambda: not process_runs(child))
    assert not list(tmp_path.glob("*/model.onnx"))
    OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=tmp_path)
    assert not list(tmp_path.glob(".*.partial"))


def process_runs(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def test_an_export_with_other_vectors_than_sentence_transformers_is_refused(
    tiny, tiny_folder, tiny_cache, run_python
):
    script = """
import sys
from dataclasses import replace
from pathlib import Path
from sentence_transformers import SentenceTransformer
from companion.errors import EmbedderError
from companion.inference.embedder_process import compare
from companion.inference.embedders import OnnxEmbedder
from companion.inference.recipe import identify, read_recipe
folder, home = map(Path, sys.argv[1:])
model = SentenceTransformer(str(folder), device="cpu")
identity = identify(read_recipe(folder), "tiny", "", 1)
print("RIGHT", compare(model, OnnxEmbedder(home, identity, threads=1)) >= 0.9999)
for wrong in ({"pooling": "mean"}, {"max_tokens": 40}):
    embedder = OnnxEmbedder(home, replace(identity, **wrong), threads=1)
    try:
        compare(model, embedder)
    except EmbedderError as error:
        print("REFUSED", error.message)
"""
    output = run_python(script, tiny_folder, home_of(tiny_folder, tiny_cache))
    assert "RIGHT True" in output
    assert output.count("REFUSED The embedder tiny gives other vectors") == 2


def test_changed_weights_are_another_embedder(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    assert weight_hash(copy, tmp_path) == weight_hash(tiny_folder, tmp_path)
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + "\n")
    assert weight_hash(copy, tmp_path) != weight_hash(tiny_folder, tmp_path)


def test_a_readme_beside_the_weights_changes_nothing(tiny_folder, tmp_path):
    before = weight_hash(tiny_folder, tmp_path)
    (tiny_folder / "NOTES.md").write_text("mine")
    assert weight_hash(tiny_folder, tmp_path / "fresh") == before


# --- folders that cannot be used --------------------------------------------------------


def sketch(folder, *, modules=("Transformer", "Pooling"), pooling=None, prompts=None, **config):
    """The configs of a sentence-transformers folder, without weights."""
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense", "Normalize": "2_Normalize"}
    entries = [
        {"idx": i, "path": paths[m], "type": f"sentence_transformers.models.{m}"}
        for i, m in enumerate(modules)
    ]
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512, **config}))
    pooling = pooling or {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts or {}}))
    return folder


def test_a_dense_layer_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(EmbedderError, match="Dense layer, which is not supported"):
        read_recipe(sketch(tmp_path / "m", modules=("Transformer", "Pooling", "Dense")))


@pytest.mark.parametrize(
    "pooling",
    [
        {"word_embedding_dimension": 8, "pooling_mode_max_tokens": True},
        {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"embedding_dimension": 8, "pooling_mode": "weightedmean"},
        {"embedding_dimension": 8, "pooling_mode": ["mean", "max"]},
    ],
)
def test_other_pooling_is_refused(tmp_path, pooling):
    with pytest.raises(EmbedderError, match="choose one with mean, cls, lasttoken"):
        read_recipe(sketch(tmp_path / "m", pooling=pooling))


def test_old_and_new_names_in_a_pooling_config_mean_the_same(tmp_path):
    old = read_recipe(sketch(tmp_path / "old", modules=("Transformer", "Pooling", "Normalize")))
    new = read_recipe(sketch(tmp_path / "new", pooling={"embedding_dimension": 8, "pooling_mode": "mean"}))
    assert old == new
    assert (old.dimension, old.pooling, old.max_tokens) == (8, "mean", 512)


def test_passage_and_document_both_name_the_prompt_of_passages(tmp_path):
    recipe = read_recipe(sketch(tmp_path / "m", prompts={"query": "query: ", "passage": "passage: "}))
    assert (recipe.query_prompt, recipe.passage_prompt) == ("query: ", "passage: ")


def test_a_model_reads_no_more_tokens_than_it_has_positions(tmp_path):
    folder = sketch(tmp_path / "m", model_type="xlm-roberta", max_position_embeddings=514)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read_recipe(folder).max_tokens == 512


def test_a_folder_without_safetensors_is_refused(tmp_path):
    folder = sketch(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(EmbedderError, match="no weights as safetensors"):
        OnnxEmbedder.load(folder, name="m", cache_dir=tmp_path / "cache")


def test_damaged_weights_are_one_sentence_and_no_export(tiny_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_folder, copy)
    os.truncate(copy / "model.safetensors", 1000)
    with pytest.raises(EmbedderError, match="copy cannot be opened"):
        exported(copy, weight_hash(copy, tmp_path), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/model.onnx"))


# --- an embedder on its way -------------------------------------------------------------


class Ready:
    """An embedder with one direction."""

    identity = EmbedderIdentity("one", "0" * 64, 2, 8, "mean", True, "", "", 1)

    def windows(self, text):
        return [text]

    def embed_passages(self, texts):
        return np.tile(np.array([1, 0], np.float32), (len(texts), 1))

    def embed_query(self, text):
        return np.array([1, 0], np.float32)


def test_a_question_waits_a_moment_and_then_goes_on_without_vectors():
    late = LateEmbedder(Ready, patience_s=0.05)
    assert not late.ready
    with pytest.raises(EmbedderWarming):
        late.embed_query("hello")
    with pytest.raises(EmbedderWarming):
        _ = late.identity
    late.warm()
    assert late.ready
    assert late.identity is Ready.identity
    assert late.embed_query("hello").tolist() == [1, 0]


def test_a_question_is_answered_when_the_embedder_comes_in_time():
    late = LateEmbedder(Ready, patience_s=30)
    threading.Timer(0.05, late.warm).start()
    assert late.embed_query("hello").tolist() == [1, 0]


def test_passages_wait_as_long_as_it_takes():
    late = LateEmbedder(Ready, patience_s=0)
    threading.Timer(0.1, late.warm).start()
    assert late.embed_passages(["a", "b"]).shape == (2, 2)
    assert late.windows("a") == ["a"]


def test_a_failure_releases_all_who_wait_and_may_be_tried_again():
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) == 1:
            raise EmbedderError("The weights are missing: connect.")
        return Ready()

    late = LateEmbedder(load, patience_s=0)
    threading.Timer(0.05, late.warm).start()
    with pytest.raises(EmbedderError, match="weights are missing"):
        late.embed_passages(["a"])
    assert late.failure == "The weights are missing: connect."
    assert not late.ready
    late.warm()
    assert late.failure is None
    assert late.embed_passages(["a"]).shape == (1, 2)


def test_a_bug_while_loading_does_not_leave_anybody_waiting():
    def load():
        raise ZeroDivisionError

    late = LateEmbedder(load)
    late.warm()
    assert late.failure == "The embedder could not be loaded: see the log."
    with pytest.raises(EmbedderError, match="see the log"):
        late.embed_passages(["a"])


def test_closing_releases_all_who_wait():
    late = LateEmbedder(Ready)
    threading.Timer(0.05, late.close).start()
    with pytest.raises(EmbedderError, match="closing"):
        late.embed_passages(["a"])
