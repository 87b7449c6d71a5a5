"""Imports go down only, each foreign library stays in its room, and the tests stay on this machine."""

import ast
import asyncio
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.sources import tree_of

PACKAGE = Path(__file__).resolve().parent.parent / "companion"

FLOORS = {
    "domain": 0, "errors": 0, "config": 0, "child": 0, "memory": 0, "threads": 0, "tuning": 0,
    "words": 0,
    "storage": 1, "inference": 1,
    "library": 2, "costs": 2,
    "chat": 3, "background": 3, "quality": 3, "conditions": 3, "embedding": 3, "direct": 3,
    "backup": 3, "people": 3, "options": 3,
    "idle_work": 4, "doctor": 4,
    "app": 5,
    "api": 6, "ui": 6,
    "door": 7,
    "web": 8,
    "reach": 9,
    "cli": 10, "__main__": 11, "__init__": 11,
}  # fmt: skip

# The ground floor has an order of its own: what each may see of the rest of it.
GROUND = {
    "domain": (), "errors": (), "config": ("domain",), "child": ("config",), "memory": (), "threads": (),
    "tuning": (), "words": (),
}  # fmt: skip
# The words need nothing that is installed; a type of numpy's is read by checkers only.
PLAIN = ("domain", "errors")
FOR_TYPES_ONLY = {"domain": ("numpy",)}

FENCES = {
    "companion.storage.tables": ("storage/",),
    "companion.storage.database": ("storage/",),
    "sqlite3": ("storage/",),
    "sqlalchemy": ("storage/",),
    "alembic": ("storage/",),
    "chromadb": ("library/vectors.py",),
    "llama_index": ("library/",),
    "gradio": ("ui/", "web.py"),
    "fastapi": ("api/", "web.py"),
    "starlette": ("api/", "door/", "web.py"),
    "argon2": ("people/passwords.py",),
    "ollama": ("inference/ollama.py",),
    "xllamacpp": ("inference/builtin.py",),
    "onnxruntime": ("inference/embedders.py",),
    "torch": ("inference/embedder_process.py",),
    "sentence_transformers": ("inference/embedder_process.py",),
    "transformers": ("inference/embedder_process.py",),
    "pynvml": ("background/gpu.py",),
    "pytrec_eval": ("quality/measures.py",),
}
# In a layer a helper embeds the next batch while the last one is stored.
THREADS = ("background/worker.py", "chat/runs.py", "threads.py", "child.py", "library/layer.py")
ENVIRONMENT = ("config.py", "child.py")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """Every module that a tree imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def imports_at_run_time(tree: ast.Module) -> set[str]:
    """As `imports`, without what stands under `if TYPE_CHECKING:`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            node.body = [ast.Pass()]
    return imports(tree)


def sees(here: str, there: str) -> bool:
    """Whether a module of one room may import another room."""
    if here == there or there not in FLOORS:
        return True
    if here in GROUND:
        return there in GROUND[here]
    return FLOORS[there] < FLOORS[here]


def within(module: str, fenced: str) -> bool:
    return module == fenced or module.startswith(f"{fenced}.")


def foreign_to_a_plain_module(here: str, source: str) -> list[str]:
    tree = tree_of(source)
    tops = {module.partition(".")[0] for module in imports(tree)}
    allowed = sys.stdlib_module_names | {"companion", *FOR_TYPES_ONLY.get(here, ())}
    running = {module.partition(".")[0] for module in imports_at_run_time(tree)}
    return sorted((tops - allowed) | (running - sys.stdlib_module_names - {"companion"}))


