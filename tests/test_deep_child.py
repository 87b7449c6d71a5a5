"""The deep embedder works in a child that can be killed at any moment, and says what became of it."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from companion.config import REPOSITORY
from companion.errors import EmbedderCrashed, EmbedderError, EmbedderHindered
from companion.inference import deep
from companion.inference.deep import ChildEmbedder, Interrupted, count_parameters
from companion.inference.embedders import OnnxEmbedder
from companion.inference.ollama import Ollama
from companion.inference.ollama_embedder import OllamaEmbedder, windows_by_bytes
from tests.ollama_server import OllamaServer, ServedModel
from tests.test_embedders import TEXTS, reference
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals")

NOMIC = "nomic-embed-text:latest"
LONG_WORK = ["A passage that takes a while. " * 40] * 400
"""Seconds of work for the light embedder, and more than fits into a pipe."""


@pytest.fixture(scope="module")
def tiny_cache(tiny_folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("exported")
    OnnxEmbedder.load(tiny_folder, name="tiny", cache_dir=cache)
    return cache


@pytest.fixture
def tiny(tiny_folder, tiny_cache):
    with opened(tiny_folder, tiny_cache, threads=1) as embedder:
        yield embedder


@pytest.fixture
def light(light_folder, light_embedder, weights_settings):
    with opened(light_folder, weights_settings.weights_folder / "onnx") as embedder:
        yield embedder


@contextlib.contextmanager
def opened(folder, cache, **settings):
    embedder = ChildEmbedder.open(folder, name=folder.name, cache_dir=cache, **settings)
    try:
        yield embedder
    finally:
        embedder.kill()


class InThread:
    """Runs one call elsewhere and keeps how it ended."""

    def __init__(self, call):
        self.error = self.answer = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ended(self):
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the call did not end"
        return self

    def _run(self):
        try:
            self.answer = self._call()
        except Exception as error:
            self.error = error


class Copy:
    """A copy of a model folder that a test may damage."""

    def __init__(self, source, folder):
        self.folder = folder
        for path in source.rglob("*"):
            if path.is_file():
                (folder / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(source)).write_bytes(path.read_bytes())

    def damage(self, name):
        path = next(self.folder.rglob(name))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


wait_for = partial(until, pause_s=0.005)


def gone(pid):
    """Ended and collected, so that its memory is back."""
    return not psutil.pid_exists(pid)


def worked(pid, seconds=0.2):
    """It has computed for so long since its start."""
    with contextlib.suppress(psutil.Error):
        return sum(psutil.Process(pid).cpu_times()[:2]) > seconds
    return False


# --- the vectors ------------------------------------------------------------------------


@pytest.mark.weights
def test_the_deep_embedder_gives_the_vectors_of_sentence_transformers(
    deep_folder, weights_settings, run_python
):
    expected = reference(run_python, deep_folder)["document"]
    with opened(deep_folder, weights_settings.weights_folder / "onnx") as embedder:
        embedder.start()
        assert_vectors(embedder.embed_passages(TEXTS), expected)


def test_the_child_gives_the_vectors_of_the_folder_prompts_and_pooling_included(
    tiny, tiny_folder, run_python
):
    tiny.start()
    assert tiny.device == "cpu"
    assert_vectors(tiny.embed_passages(TEXTS), reference(run_python, tiny_folder)["document"])
    assert tiny.embed_passages([]).shape == (0, 32)


def test_on_torch_the_vectors_are_the_same(tiny, tiny_folder, run_python):
    """As on a graphics card, but for its half precision."""
    script = """
import sys, json
from pathlib import Path
from companion.inference.embedder_process import TorchEmbedder
from companion.inference.recipe import identify, read_recipe
folder = Path(sys.argv[1])
embedder = TorchEmbedder(folder, identify(read_recipe(folder), "tiny", "w", 1), "cpu")
print("ANSWER" + json.dumps(embedder.embed_passages(json.loads(sys.argv[2])).tolist()))
"""
    output = run_python(script, tiny_folder, json.dumps(TEXTS))
    tiny.start()
    assert_vectors(tiny.embed_passages(TEXTS), np.array(json.loads(output.partition("ANSWER")[2])))


def assert_vectors(ours, theirs):
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() >= 0.9999


def test_a_machine_without_such_a_card_embeds_on_the_processor(tiny_folder, tiny_cache):
    with opened(tiny_folder, tiny_cache, device="cuda:7") as embedder:
        on_the_card = embedder.memory_bytes
        embedder.start()
        assert embedder.device == "cpu"
        assert embedder.embed_passages(["hello"]).shape == (1, 32)
        assert embedder.memory_bytes != on_the_card


# --- what is known without a child ------------------------------------------------------


def test_identity_windows_and_memory_are_known_without_a_child_and_without_torch(
    light_folder, light_embedder, weights_settings, run_python
):
    script = """
