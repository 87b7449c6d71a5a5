"""What was acknowledged: one fact a line, on the disk before anything else happens."""

import json
import os
import threading
from dataclasses import dataclass, field

UNKNOWN = "?"
"""Stands for whatever it was before the first change."""


class Oracle:
    """Append-only, and synced: a kill takes back nothing that stands here."""

    def __init__(self, path):
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def note(self, kind, **fact):
        with self._lock:
            self._file.write(json.dumps({"kind": kind, **fact}).encode() + b"\n")
            os.fsync(self._file.fileno())

    def close(self):
        self._file.close()


@dataclass
class Told:
    """The facts of an oracle, put together. What was only begun may have happened or not."""

    documents: dict[str, set[str]] = field(default_factory=dict)
    """Document to the texts that it may have: one, or two while a change was not acknowledged."""
    readable: set[str] = field(default_factory=set)
    """Documents that were taken in to the end once: something of them is always found."""
    deleted: set[str] = field(default_factory=set)
    gone_texts: set[str] = field(default_factory=set)
    """Texts of deleted documents, and of versions that were replaced."""
    unsure: set[str] = field(default_factory=set)
    """Documents whose deletion or undoing was begun and not acknowledged."""
    questions: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)
    titles: dict[str, set[str]] = field(default_factory=dict)
    settings: dict[str, set[str]] = field(default_factory=dict)
    facts: int = 0


def read(path):
    told = Told()
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            _add(told, json.loads(line))
    return told


def _add(told, fact):
    told.facts += 1
    match fact:
        case {"kind": "uploaded", "doc": doc, "text": text}:
            told.documents[doc] = {text}
        case {"kind": "readable", "doc": doc}:
            told.readable.add(doc)
        case {"kind": "changing", "doc": doc, "text": text}:
            told.documents[doc] = told.documents[doc] | {text}
        case {"kind": "changed", "doc": doc, "text": text}:
            told.gone_texts |= told.documents[doc] - {text}
            told.documents[doc] = {text}
        case {"kind": "deleting" | "undoing", "doc": doc}:
            told.unsure.add(doc)
        case {"kind": "deleted", "doc": doc}:
            told.unsure.discard(doc)
            told.deleted.add(doc)
        case {"kind": "undone", "doc": doc}:
            told.unsure.discard(doc)
            told.deleted.discard(doc)
        case {"kind": "asked", "session": session, "text": text}:
            told.questions.append((session, text))
        case {"kind": "answered", "session": session, "text": text}:
            told.answers.append((session, text))
        case {"kind": "renaming", "session": session, "title": title}:
            told.titles[session] = told.titles.get(session, {UNKNOWN}) | {title}
        case {"kind": "renamed", "session": session, "title": title}:
            told.titles[session] = {title}
        case {"kind": "setting", "name": name, "value": value}:
            told.settings[name] = told.settings.get(name, {UNKNOWN}) | {value}
        case {"kind": "set", "name": name, "value": value}:
            told.settings[name] = {value}
