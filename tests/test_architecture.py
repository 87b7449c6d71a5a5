"""Imports go down only, and each foreign library stays in its room."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "companion"

FLOORS = {
    "domain": 0, "errors": 0, "config": 0, "child": 0,
    "storage": 1, "inference": 1,
    "library": 2,
    "chat": 3, "background": 3, "quality": 3,
    "app": 4,
    "api": 5, "ui": 5,
    "web": 6,
    "cli": 7, "__main__": 8, "__init__": 8,
}  # fmt: skip

FENCES = {
    "sqlalchemy": ("storage/",),
    "alembic": ("storage/",),
    "chromadb": ("library/vectors.py",),
    "llama_index": ("library/",),
    "gradio": ("ui/", "web.py"),
    "fastapi": ("api/", "web.py"),
    "starlette": ("api/", "web.py"),
    "ollama": ("inference/ollama.py",),
    "xllamacpp": ("inference/builtin.py",),
    "onnxruntime": ("inference/embedders.py",),
    "torch": ("inference/embedder_process.py",),
    "sentence_transformers": ("inference/embedder_process.py",),
    "transformers": ("inference/embedder_process.py",),
    "pynvml": ("background/gpu.py",),
}
THREADS = ("background/worker.py", "chat/runs.py", "app.py", "child.py")
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


def violations(name: str, source: str) -> list[str]:
    tree = ast.parse(source)
    here = room_of(name)
    found = []
    for module in imports(tree):
        top, _, rest = module.partition(".")
        if top == "companion" and rest:
            there = rest.split(".")[0]
            if there in FLOORS and there != here and FLOORS[there] >= FLOORS[here] and FLOORS[here] > 0:
                found.append(f"{name} imports {module}: {here} may not see {there}")
        allowed = FENCES.get(top)
        if allowed and not name.startswith(allowed):
            found.append(f"{name} imports {module}: only {', '.join(allowed)} may")
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
    ],
)
def test_a_planted_violation_is_caught(name: str, source: str) -> None:
    assert violations(name, source)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_opens_with_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name_of(path)} has no opening"
