"""The examination: looks everything up, and has it judged.

Reads, and changes nothing; while it looks into an index that no app has open, it holds the folder.
It does not know how a fact is judged or shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from companion.background.machine_load import LoadReader
from companion.config import Settings
from companion.doctor import findings
from companion.doctor.findings import Finding, FolderFacts, WeightsState
from companion.doctor.probe import probe_index
from companion.domain import MachineLoad
from companion.errors import CompanionError, EngineError, WeightsMissing
from companion.inference.files import sha256
from companion.inference.known_weights import BUILTIN_CHAT_MODEL
from companion.inference.ollama import Ollama
from companion.inference.ollama_embedder import PREFIX as OLLAMA_PREFIX
from companion.inference.weights import MANIFEST, embedder_here, locate
from companion.storage import sqlite
from companion.storage.aside import places_aside
from companion.storage.folder import LOCK
from companion.storage.snapshot import has_content, snapshot
from companion.storage.space import Space

PATIENCE_S = 5.0
IndexState = Literal["serving", "opening", "exact"]


@dataclass(frozen=True, slots=True)
class Engine:
    """What Ollama told."""

    version: str | None
    models: tuple[str, ...] = ()


def examine(
    settings: Settings,
    *,
    index: Callable[[], Finding],
    in_use: bool,
    ask: Callable[[Settings], Engine] | None = None,
    listening: Callable[[int], set[str] | None] | None = None,
) -> tuple[Finding, ...]:
    """All findings, in a fixed order; takes seconds. Raises nothing that can be said as a finding.

    `index` looks at the index, which only whoever has the folder can. `in_use`: an app runs on it.
    """
    settings = with_chosen_embedders(settings)
    engine = (ask or ask_ollama)(settings)
    addresses = (listening or listening_on)(findings.port_of(settings.ollama_url) or 0)
    place = look_at_folder(settings.data_dir, in_use=in_use)
    builtin = _builtin(settings)
    free = Space(_existing(settings.data_dir), 0).free()
    return (
        findings.ollama(settings.ollama_url, engine.version),
        findings.ollama_exposure(settings.ollama_url, addresses),
        findings.models(engine.models, builtin.state in ("ok", "info")),
        *_embedder(settings.embed_light, "light embedder", settings),
        *_embedder(settings.embed_deep, "deep embedder", settings),
        builtin,
        findings.card(_load()),
        findings.disk(settings.data_dir, free, settings.min_free_mb * 1_000_000),
        findings.sqlite_version(sqlite.VERSION, sqlite.refusal()),
        look_at_database(settings.database_path, settings.originals_dir),
        findings.folder(place),
        findings.leftovers(place),
        findings.exposure(settings.host, settings.mode),
        index(),
    )


def examine_running(settings: Settings, state: IndexState | Literal["ready"]) -> tuple[Finding, ...]:
    """From inside the app, whose index is in this state."""
    shown: IndexState = "serving" if state == "ready" else state
    return examine(settings, index=lambda: findings.index(shown), in_use=True)


def examine_idle(settings: Settings) -> tuple[Finding, ...]:
    """While no app runs; whoever calls holds the folder, if it is there."""
    return examine(settings, index=lambda: probe_index(settings), in_use=False)


# --- models and weights -----------------------------------------------------------------


def ask_ollama(settings: Settings) -> Engine:
    """Version and chat models; without a version when nobody answers."""

    async def ask() -> Engine:
        ollama = Ollama(settings.ollama_url, silence_timeout_s=PATIENCE_S, load_timeout_s=PATIENCE_S)
        try:
            version = await ollama.version()
            models = await ollama.models()
        finally:
            await ollama.close()
        return Engine(version, tuple(model.name for model in models if model.can_chat and not model.remote))

    try:
        return asyncio.run(asyncio.wait_for(ask(), 2 * PATIENCE_S))
    except (EngineError, TimeoutError):
        return Engine(None)


def listening_on(port: int) -> set[str] | None:
    """Addresses at which this machine listens; None where the system does not say."""
    try:
        found = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    open_ones = [each.laddr for each in found if each.status == psutil.CONN_LISTEN and each.laddr]
    return {address.ip for address in open_ones if address.port == port}


def with_chosen_embedders(settings: Settings) -> Settings:
    """With the embedders that a person chose on the page, as far as the database can be read."""
    try:
        with snapshot(settings.database_path) as state:
            chosen = state.settings()
    except CompanionError:
        return settings
    names = {name: chosen[name] for name in ("embed_light", "embed_deep") if chosen.get(name)}
    return settings.model_copy(update=names)


def _embedder(name: str, use: str, settings: Settings) -> Iterator[Finding]:
    """Nothing for one of Ollama's: it is looked after there."""
    if name.startswith(OLLAMA_PREFIX):
        return
    try:
        folder = embedder_here(name, settings)
    except WeightsMissing as error:
        yield Finding(f"weights_{use.replace(' ', '_')}", "error", error.message)
        return
    state = _state(folder)
    needed = use == "light embedder"
    yield findings.weights(name, use, state, needed=needed, fetchable=not settings.offline)


