"""Every text of the page, in the language of this start.

Reads the files in `locales/`: a key and what it says, with `{name}` where a value goes, and
two forms where it counts something. It does not know where a text is shown, and escapes nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

log = logging.getLogger(__name__)

LOCALES = Path(__file__).parent / "locales"
ENGLISH = "en"

Entry = str | dict[str, str]
"""What a key says; of what is counted, `one` and `other`."""

_PLACE = re.compile(r"\{(\w+)\}")
_MARKED = re.compile(r"\{\{([\w.]+)\}\}")


def load(language: str, folder: Path = LOCALES) -> dict[str, Entry]:
    """All texts; what the language's file does not say, or what has no file, is in English."""
    texts = _read(folder / f"{ENGLISH}.json")
    own = folder / f"{language}.json"
    if own.is_file():
        return texts | _read(own) | {"app.language": language}
    log.warning("There are no texts in the language %s, so the page is in English.", language)
    return texts


def choose(language: str, folder: Path = LOCALES) -> None:
    """From now on texts are in this language; once, before a page is built."""
    _texts.update(load(language, folder))


def text(key: str, /, **values: object) -> str:
    """What the key says, with the values as they are: whoever makes HTML of it escapes it.

    `n` is a number, shown as one; it also chooses the form where there are two.

    >>> text("count.document", n=2)
    '2 documents'
    """
    entry = _texts[key]
    if not isinstance(entry, str):
        entry = entry["one" if values["n"] == 1 else "other"]
    return _PLACE.sub(lambda found: _shown(found[1], values[found[1]]), entry)


def html_text(key: str, /, **values: object) -> str:
    """As `text`, escaped whole, so that values go in as they are."""
    return escape(text(key, **values))


def number(value: float, digits: int = 0) -> str:
    """With the marks of the language.

    >>> number(1234.56, 1)
    '1,234.6'
    """
    marks = str.maketrans({",": text("number.group"), ".": text("number.point")})
    return f"{value:,.{digits}f}".translate(marks)


def filled(markup: str, values: Mapping[str, str]) -> str:
    """HTML of ours where `{{name}}` is a value, or else the key of a text; escaped."""

    def put(name: str) -> str:
        return escape(values[name]) if name in values else html_text(name, **values)

    return _MARKED.sub(lambda found: put(found[1]), markup)


def for_scripts() -> str:
    """All texts as JSON that can stand in a page."""
    return json.dumps(_texts, ensure_ascii=False).replace("<", "\\u003c")


def _read(path: Path) -> dict[str, Entry]:
    texts: dict[str, Entry] = json.loads(path.read_text(encoding="utf-8"))
    return texts


def _shown(name: str, value: object) -> str:
    return number(value) if name == "n" and isinstance(value, int) else str(value)


_texts = _read(LOCALES / f"{ENGLISH}.json")
