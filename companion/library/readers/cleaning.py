"""The one place where text and file names are cleaned before anybody stores or shows them.

Knows Unicode. It does not know formats. Everything here is linear in its input.

Removed: control characters but tab and line end, lone surrogates, what nobody can see (zero-width
characters, soft hyphens, fillers), what turns the order of letters (bidi controls), and what
smuggles text past the eye (tag characters, variation selectors). Zero-width joiners stay where they
shape letters: between two characters of Arabic or Indic script, or in emoji; the two selectors of
emoji stay behind a sign that has both looks.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_NAME = 120
_MAX_MARKS = 30
"""More combining marks than this on one letter is no script (UAX #15, stream-safe text)."""

_SHAPED = "\u0600-\u1dff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_LOOSE_JOINER = re.compile(f"(?<![{_SHAPED}])[\u200c\u200d]+|[\u200c\u200d](?![{_SHAPED}])")
_LOOSE_SELECTOR = re.compile("(?<![0-9#*\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f]+")
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_MARK = "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]"
_MARKS = re.compile(f"({_MARK}{{{_MAX_MARKS}}}){_MARK}+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIGATURE = re.compile("[\ufb00-\ufb06]")
# Anchored at the start of a run: without the lookbehind each blank of a long run starts again.
_TRAILING = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
_WIDE = re.compile(r"(?<=[^\s])[ \t]{9,}")
_INDENT = re.compile(r"^([ \t]{200})[ \t]+", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n{3,}")


def clean_text(text: str) -> str:
    """The text as it is stored: NFC, without anything unseen, lines kept, at most one empty line."""
    text = _join_surrogates(text)
    text = _LINE_END.sub("\n", text)
    text = without_unseen(text)
    text = _SPACE.sub(" ", text)
    text = _LIGATURE.sub(lambda match: unicodedata.normalize("NFKC", match.group()), text)
    text = unicodedata.normalize("NFC", _MARKS.sub(r"\1", text))
    text = _TRAILING.sub("", text)
    text = _INDENT.sub(r"\1", _WIDE.sub(" " * 8, text))
    return _EMPTY_LINES.sub("\n\n", text).strip("\n")


def without_unseen(text: str) -> str:
    """Without what nobody can see; what it does not change may be given again."""
    if text.isascii() and text.isprintable():
        return text
    return _LOOSE_JOINER.sub("", _LOOSE_SELECTOR.sub("", _UNSEEN.sub("", text)))


def _join_surrogates(text: str) -> str:
    """Pairs become the character they stand for, lone ones go."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def clean_name(name: str) -> str:
    r"""A file name fit to be shown and to tell documents apart: no control or bidi character, the
    name itself at most 120 characters.

    The folders of an upload stay, with `/` between them, so that equal names in different folders
    are different documents. Of a path that is absolute or climbs up, only the last part stays.

    >>> clean_name("reports/2024/a.pdf"), clean_name("..\\secret/\u202egnp.exe")
    ('reports/2024/a.pdf', 'gnp.exe')
    """
    parts = (" ".join(clean_text(part).split()) for part in re.split(r"[/\\]", name[-4000:]))
    *folders, last = parts
    if not last.strip(". "):
        return "document"
    return _folder(folders) + _shorten(last)


def _folder(folders: list[str]) -> str:
    """The folders as the beginning of a name; nothing if the path is absolute or climbs up."""
    inner = [folder for folder in folders if folder not in ("", ".")]
    absolute = folders[:1] == [""] or any(folder.endswith(":") for folder in inner[:1])
    if absolute or not all(folder.strip(". ") for folder in inner):
        return ""
    path = "".join(f"{folder}/" for folder in inner)
    if len(path) <= MAX_NAME:
        return path
    # Cut, it could be that of another folder.
    return f"…{hashlib.sha256(path.encode()).hexdigest()[:12]}/"


def _shorten(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > 10:
        return name[:MAX_NAME]
    return stem[: MAX_NAME - len(suffix) - 2] + "…" + dot + suffix
