"""Findings of the doctor: facts about the machine and the app, judged and put into words.

Every function here takes facts and gives one finding; none of them looks anything up. It does not
know where facts come from, nor who reads the findings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from companion.background.gpu import NO_CARD
from companion.background.processor import MEASURING
from companion.config import Mode, is_loopback
from companion.domain import MachineLoad
from companion.errors import CompanionError, DatabaseDamaged, DatabaseTooNew
from companion.storage import sqlite
from companion.storage.space import megabytes

State = Literal["ok", "info", "warning", "error"]
"""`info`: good to know. `warning`: mend it when you can. `error`: something does not work."""

WeightsState = Literal["whole", "damaged", "missing"]

SAFE_OLLAMA = (0, 17, 1)
"""Older ones give their memory away to whoever can reach them (CVE-2026-7482)."""
RESTORE = "Restore a backup with: python -m companion restore FILE --replace"
NETWORK_DISKS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afpfs"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What the doctor found in one place."""

    code: str
    """Which place: `ollama`, `database`, …"""
    state: State
    sentence: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""


def healthy(findings: Iterable[Finding]) -> bool:
    """Nothing is an error."""
    return all(finding.state != "error" for finding in findings)


# --- Ollama -----------------------------------------------------------------------------


def port_of(url: str) -> int | None:
    """None where this is no address at all."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return None


def ollama(url: str, version: str | None) -> Finding:
    """`version`: what Ollama said; None if nobody answered."""
    if port_of(url) is None:
        return Finding(
            "ollama",
            "warning",
            f"{url} is no address, so Ollama is not found; the small built-in model stands in.",
            "Set COMPANION_OLLAMA_HOST to a name or number and a port, as in 127.0.0.1:11434.",
        )
    if version is None:
        return Finding(
            "ollama",
            "info",
            f"Ollama does not answer at {url}; the small built-in model stands in.",
            "For real answers get it at ollama.com/download and start it, or set COMPANION_OLLAMA_HOST.",
        )
    known = _numbers(version)
    if known is not None and known < SAFE_OLLAMA:
        return Finding(
            "ollama",
            "warning",
            f"Ollama {version} at {url} has a hole that gives its memory to whoever can reach it.",
            f"Update it to {'.'.join(map(str, SAFE_OLLAMA))} or newer.",
        )
    return Finding("ollama", "ok", f"Ollama {version} answers at {url}.")


def ollama_exposure(url: str, listening: Collection[str] | None) -> Finding:
    """`listening`: addresses of this machine at which somebody listens on Ollama's port; None if
    the system does not say."""
    code = "ollama_exposure"
    if port_of(url) is None:
        return Finding(code, "info", "Without its address nobody can tell who can reach Ollama.")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not is_loopback(host):
        sentence = f"Ollama is on another machine ({host})"
        if parts.scheme == "https":
            return Finding(code, "info", f"{sentence}; questions and passages go there, encrypted.")
        advice = "Use one on this machine, or put a tunnel or https between the two."
        return Finding(
            code, "warning", f"{sentence}; questions and passages go there for all to read.", advice
        )
    if listening is None:
        return Finding(code, "info", "The system does not tell who can reach Ollama.")
    open_to = sorted(address for address in listening if not is_loopback(address))
    if open_to:
        return Finding(
            code,
            "warning",
            f"Other machines can reach Ollama, which asks nobody for a password ({', '.join(open_to)}).",
            "Start it with OLLAMA_HOST=127.0.0.1.",
        )
    return Finding(code, "ok", "No other machine can reach Ollama.")


def models(chat: Sequence[str], builtin: bool) -> Finding:
    """`chat`: names of Ollama's chat models. `builtin`: the built-in model is there."""
    if chat:
        more = f" and {len(chat) - 1} more" if len(chat) > 1 else ""
        return Finding("models", "ok", f"Ollama has {chat[0]}{more} to chat with.")
    if builtin:
        advice = "Download one, as with: ollama pull llama3.2"
        return Finding("models", "info", "Only the small built-in model can answer.", advice)
    advice = "Run: ollama pull llama3.2, or start once without the setting offline."
    return Finding("models", "error", "No model can answer.", advice)


# --- weights, card ----------------------------------------------------------------------


