"""The library of a data folder as a command reaches it: in this process, or in the app that runs.

Knows the address and the key that a running app leaves. It does not know commands, or what they print.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from companion.app import Companion
from companion.config import Settings
from companion.domain import LOCAL_OWNER, DocumentState
from companion.errors import CompanionError, FolderLocked, InvalidInput
from companion.web import address_file, key_file

PATIENCE = httpx.Timeout(10.0, read=None)
"""A large file is read for minutes before the app answers."""


class Here:
    """The library in this process, warmed up."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    def add(self, path: Path) -> str | None:
        """None, or a sentence that says why not."""
        try:
            document = self._companion.library.add(LOCAL_OWNER, path.name, _readable(path))
        except CompanionError as error:
            return error.message
        return document.error if document.state is DocumentState.FAILED else None

    def search(self, query: str) -> list[tuple[str, float, str]]:
        """Document, score and text of the passages found, best first."""
        top_k = self._companion.sessions.preferences().top_k
        found = self._companion.library.search(LOCAL_OWNER, query, top_k)
        return [(hit.document_name, hit.score, hit.passage.text) for hit in found.hits]


class There:
    """The library of the running app, over its HTTP interface."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def add(self, path: Path) -> str | None:
        """None, or a sentence that says why not."""
        try:
            with _readable(path).open("rb") as file:
                answer = self._client.post("/api/documents", files={"files": (path.name, file)})
        except CompanionError as error:
            return error.message
        return None if answer.is_success else str(answer.json()["error"]["message"])

    def search(self, query: str) -> list[tuple[str, float, str]]:
        """Document, score and text of the passages found, best first."""
        answer = self._client.get("/api/search", params={"q": query})
        hits = answer.raise_for_status().json()["hits"]
        return [(hit["document_name"], hit["score"], hit["passage"]["text"]) for hit in hits]


def _readable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InvalidInput("there is no such file, or it cannot be read.")
    return path


@contextmanager
def library(settings: Settings, opened: Callable[[Settings], Companion]) -> Iterator[Here | There]:
    """The library of the data folder: the running app's if it has the lock, else ours, `opened`."""
    try:
        companion = opened(settings)
    except FolderLocked as locked:
        with client_of(settings, locked) as client:
            yield There(client)
        return
    try:
        companion.start()
        while companion.health().state == "warming":
            time.sleep(0.05)
        yield Here(companion)
    finally:
        companion.close()


def _key_of(settings: Settings) -> dict[str, str]:
    """Where one has to sign in, the app left a key for us."""
    with suppress(FileNotFoundError):
        return {"Authorization": f"Bearer {key_file(settings).read_text(encoding='utf-8')}"}
    return {}


@contextmanager
def client_of(settings: Settings, locked: FolderLocked) -> Iterator[httpx.Client]:
    try:
        address = address_file(settings).read_text(encoding="utf-8")
        # Proxies of the environment are not asked: the app is on this machine.
        with httpx.Client(
            base_url=address, headers=_key_of(settings), timeout=PATIENCE, trust_env=False
        ) as client:
            yield client
    except FileNotFoundError:
        raise locked from None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise FolderLocked("The running app does not answer as it should; close it and try again.") from error
