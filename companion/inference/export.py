"""The exported model: ONNX and a tokenizer made of an embedder's weights, once, in a child.

Knows when an export is whole and when it must be made again. It does not know torch, or who runs it.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from filelock import FileLock

from companion.child import Child
from companion.errors import EmbedderError
from companion.inference.files import sha256

log = logging.getLogger(__name__)

EXPORT_FORMAT = 1
"""Raised when the export changes, so that older ones are made again."""
EXPORT_TIMEOUT_S = 1800.0
MODEL_FILE, TOKENIZER_FILE, SIDECAR_FILE = "model.onnx", "tokenizer.json", "model.json"


def exported(folder: Path, weights: str, cache_dir: Path, *, may_export: bool = True) -> Path:
    """Folder with the ONNX model and tokenizer of these weights, made in a child if it is not there.

    Checked by sha256 each time. Raises EmbedderError.
    """
    home = cache_dir / weights[:32]
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir / f".{home.name}.lock"):
        if _is_intact(home, weights):
            return home
        if not may_export:
            raise EmbedderError(f"The embedder {folder.name} is not prepared yet: start the app once.")
        log.info("Preparing the embedder %s, once", folder.name)
        _export(folder, home, weights)
    return home


def _is_intact(home: Path, weights: str) -> bool:
    try:
        sidecar = json.loads((home / SIDECAR_FILE).read_text(encoding="utf-8"))
        return (
            sidecar["format"] == EXPORT_FORMAT
            and sidecar["weight_hash"] == weights
            and all(sha256(home / file) == sidecar["files"][file] for file in (MODEL_FILE, TOKENIZER_FILE))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _export(folder: Path, home: Path, weights: str) -> None:
    _remove_leftovers(home)
    child = Child("companion.inference.embedder_process", ["export", str(folder), str(home), weights])
    try:
        code = child.wait(EXPORT_TIMEOUT_S)
        answer = child.stdout.read() if code is not None else b""
    finally:
        child.kill()
        _remove_leftovers(home)
    if not _is_intact(home, weights):
        raise EmbedderError(
            _reason(answer) or f"The embedder {folder.name} could not be prepared: see the log."
        )


def _remove_leftovers(home: Path) -> None:
    """What a killed export left; only under the lock, so nobody is writing there."""
    for leftover in home.parent.glob(f".{home.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)


def _reason(answer: bytes) -> str | None:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return None