def weights(name: str, use: str, state: WeightsState, *, needed: bool, fetchable: bool) -> Finding:
    """`use`: what the model is for, such as `light embedder`. `fetchable`: it may be downloaded."""
    code = f"weights_{use.replace(' ', '_').replace('-', '_')}"
    if state == "whole":
        return Finding(code, "ok", f"The {use} {name} is there, and each of its files is what was fetched.")
    if state == "damaged":
        return Finding(
            code, "error", f"The {use} {name} is damaged.", "Remove its folder and run: make weights"
        )
    if not fetchable:
        level: State = "error" if needed else "warning"
        advice = "Start once without the setting offline, or name one that is here."
        return Finding(
            code, level, f"The {use} {name} is not here, and offline it cannot be fetched.", advice
        )
    when = "at the next start" if needed else "when it is needed"
    return Finding(code, "info", f"The {use} {name} is not here yet; it is fetched {when}.")


def card(load: MachineLoad) -> Finding:
    """What was read of the graphics card, or of the processor in its place."""
    if load.source == "gpu" and load.percent is not None:
        free = f", {megabytes(load.memory_free)} of its memory are free" if load.memory_free else ""
        return Finding("gpu", "ok", f"The NVIDIA card is {load.percent:.0f} % busy{free}.")
    if load.source == "gpu":
        notice = load.notice or "The NVIDIA card does not tell how busy it is."
        return Finding("gpu", "warning", notice, "Until then deepening does not start by itself.")
    measuring = load.notice in (None, MEASURING)
    return Finding("gpu", "info", NO_CARD if measuring else str(load.notice))


# --- disk, database, folder -------------------------------------------------------------


def disk(folder: Path, free: int | None, least: int) -> Finding:
    """`least`: bytes below which no documents are taken."""
    if free is None:
        return Finding("disk", "info", f"How much is free on the disk of {folder} cannot be found out.")
    if free < least:
        sentence = (
            f"The disk has only {megabytes(free)} free; below {megabytes(least)} no documents are added."
        )
        return Finding("disk", "error", sentence, "Free some space.")
    return Finding("disk", "ok", f"The disk has {megabytes(free)} free.")


def sqlite_version(version: sqlite.Version, refusal: str | None) -> Finding:
    """`refusal`: why the app cannot work with it."""
    shown = ".".join(map(str, version))
    if refusal:
        return Finding("sqlite", "error", refusal, "Then install the packages again: make clean, make start")
    if not sqlite.is_fixed(version):
        sentence = (
            f"SQLite {shown} has the WAL-reset bug; the app avoids it by writing through one connection."
        )
        return Finding("sqlite", "info", sentence, "A newer Python with SQLite 3.51.3 has it mended.")
    return Finding("sqlite", "ok", f"SQLite {shown} has no fault that is known to matter.")


def database(path: Path, *, there: bool, trouble: str | None, orphans: bool = False) -> Finding:
    """`trouble`: what SQLite finds wrong with it. `orphans`: there are originals of documents without it."""
    if not there and orphans:
        sentence = f"The database in {path.parent} is gone, and files of documents are still there."
        advice = "Restore a backup; else the next start begins anew, and sets these files aside."
        return Finding("database", "error", sentence, advice)
    if not there:
        return Finding(
            "database", "info", f"There is no database in {path.parent} yet; the first start makes it."
        )
    if trouble:
        sentence = f"The database is not sound: {trouble.rstrip('.')}."
        return Finding("database", "error", sentence, RESTORE)
    return Finding("database", "ok", f"The database is sound ({megabytes(path.stat().st_size)}).")


def closed_database(error: CompanionError) -> Finding:
    """One that could not be opened."""
    if isinstance(error, DatabaseDamaged):
        return Finding("database", "error", "The database file is damaged or not a database.", RESTORE)
    if isinstance(error, DatabaseTooNew):
        advice = "Update LLM Companion, or choose another --data-dir."
        return Finding("database", "error", "The database was written by a newer version.", advice)
    sentence, _, advice = error.message.rstrip(".").partition("; ")
    return Finding("database", "error", f"{sentence}.", f"{advice.capitalize() or 'Look into the log'}.")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """The data folder as it lies there."""

    path: Path
    there: bool = True
    writable: bool = True
    mode: int = 0o700
    disk: str | None = None
    """Kind of its file system, where that is known."""
    in_use: bool = False
    leftovers: tuple[Path, ...] = ()
    """What a program that was killed left, in the folder or beside it."""
    blocked: tuple[Path, ...] = ()
    """What the app needs in there and cannot use."""
    aside: tuple[Path, ...] = ()
    """Originals of a database that was gone at a start."""