import sys
from pathlib import Path
from companion.inference.deep import ChildEmbedder
embedder = ChildEmbedder.open(Path(sys.argv[1]), name="all-MiniLM-L6-v2", cache_dir=Path(sys.argv[2]))
print(embedder.identity.embedder_id, len(embedder.windows("some words " * 500)), embedder.memory_bytes > 9e7)
heavy = {"torch", "transformers", "sentence_transformers", "onnxruntime", "gradio"} & set(sys.modules)
print("HEAVY", sorted(heavy), embedder.pid)
"""
    said = run_python(script, light_folder, weights_settings.weights_folder / "onnx")
    windows = light_embedder.windows("some words " * 500)
    assert said.splitlines()[0] == f"{light_embedder.identity.embedder_id} {len(windows)} True"
    assert "HEAVY [] None" in said


def test_the_same_windows_are_cut_wherever_the_embedder_runs(light, light_embedder):
    for text in ("short", "The ferry waited in the rain, for nobody. " * 90, "東京タワーは高い。" * 90):
        assert light.windows(text) == light_embedder.windows(text)


def test_the_memory_need_follows_the_number_of_parameters(deep_folder, weights_settings):
    assert count_parameters(deep_folder) == 109_486_464 + 514
    cache = weights_settings.weights_folder / "onnx"
    with opened(deep_folder, cache) as processor, opened(deep_folder, cache, device="cuda:0") as card:
        assert 438e6 < processor.memory_bytes < 900e6
        assert 219e6 + 500e6 < card.memory_bytes < 2e9


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads a process's environment")
def test_the_child_sees_the_watched_card_only_unless_the_person_chose_another(
    tiny_folder, tmp_path, monkeypatch
):
    def cards():
        with opened(tiny_folder, tmp_path / "cache", device="cuda", card="GPU-watched") as embedder:
            embedder.start()
            variables = Path(f"/proc/{embedder.pid}/environ").read_bytes().split(b"\0")
        return [each for each in variables if each.startswith(b"CUDA_VISIBLE_DEVICES=")]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cards() == [b"CUDA_VISIBLE_DEVICES=GPU-watched"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-chosen")
    assert cards() == [b"CUDA_VISIBLE_DEVICES=GPU-chosen"]


def test_a_folder_without_a_tokenizer_is_refused_with_a_sentence(tiny_folder, tmp_path):
    copy = Copy(tiny_folder, tmp_path / "model")
    next(copy.folder.rglob("tokenizer.json")).unlink()
    with pytest.raises(EmbedderError, match=r"has no tokenizer\.json: choose another"):
        ChildEmbedder.open(copy.folder, name="model", cache_dir=tmp_path / "cache")


def test_a_folder_with_a_torn_tokenizer_is_refused_with_a_sentence(tiny_folder, tmp_path):
    copy = Copy(tiny_folder, tmp_path / "model")
    copy.damage("tokenizer.json")
    with pytest.raises(EmbedderError, match=r"tokenizer\.json of the embedder model cannot be read"):
        ChildEmbedder.open(copy.folder, name="model", cache_dir=tmp_path / "cache")


# --- the child as a process -------------------------------------------------------------


def test_the_child_steps_back_behind_everybody_and_has_neither_page_nor_index_in_it(light):
    light.start()
    process = psutil.Process(light.pid)
    assert process.nice() > psutil.Process().nice()
    loaded = Path(f"/proc/{light.pid}/maps")
    if loaded.exists():
        assert process.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
        assert Path(f"/proc/{light.pid}/oom_score_adj").read_text().strip() == "1000"
        files = loaded.read_text()
        assert "onnxruntime" in files
        assert not re.search("torch|chromadb|sqlite3", files)


def test_serving_imports_neither_gradio_nor_chromadb_nor_torch(run_python):
    script = """
