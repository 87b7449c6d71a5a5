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
    spellings: dict[str, list[Document]] = {}
    for document in documents:
        name = _plain(document.name)
        if PurePath(name).suffix:
            for spelling in {name, PurePath(name).name}:
                spellings.setdefault(spelling, []).append(document)
    asked, found = _plain(question), dict[str, Document]()
    # The longest first, each letter once: “old notes.txt” does not name “notes.txt”.
    for spelling in sorted(spellings, key=len, reverse=True):
        asked, times = re.subn(rf"{_BEFORE}{re.escape(spelling)}{_BEHIND}", "\0", asked)
        if times:
            found |= {document.doc_id: document for document in spellings[spelling]}
    return list(found.values())


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