def _builtin(settings: Settings) -> Finding:
    use = "built-in model"
    chosen = settings.builtin_model
    if chosen is not None:
        own: WeightsState = "whole" if chosen.expanduser().is_file() else "missing"
        return findings.weights(str(chosen), use, own, needed=False, fetchable=False)
    file = locate(BUILTIN_CHAT_MODEL, settings)
    state = _state(file and file.parent)
    return findings.weights(BUILTIN_CHAT_MODEL, use, state, needed=False, fetchable=not settings.offline)


def _state(folder: Path | None) -> WeightsState:
    return "missing" if folder is None else "whole" if is_whole(folder) else "damaged"


def is_whole(folder: Path) -> bool:
    """Each file is the one that was fetched; true of a folder that we did not fetch."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all(sha256(folder / file) == digest for file, (_size, digest) in manifest["files"].items())
    except FileNotFoundError:
        return not (folder / MANIFEST).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


# --- the machine and the folder ---------------------------------------------------------


def look_at_database(path: Path, originals: Path | None = None) -> Finding:
    """Every page of the file is read. Where there is none, `originals` may tell that there was one."""
    try:
        if not has_content(path):
            orphans = originals is not None and any(originals.glob("*"))
            return findings.database(path, there=False, trouble=None, orphans=orphans)
        with snapshot(path) as state:
            return findings.database(path, there=True, trouble=state.trouble())
    except CompanionError as error:
        return findings.closed_database(error)


def look_at_folder(path: Path, *, in_use: bool) -> FolderFacts:
    if not path.is_dir():
        return FolderFacts(path, there=False, leftovers=tuple(_left_beside(path)))
    left = list(_left_beside(path))
    if not in_use:
        left += [*path.glob("originals/incoming-*"), *filter(_holds_files, _uploads(path))]
    return FolderFacts(
        path,
        writable=os.access(path, os.W_OK | os.X_OK),
        mode=stat.S_IMODE(path.stat().st_mode),
        disk=_disk_of(path),
        in_use=in_use,
        leftovers=tuple(sorted(left)),
        blocked=tuple(_blocked(path)),
        aside=tuple(places_aside(path / "originals")),
    )


def _uploads(path: Path) -> Iterator[Path]:
    yield from path.glob("incoming/*")
    yield from path.glob("uploads/*")


def _holds_files(path: Path) -> bool:
    """An empty folder tells nothing: Gradio makes some."""
    return path.is_file() or any(inside.is_file() for inside in path.rglob("*"))


def _blocked(path: Path) -> Iterator[Path]:
    for name in (LOCK, "companion.db", "originals", "index"):
        place, is_folder = path / name, name in ("originals", "index")
        needed = os.R_OK | os.W_OK | (os.X_OK if is_folder else 0)
        # Of a folder that may not be entered, no more is seen.
        if os.path.exists(place) and (os.path.isdir(place) != is_folder or not os.access(place, needed)):
            yield place


def _left_beside(path: Path) -> Iterator[Path]:
    """What a killed `restore` left, and what `restore --replace` set aside."""
    if path.parent.is_dir():
        yield from path.parent.glob(f".{path.name}.*.restoring")
        yield from places_aside(path)


def _disk_of(path: Path) -> str | None:
    """The kind of file system that a folder is on."""
    try:
        disks = psutil.disk_partitions(all=True)
    except (psutil.Error, OSError):
        return None
    whole = path.resolve()
    over = [disk for disk in disks if whole.is_relative_to(disk.mountpoint)]
    return max(over, key=lambda disk: len(disk.mountpoint)).fstype if over else None


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(place for place in (path, *path.parents) if place.exists())


def _load() -> MachineLoad:
    reader = LoadReader()
    try:
        return reader.read()
    finally:
        reader.close()