import sys
import companion.inference.embedder_process
print("LOADED", {"gradio", "chromadb", "torch", "sqlalchemy", "llama_index"} & set(sys.modules))
"""
    assert "LOADED set()" in run_python(script)


def test_the_child_refuses_the_network(tiny_folder, tiny_cache, run_python):
    script = """
import io, os, socket, sys
from companion.inference import embedder_process
def try_it(chosen, answers):
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except PermissionError as error:
        answers.write(f"REFUSED {error}".encode())
embedder_process.serve = try_it
os.environ["COMPANION_LIFELINE_FD"] = str(os.pipe()[0])
sys.exit(embedder_process.main(["serve", sys.argv[1], "w", sys.argv[2]]))
"""
    assert "REFUSED no network" in run_python(script, tiny_folder, tiny_cache)


def test_the_child_ends_with_its_parent_in_the_middle_of_its_work(
    light_folder, light_embedder, weights_settings
):
    script = """
import sys
from pathlib import Path
from companion.inference.deep import ChildEmbedder
embedder = ChildEmbedder.open(Path(sys.argv[1]), name="light", cache_dir=Path(sys.argv[2]))
embedder.start()
print(embedder.pid, flush=True)
embedder.embed_passages(["A passage that takes a while. " * 40] * 20_000)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(light_folder), str(weights_settings.weights_folder / "onnx")],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with parent:
        pid = int(parent.stdout.readline())
        wait_for(lambda: worked(pid, 1.0))
        parent.kill()
        # Its work would last for minutes.
        wait_for(lambda: gone(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_child_that_cannot_be_started_leaves_nothing_open():
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="too long"):
        deep.Child("companion", ["x" * 10_000_000])
    assert psutil.Process().num_fds() == before


# --- being killed -----------------------------------------------------------------------


def test_killed_at_any_moment_the_one_who_waits_is_interrupted_and_the_process_is_gone(light):
    """From the start of the process to the middle of its work."""
    generator = random.Random(5)
    for number in range(12):
        waiting = InThread(lambda: (light.start(), [light.embed_passages(LONG_WORK) for _ in range(99)]))
        pid = wait_for(lambda: light.pid)
        time.sleep(generator.uniform(0, 2.0) if number else 0)
        light.kill()
        assert gone(pid)
        assert isinstance(waiting.ended().error, Interrupted)
        assert light.pid is None


def test_after_a_kill_it_can_be_started_again_and_gives_the_same_vectors(tiny):
    tiny.start()
    before, pid = tiny.embed_passages(TEXTS), tiny.pid
    tiny.kill()
    tiny.kill()
    with pytest.raises(Interrupted):
        tiny.embed_passages(TEXTS)
    tiny.start()
    tiny.start()
    assert tiny.pid != pid
    assert np.allclose(tiny.embed_passages(TEXTS), before)


def test_what_is_no_longer_wanted_is_not_started(tiny):
    with pytest.raises(Interrupted):
        tiny.start(wanted=lambda: False)
    assert tiny.pid is None


def test_a_kill_while_the_question_is_asked_finds_the_child_that_comes_after_it(tiny):
    """No start slips through between the sign of a person and the kill."""
    asked, killed = threading.Event(), threading.Event()

    def wanted():
        asked.set()
        killed.wait(0.3)
        return True

    starting = InThread(lambda: tiny.start(wanted))
    asked.wait(60)
    tiny.kill()
    assert isinstance(starting.ended().error, Interrupted)
    assert tiny.pid is None


def test_an_export_at_the_first_start_ends_with_its_child(tiny_folder, tmp_path):
    with opened(tiny_folder, tmp_path) as embedder:
        starting = InThread(embedder.start)
        wait_for(lambda: embedder.pid)
        (exporting,) = wait_for(lambda: psutil.Process(embedder.pid).children())
        wait_for(lambda: list(tmp_path.glob(".*.partial")))
        embedder.kill()
        assert isinstance(starting.ended().error, Interrupted)
        wait_for(lambda: not exporting.is_running() or exporting.status() == psutil.STATUS_ZOMBIE)
        assert not list(tmp_path.glob("*/model.onnx")), "it ended because all was done"
        embedder.start()
        assert embedder.embed_passages(["hello"]).shape == (1, 32)
        assert not list(tmp_path.glob(".*.partial"))


# --- crashes and refusals ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (signal.SIGKILL, EmbedderHindered, "lack of memory"),
        (signal.SIGSEGV, EmbedderCrashed, "SIGSEGV"),
        (signal.SIGTERM, EmbedderCrashed, "SIGTERM"),
    ],
)
def test_a_child_that_dies_by_itself_is_a_crash_unless_the_system_ended_it(light, number, kind, words):
    light.start()
    pid = light.pid
    waiting = InThread(lambda: [light.embed_passages(LONG_WORK) for _ in range(99)])
    wait_for(lambda: worked(pid, 0.8))
    os.kill(pid, number)
    error = waiting.ended().error
    assert type(error) is kind
    assert words in error.message
    assert gone(pid)
    light.start()
    assert light.embed_passages(["hello"]).shape == (1, 384)


