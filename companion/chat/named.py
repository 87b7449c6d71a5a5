"""Documents that a question names by their files, as “What does lease-2024.pdf say of pets?”.

Knows names and how people write them. It does not know how a search is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from companion.domain import Document
from companion.words import SPACELESS

_ENDING = re.compile(r"\S\.\w")
_BEFORE = rf"(?<![^\W{SPACELESS}])(?<![/.-])"
_BEHIND = rf"(?![^\W{SPACELESS}]|[-.]\w)"


def names_a_file(question: str) -> bool:
    """Whether there is anything in it that looks like one: a list of all documents takes long to read."""
    return _ENDING.search(question) is not None


def named_in(question: str, documents: Iterable[Document]) -> list[Document]:
    """Those whose name stands in the question as a whole, its folder left out or not.

    Names without an ending like “.pdf” do not count: they may just be words.
    """
    asked, named = _plain(question), dict[str, list[Document]]()
    for document in documents:
        for spelling in spellings(document):
            if spelling in asked and PurePath(spelling).suffix:
                named.setdefault(spelling, []).append(document)
    found: dict[str, Document] = {}
    # The longest first, each letter once: “old notes.txt” does not name “notes.txt”.
    for spelling in sorted(named, key=len, reverse=True):
        asked, times = re.subn(rf"{_BEFORE}{re.escape(spelling)}{_BEHIND}", "\0", asked)
        if times:
            found |= {document.doc_id: document for document in named[spelling]}
    return list(found.values())


def spellings(document: Document) -> set[str]:
    """The name as people write it, with its folder and without, in lower case."""
    name = _plain(document.name)
    return {name, PurePath(name).name}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