def folder(facts: FolderFacts) -> Finding:
    path = facts.path
    if not facts.there:
        return Finding(
            "folder", "info", f"The data folder {path} is not there yet; the first start makes it."
        )
    if not facts.writable:
        sentence = f"The data folder {path} cannot be written."
        return Finding("folder", "error", sentence, "Change its permissions, or choose another --data-dir.")
    if facts.blocked:
        sentence = f"The app cannot use {facts.blocked[0]}: it may not write there, or it is of another kind."
        advice = "Change its permissions, or move it away if the app did not make it."
        return Finding("folder", "error", sentence, advice)
    if facts.disk in NETWORK_DISKS:
        sentence = (
            f"The data folder {path} is on a network disk ({facts.disk}), where SQLite's locks may fail."
        )
        return Finding("folder", "warning", sentence, "Move it to a disk of this machine.")
    if facts.mode & 0o077:
        sentence = f"Others of this machine may look into the data folder {path}."
        return Finding("folder", "warning", sentence, f"Run: chmod 700 {path}")
    use = "in use by the running app" if facts.in_use else "in use by nobody"
    return Finding("folder", "ok", f"The data folder {path} is yours alone and {use}.")


def leftovers(facts: FolderFacts) -> Finding:
    if facts.aside:
        sentence = f"At a start the database was gone; the files of before are in {facts.aside[-1]}."
        advice = "Add them again or restore a backup, and remove that folder when you need it no more."
        return Finding("leftovers", "warning", sentence, advice)
    if not facts.leftovers:
        return Finding("leftovers", "ok", "Nothing was left behind by a program that was killed.")
    names = ", ".join(path.name for path in facts.leftovers[:3])
    more = " and more" if len(facts.leftovers) > 3 else ""
    if all(path.is_relative_to(facts.path) for path in facts.leftovers):
        return Finding("leftovers", "info", f"The next start removes what was left: {names}{more}.")
    sentence = f"Beside the data folder something was left: {names}{more}."
    return Finding("leftovers", "info", sentence, "Remove it when you need it no more.")


# --- exposure, index --------------------------------------------------------------------


def exposure(host: str, mode: Mode) -> Finding:
    """`mode`: who is let in."""
    match mode:
        case "local":
            return Finding("exposure", "ok", f"Only this machine can reach the app ({host}).")
        case "shared":
            sentence = f"Other machines can reach the app ({host}); whoever uses it has to sign in."
            advice = "Over a network without HTTPS passwords can be read on the way; see docs/security.md."
            return Finding("exposure", "info", sentence, advice)
        case "demo":
            sentence = f"Anybody who can reach the app ({host}) may use it, as a visitor of their own."
            return Finding("exposure", "warning", sentence, "Start without --demo if that is not meant.")


def index(
    state: Literal["none", "serving", "opening", "exact", "sound", "unknown", "unread"],
    trouble: str | None = None,
) -> Finding:
    """`none`, `sound`: as its files are. The others: as the running app says. `trouble`: why it is not."""
    if trouble:
        advice = "Nothing is lost: the next start builds it again from the stored vectors."
        return Finding("index", "warning", f"The index cannot be used: {trouble.rstrip('.')}.", advice)
    words: dict[str, tuple[State, str]] = {
        "none": ("info", "There is no index yet; the next start builds it."),
        "serving": ("ok", "The index agrees with the database and answers."),
        "opening": ("info", "The index is being checked; stored vectors answer meanwhile."),
        "exact": ("warning", "The index does not answer; stored vectors do, and it is being built again."),
        "sound": ("ok", "The index opens, and finds what the database has stored."),
        "unknown": ("info", "The index was not looked at: the database must be brought up to date first."),
        "unread": ("info", "The index was not looked at, because the database cannot be read."),
    }
    return Finding("index", *words[state])


def unanswered(sentence: str) -> Finding:
    """The app has the folder, but does not answer."""
    advice = "Close it, or end its process, and start it again."
    return Finding("app", "error", sentence, advice)


# --- small facts ------------------------------------------------------------------------


def _numbers(version: str) -> tuple[int, ...] | None:
    """`0.17.1-rc0` as (0, 17, 1); None for what is no version."""
    plain = version.partition("-")[0].partition("+")[0]
    try:
        return tuple(int(part) for part in plain.split("."))
    except ValueError:
        return None
