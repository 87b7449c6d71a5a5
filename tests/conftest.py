"""What tests share: settings in a folder of their own, real weights fetched once per machine, and
a guard that lets the test process speak to this machine only.
"""

import ipaddress
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from companion.config import REPOSITORY, Settings, quiet_libraries
from companion.inference import known_weights, weights
from companion.inference.embedders import OnnxEmbedder
from tests.desk import NOTE, at_a_desk

quiet_libraries()

# A model with random weights, but with a real tokenizer, CLS pooling and prompts.
TINY = """
import sys, torch
from transformers import AutoTokenizer, BertConfig, BertModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
source, target = sys.argv[1:]
torch.manual_seed(7)
tokenizer = AutoTokenizer.from_pretrained(source)
config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=64, max_position_embeddings=64,
                    initializer_range=0.5)
BertModel(config).save_pretrained(target + "-bert")
tokenizer.save_pretrained(target + "-bert")
modules = [Transformer(target + "-bert", max_seq_length=48), Pooling(32, pooling_mode="cls")]
prompts = {"query": "find this: ", "document": "a text: "}
SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(target)
"""


def pytest_addoption(parser):
    parser.addoption("--pictures", metavar="FOLDER", help="save a picture of each state of the page there")


class StrangerCalled(RuntimeError):
    """Not an OSError: code that takes those for “offline” must not swallow it."""


class NetworkGuard:
    """Refuses every address but loopback. An audit hook sees all of Python's sockets, asyncio's too.

    It sees this process: children and native code are watched by the tests that start them
    (the page's tests watch the browser).
    """

    # Event to the place of the host or the address among its arguments.
    WATCHED = {  # noqa: RUF012 a constant
        "socket.connect": 1,
        "socket.sendto": 1,
        "socket.sendmsg": 1,
        "socket.getaddrinfo": 0,
        "socket.gethostbyname": 0,
        "socket.gethostbyaddr": 0,
    }

    def __init__(self):
        self.called = []
        self.closed = True
        sys.addaudithook(self._see)

    @contextmanager
    def lifted(self):
        """For fetching what is fetched once per machine."""
        self.closed = False
        try:
            yield
        finally:
            self.closed = True

    def _see(self, event, arguments):
        place = self.WATCHED.get(event)
        if place is None or not self.closed:
            return
        address = arguments[place]
        if not _is_here(address):
            self.called.append(f"{event} {address}")
            raise StrangerCalled(f"A test tried to reach {address}; tests speak to this machine only.")


def _is_here(address):
    """Of a socket, or of a name that is looked up. A path is a Unix socket."""
    if isinstance(address, tuple):
        address = address[0]
    elif isinstance(address, (str, bytes)) and os.fsdecode(address).startswith(("/", "\0")):
        return True
    host = address.decode() if isinstance(address, bytes) else address
    # Nothing, and the address that servers listen on, name no other machine.
    if host in (None, "", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


NETWORK = NetworkGuard()


@pytest.fixture(scope="session", autouse=True)
def network():
    """The guard; the run fails at its end if somebody called a stranger and swallowed the refusal."""
    yield NETWORK
    assert NETWORK.called == []


@pytest.fixture
def settings(tmp_path):
    """Settings of a fresh start."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def shared():
    """The material that lies beside the repository on a developer's machine."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder “shared” beside the repository, which is not part of it")
    return folder


@pytest.fixture(scope="session")
def weights_settings(tmp_path_factory):
    """Settings whose weights lie in the person's cache, or in COMPANION_WEIGHTS_DIR."""
    return Settings(data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def light_folder(weights_settings):
    with NETWORK.lifted():
        return weights.embedder_folder("all-MiniLM-L6-v2", weights_settings)


@pytest.fixture(scope="session")
def builtin_gguf(weights_settings):
    with NETWORK.lifted():
        return weights.fetch(known_weights.BUILTIN_CHAT_MODEL, weights_settings)


@pytest.fixture(scope="session")
def deep_folder(weights_settings):
    with NETWORK.lifted():
        return weights.embedder_folder("all-mpnet-base-v2", weights_settings)


@pytest.fixture(scope="session")
def tiny_folder(light_folder, tmp_path_factory, run_python):
    """An embedder that is made in seconds; its vectors mean nothing."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    run_python(TINY, light_folder, folder)
    return folder


@pytest.fixture(scope="session")
def light_embedder(light_folder, weights_settings):
    """The real light embedder; its export stays beside the weights."""
    return OnnxEmbedder.load(
        light_folder, name="all-MiniLM-L6-v2", cache_dir=weights_settings.weights_folder / "onnx"
    )


@pytest.fixture(scope="session")
def run_python():
    """Run a script in a process of its own; for what this one must never import."""

    def run(script: str, *arguments: object, timeout: float = 240) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server and one browser for all tests of a page's panel."""
    with at_a_desk(tmp_path_factory.mktemp("data")) as desk:
        yield desk


@pytest.fixture
def desk(server):
    """A person in front of the page as it was on the first day."""
    server.tidy()
    yield server
    server.leave()


@pytest.fixture
def note(tmp_path):
    """A file of one's own."""
    path = tmp_path / "lighthouse notes.txt"
    path.write_text(NOTE, encoding="utf-8")
    return path
