"""The notes of a model that thinks in passes: when a pass changed nothing, when it goes in circles.

Pure: texts in, answers out. It does not know prompts or engines.
"""

from __future__ import annotations

import re

_APPROVAL = re.compile(
    r"(ok|okay|yes|all good|(the|these|my|your) notes are (right|correct|fine|complete)|"
    r"no (further )?(changes?|corrections?)( is| are)?( needed| necessary| required)?|"
    r"nothing (needs|has|is) to (be )?(changed?|corrected?)|nothing to (change|correct))"
)
_OPENING = re.compile(r"let me (think|check)( them| this| it)? step by step\W*", re.IGNORECASE)
_MARKER = re.compile(r"^\s*(?:[-*•>#]+|\d+[.)])\s+", re.MULTILINE)
_END = re.compile(r"[.!?…:;]+(?=\s|$)|[\u3002\uff01\uff1f]|\n+")


def nothing_to_change(draft: str, checked: str) -> bool:
    """Whether a pass of checking left the notes as they were: it says so, or only says them again.

    How the notes are set, numbered, ordered and spelt with capitals does not count.
    """
    before, after = _statements(draft), _statements(checked)
    news = {each for each in after if not _APPROVAL.fullmatch(each)}
    return bool(after) and (not news or news == before)


def _statements(notes: str) -> set[str]:
    """What is said, each in plain words."""
    bare = _MARKER.sub("", _OPENING.sub("", notes))
    plain = (" ".join(re.findall(r"[\w+−-]+", each.casefold())) for each in _END.split(bare))
    return {each for each in plain if each}


def repetition(text: str) -> int:
    """How many characters at the end of a text only repeat, a third time at least, what is before."""
    for size in range(12, min(len(text) // 3, 300) + 1):
        unit = text[-size:]
        if unit.strip(". \n") and text.endswith(unit * 3):
            return 2 * size
    return 0