def test_a_child_that_is_gone_before_it_is_asked_is_a_crash(tiny):
    tiny.start()
    psutil.Process(tiny.pid).terminate()
    with pytest.raises(EmbedderCrashed):
        tiny.embed_passages(LONG_WORK)
    assert tiny.pid is None


def test_a_refusal_is_no_crash_and_the_child_lives_on(tiny, tmp_path, tiny_folder):
    broken = Copy(tiny_folder, tmp_path / "broken")
    broken.damage("model.safetensors")
    with opened(broken.folder, tmp_path / "cache") as embedder, pytest.raises(EmbedderError) as raised:
        embedder.start()
    assert not isinstance(raised.value, EmbedderCrashed)
    assert "cannot be opened" in raised.value.message
    assert embedder.pid is None


TALKERS = {
    "speaks another language": "out.write(b'Hello, I am a library that prints.\\n' * 9)",
    "promises too much": "out.write(b'R' + (1 << 60).to_bytes(8, 'little'))",
    "ends in the middle": "out.write(b'R' + (9).to_bytes(8, 'little') + b'cpu'); wait = 0",
    "says nothing": "",
}


@pytest.mark.parametrize("what", TALKERS)
def test_a_child_that_does_not_keep_to_the_protocol_is_ended(tiny, monkeypatch, what):
    head, tail = "import sys, time; out, wait = sys.stdout.buffer, 60", "out.flush(); time.sleep(wait)"
    script = f"{head}\n{TALKERS[what]}\n{tail}"
    ends = "ends" in what
    monkeypatch.setattr(deep, "START_TIMEOUT_S", PATIENCE_S if TALKERS[what] else 1.0)
    monkeypatch.setattr(deep, "ENDING_S", PATIENCE_S if ends else 0.5)
    monkeypatch.setattr(deep, "Child", lambda *_, **__: Script(script))
    with pytest.raises(EmbedderCrashed, match="unexpectedly" if ends else "did not answer"):
        tiny.start()
    assert tiny.pid is None


class Script(deep.Child):
    """A child that runs a line of Python instead of our module."""

    def __init__(self, script):
        self._lifeline = -1
        self._process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (b"\0" * 12, EmbedderCrashed),
        (np.full(64, np.nan, "<f4").tobytes(), EmbedderError),
    ],
)
def test_half_an_answer_and_numbers_that_are_none_are_never_vectors(tiny, monkeypatch, rows, error):
    script = (
        "import sys; out = sys.stdout.buffer; frame = lambda kind, data: (out.write(kind + "
        "len(data).to_bytes(8, 'little') + data), out.flush()); frame(b'R', b'cpu'); sys.stdin.readline(); "
        f"frame(b'V', bytes.fromhex('{rows.hex()}')); sys.stdin.readline()"
    )
    monkeypatch.setattr(deep, "ENDING_S", 0.2)
    monkeypatch.setattr(deep, "Child", lambda *_, **__: Script(script))
    tiny.start()
    with pytest.raises(error):
        tiny.embed_passages(["one", "two"])


# --- the same in Ollama -----------------------------------------------------------------


@pytest.fixture
def server():
    with OllamaServer(
        models=[ServedModel(NOMIC, ("embedding",), 8192, architecture="nomic-bert")]
    ) as running:
        yield running


@pytest.fixture
def ollama(server):
    return OllamaEmbedder.open(Ollama(server.url), "ollama:nomic-embed-text", chunker_version=3)


