"""In which language a text is, as far as its script and its common words tell; and of many texts.

Pure. It does not know documents, embedders or what follows from a language.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

from companion.words import words_in

# Telling words of languages that share a script; enough to see that a text is in another one.
_COMMON = {
    "en": "the of and to in is that it was for are what how which does who when where why with",
    "de": "der die das und ist nicht ein eine zu den mit von auf was wie welche wer wann wo warum für",
    "fr": "le la les des et est une pour dans que qui du au sur avec quel quelle comment pourquoi",
    "es": "el la los las y es una para en que del por con qué cómo cuál cuándo dónde quién",
    "it": "il lo la gli e è una per di che del con sono cosa come quale quando dove chi perché",
}
_TELLING = {language: frozenset(words.split()) for language, words in _COMMON.items()}


def script_of(text: str) -> str:
    """Of most letters, as Unicode names it: LATIN, CYRILLIC, ARABIC, CJK …; empty without letters."""
    names = Counter(
        unicodedata.name(character, "?").partition(" ")[0] for character in text if character.isalpha()
    )
    # Japanese mixes three of them.
    kinds = Counter({"CJK": sum(names.pop(name, 0) for name in ("CJK", "HIRAGANA", "KATAKANA"))}) + names
    return kinds.most_common(1)[0][0] if kinds else ""


def language_of(text: str) -> str | None:
    """Of five that are written in Latin letters; None where common words do not tell."""
    words = list(words_in(text))
    hits = Counter({code: sum(word in telling for word in words) for code, telling in _TELLING.items()})
    (best, most), (_, second) = hits.most_common(2)
    return best if most > second else None


def foreign_share(texts: Sequence[str]) -> float:
    """The share of the texts that are surely not in English."""
    return sum(map(_is_foreign, texts)) / max(len(texts), 1)


def _is_foreign(text: str) -> bool:
    return script_of(text) not in ("LATIN", "") or language_of(text) not in ("en", None)
