"""The hash of an embedder's weights: equal hash, equal vectors.

Knows which files have a say, and remembers what it has hashed. It does not know what they mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from companion.errors import EmbedderError
from companion.inference.files import sha256


def weight_hash(folder: Path, cache_dir: Path) -> str:
    """sha256 over weights, tokenizer and configs, hex; remembered while no file changes.

    Raises EmbedderError when the folder has no safetensors.
    """
    files = sorted(path for path in folder.rglob("*") if _decides(path.relative_to(folder)))
    if not any(path.suffix == ".safetensors" for path in files):
        raise EmbedderError(f"The embedder in {folder} has no weights as safetensors: choose another.")
    seen = [
        [path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files
    ]
    note = cache_dir / "hashes" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["files"] == seen:
            return str(known["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    together = hashlib.sha256()
    for path in files:
        together.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    _write_note(note, {"files": seen, "hash": together.hexdigest()})
    return together.hexdigest()


def _decides(path: Path) -> bool:
    """Whether a file has a say in the vectors; the manifest of a fetch and training notes have none."""
    if any(part.startswith(".") or part in ("onnx", "openvino") for part in path.parts):
        return False
    if path.name in ("fetched.json", "data_config.json"):
        return False
    return path.suffix in (".safetensors", ".json", ".model") or path.name in ("vocab.txt", "merges.txt")


def _write_note(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)
