"""What tests share: settings in a folder of their own, and real weights fetched once per machine."""

import os
import subprocess
import sys

import pytest

from companion.config import REPOSITORY, Settings, quiet_libraries
from companion.inference import weights
from companion.inference.embedders import OnnxEmbedder

quiet_libraries()


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
    return weights.embedder_folder("all-MiniLM-L6-v2", weights_settings)


@pytest.fixture(scope="session")
def builtin_gguf(weights_settings):
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