def test_an_embedder_in_ollama_is_known_by_digest_and_dimension_without_being_loaded(ollama, server):
    identity = ollama.identity
    assert (identity.name, identity.dimension, identity.max_tokens) == ("ollama:nomic-embed-text", 8, 2048)
    assert identity.weight_hash == server.models[0].digest
    assert (ollama.pid, ollama.memory_bytes, server.loaded) == (None, 1_000_000_000, {})
    server.models[0].digest = "other"
    again = OllamaEmbedder.open(Ollama(server.url), "ollama:nomic-embed-text", chunker_version=3)
    assert again.identity.embedder_id != identity.embedder_id


def test_vectors_from_ollama_have_length_one_and_its_memory_is_soon_free_again(ollama, server):
    server.vector_length = 7.0
    ollama.start()
    vectors = ollama.embed_passages(["one", "two", "one"])
    assert vectors.shape == (3, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    assert np.allclose(vectors[0], vectors[2])
    assert abs(vectors[0] @ vectors[1]) < 0.999
    [body] = server.asked("/api/embed")
    assert (body["options"], body["keep_alive"]) == ({"num_ctx": 2048}, "30s")
    assert ollama.embed_passages([]).shape == (0, 8)


def test_a_kill_closes_the_connection_to_ollama(ollama, server):
    server.slow_s = {"/api/embed": 3600}
    ollama.start()
    waiting = InThread(lambda: ollama.embed_passages(["one"]))
    server.wait_for(lambda each: each.asked("/api/embed"))
    ollama.kill()
    assert isinstance(waiting.ended().error, Interrupted)
    server.wait_for(lambda each: [gone.path for gone in each.disconnects] == ["/api/embed"])
    with pytest.raises(Interrupted):
        ollama.embed_passages(["two"])
    assert len(server.asked("/api/embed")) == 1


def test_ollama_killed_at_any_moment_interrupts_or_answers_whole(ollama, server):
    server.slow_s = {"/api/embed": 0.02}
    generator = random.Random(3)
    for _ in range(20):
        ollama.start()
        waiting = InThread(lambda: ollama.embed_passages(["one", "two"]))
        time.sleep(generator.uniform(0, 0.06))
        ollama.kill()
        waiting.ended()
        assert isinstance(waiting.error, Interrupted) or waiting.answer.shape == (2, 8)
    ollama.start()
    assert ollama.embed_passages(["three"]).shape == (1, 8)


def test_ollama_is_not_asked_when_it_is_no_longer_wanted(ollama, server):
    with pytest.raises(Interrupted):
        ollama.start(wanted=lambda: False)
    with pytest.raises(Interrupted):
        ollama.embed_passages(["one"])
    assert server.asked("/api/embed") == []


@pytest.mark.parametrize("failure", ["missing", "busy", "memory", "refused", "garbage", "fin"])
def test_what_ollama_refuses_is_a_sentence_and_no_crash(ollama, server, failure):
    server.failure, server.failing = failure, {"/api/embed"}
    ollama.start()
    with pytest.raises(EmbedderError) as raised:
        ollama.embed_passages(["one"])
    assert type(raised.value) is (EmbedderError if failure == "refused" else EmbedderHindered)
    server.failure = None
    assert ollama.embed_passages(["one"]).shape == (1, 8)


def test_vectors_of_another_dimension_are_refused(ollama, server):
    server.embedding_dimension = 6
    ollama.start()
    with pytest.raises(EmbedderError, match="no usable vectors"):
        ollama.embed_passages(["one"])


def test_an_embedder_that_ollama_does_not_have_is_a_sentence(server):
    with pytest.raises(EmbedderError, match="pull it with"):
        OllamaEmbedder.open(Ollama(server.url), "ollama:bge-m3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "".join(f"word {number}, " for number in range(900)),
        "".join(f"東京タワー{number}は高い。" for number in range(300)),
        "".join(f"{number}-" for number in range(2000)),
        "".join(f"🙂{number} \n" for number in range(900)),
    ],
)
def test_windows_by_bytes_cover_the_text_overlap_a_little_and_stay_small(text):
    pieces = windows_by_bytes(text, 600)
    reached = 0
    for number, piece in enumerate(pieces):
        start = text.index(piece)
        assert len(piece.encode()) <= 600
        assert start < reached if number else start == 0
        assert reached - start <= 600 / 4
        reached = start + len(piece)
    assert reached == len(text)
