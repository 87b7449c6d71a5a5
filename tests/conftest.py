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
from companion.inference import weights
from companion.inference.embedders import OnnxEmbedder

quiet_libraries()


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
        return weights.fetch(weights.BUILTIN_CHAT_MODEL, weights_settings)


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