def violations(name: str, source: str) -> list[str]:
    tree = tree_of(source)
    here = room_of(name)
    found = []
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        found.append(f"{name} imports relatively, which hides the room")
    for module in imports(tree):
        top, _, rest = module.partition(".")
        if top == "companion" and rest and not sees(here, there := rest.split(".")[0]):
            found.append(f"{name} imports {module}: {here} may not see {there}")
        for fenced, allowed in FENCES.items():
            if within(module, fenced) and not name.startswith(allowed):
                found.append(f"{name} imports {module}: only {', '.join(allowed)} may")
    if here in PLAIN:
        found += [f"{name} imports {module}" for module in foreign_to_a_plain_module(here, source)]
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if (
        calls & {"threading.Thread", "Thread", "ThreadPoolExecutor", "ProcessPoolExecutor"}
        and name not in THREADS
    ):
        found.append(f"{name} starts a thread")
    if name not in ENVIRONMENT and ("os.environ" in source or "os.getenv" in source):
        found.append(f"{name} reads the environment")
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_sees_only_the_rooms_below_it(path: Path) -> None:
    assert violations(name_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("storage/store.py", "from companion.library import library"),
        ("chat/chat.py", "import companion.background.worker"),
        ("chat/chat.py", "from companion import app"),
        ("api/app.py", "from companion.ui.page import build_page"),
        ("library/library.py", "def f():\n    import chromadb"),
        ("chat/prompt.py", "import gradio as gr"),
        ("library/library.py", "import threading\nthreading.Thread(target=print).start()"),
        ("inference/weights.py", "import os\nos.environ['A']"),
        ("inference/embedders.py", "import torch"),
        ("domain.py", "import numpy as np"),
        ("domain.py", "def f():\n    import numpy"),
        ("domain.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pydantic"),
        ("domain.py", "from companion.errors import CompanionError"),
        ("domain.py", "from companion.config import Settings"),
        ("errors.py", "from companion.domain import Place"),
        ("errors.py", "import pydantic"),
        ("errors.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
        ("config.py", "from companion.child import ask"),
        ("config.py", "from companion.errors import InvalidInput"),
        ("config.py", "from companion.storage.store import Store"),
        ("child.py", "from companion.domain import Place"),
        ("child.py", "from companion.library.readers import read_file"),
        ("child.py", "def f():\n    from companion import app"),
        ("storage/store.py", "from ..library import library"),
        ("library/library.py", "from companion.storage.tables import documents"),
        ("library/library.py", "from companion.storage import tables"),
        ("cli.py", "import companion.storage.database"),
        ("library/vectors.py", "import sqlite3"),
        ("app.py", "from companion.storage.database import Database"),
    ],
)
def test_a_planted_violation_is_caught(name: str, source: str) -> None:
    assert violations(name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("domain.py", "import re\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy"),
        ("config.py", "import pydantic\nfrom companion.domain import ThinkingMode"),
        ("child.py", "from companion.config import REPOSITORY"),
        ("storage/store.py", "from companion.storage.database import Database"),
        ("storage/database.py", "from companion.storage import tables"),
        ("library/library.py", "from companion.storage.store import Store"),
        ("cli.py", "from companion import __version__"),
    ],
)
def test_what_is_allowed_is_not_taken_for_a_violation(name: str, source: str) -> None:
    assert violations(name, source) == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_opens_with_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path.read_text())), f"{name_of(path)} has no opening"


def test_every_room_has_its_floor() -> None:
    assert {room_of(name_of(path)) for path in modules()} <= set(FLOORS)


def test_a_test_that_would_reach_another_machine_fails(network) -> None:
    """In each way that a library has, a name that is looked up among them."""
    before = len(network.called)
    ways = [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.getaddrinfo("example.com", 443),
        lambda: urllib.request.urlopen("http://192.0.2.1/", timeout=1),
        lambda: asyncio.run(asyncio.open_connection("2001:db8::1", 80)),
        lambda: asyncio.run(asyncio.to_thread(socket.gethostbyname, "example.com")),
    ]
    for way in ways:
        with pytest.raises(RuntimeError, match="this machine only"):
            way()
    assert len(network.called) == before + len(ways)
    del network.called[before:]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost"])
def test_a_test_may_reach_its_own_machine(host: str) -> None:
    with socket.create_server(("", 0)) as listener:
        socket.create_connection((host, listener.getsockname()[1]), timeout=5).close()
