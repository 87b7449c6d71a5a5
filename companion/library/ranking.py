"""Fusing rankings and feeding them back: numbers in, numbers out.

Knows scores and vectors. It does not know where they come from, nor what a passage says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from companion.tuning import (
    COMMON_FLOOR,
    COMMON_SHARE,
    DEPTH,
    FEEDBACK_PASSAGES,
    FEWEST_IN_BOTH,
    LIGHT_SHARE,
    QUESTION_TERMS,
)
from companion.words import is_spaceless, words_in

if TYPE_CHECKING:
    from companion.domain import Vectors

Ranking = Mapping[str, float]
"""Passage id to score; higher is better."""

STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be because been before being but by can could did do
    does doing down during each for from further had has have having he her here hers him his how i if in
    into is it its itself just me more most my no nor not now of off on once only or other our out over own
    same she should so some such than that the their them then there these they this those through to too
    under until up very was we were what when where which while who whom why will with would you your
    """.split()
)
_ASKING = re.compile(
    r"""什么时候|什么|怎么样|怎么|怎样|如何|哪些|哪个|哪里|哪儿|为什么|多少|多久|多大|多长|是否|是不是|可以|请问|能否
    |でしょうか|ですか|ますか|ました|ません|です|ます|ください|について|どうすれば|いいですか|どこ|いつ|だれ|どう|なぜ
    |どの|どれ|どんな|いくら|とき|誰|何
    |(?<=[가-힣])(?:인가요|한가요|하나요|되나요|있나요|나요|입니까|습니까|합니까)
    |무엇[이을은]?|언제|어디에?서?|누구|누가|어떻게|얼마나|얼마|왜|몇
    |อะไร|เมื่อไร|เมื่อไหร่|ที่ไหน|อย่างไร|ทำไม|เท่าไร|เท่าไหร่|ใคร|กี่|ไหม""",
    re.VERBOSE,
)
"""What makes a question of words, in Chinese, Japanese, Korean and Thai …"""
_JOINING = re.compile(
    r"""(?<!目)的(?![确士])|了(?!解)|[吗呢吧是]
    |(?<![ぁ-ん])[はがをにのへとでもかや](?![ぁ-ん])
    |(?<=[가-힣]{2})(?:에서|에는|으로|부터|까지|[은는이가을를의에로와과도만])(?![가-힣])""",
    re.VERBOSE,
)
"""… and what joins words or hangs on them."""


def telling_part(question: str) -> str:
    """A question without what only asks, where words do not stand apart and no list can tell them."""
    return _JOINING.sub(" ", _ASKING.sub(" ", question)) if is_spaceless(question) else question


def search_terms(question: str, frequency: Callable[[str], int], total: int) -> list[str]:
    """The words worth looking up: no stop words, no words that are everywhere.

    A question made of nothing else keeps its words: finding something beats finding nothing.
    """
    words = list(dict.fromkeys(words_in(question)))
    told = dict.fromkeys(words_in(telling_part(question)))
    telling = [word for word in told if word not in STOP_WORDS][:QUESTION_TERMS]
    limit = max(COMMON_SHARE * total, COMMON_FLOOR)
    rare = [word for word in telling if frequency(word) <= limit]
    return rare or telling or words[:QUESTION_TERMS]


def top(ranking: Ranking, count: int) -> dict[str, float]:
    """The `count` best, best first; equal scores in the order of their ids."""
    best = sorted(ranking.items(), key=lambda entry: (-entry[1], entry[0]))
    return dict(best[:count])


def min_max(ranking: Ranking) -> dict[str, float]:
    """Scores stretched to 0 … 1 within their list; a list without spread is all 1."""
    if not ranking:
        return {}
    low, high = min(ranking.values()), max(ranking.values())
    spread = high - low
    if spread <= 0:
        return dict.fromkeys(ranking, 1.0)
    return {key: (score - low) / spread for key, score in ranking.items()}


def standard(ranking: Ranking, entries: int = 0) -> dict[str, float]:
    """Scores above the lowest of their list, in standard deviations; a list without spread is all 1.

    A list shorter than `entries` is filled up with zeros: what few passages have counts more.
    """
    if not ranking:
        return {}
    scores = np.array([*ranking.values(), *[0.0] * (entries - len(ranking))])
    low, deviation = float(scores.min()), float(scores.std())
    if deviation <= 0:
        return dict.fromkeys(ranking, 1.0)
    return {key: (score - low) / deviation for key, score in ranking.items()}


def fuse(light: Ranking, lexical: Ranking) -> dict[str, float]:
    """Similarities and BM25 scores as one ranking; 0 outside a list.

    Fusion of standard scores (Montague and Aslam, CIKM 2001). BM25 gives 0 to a passage without the
    words, so that a word of few passages weighs as much as it tells apart: a code or a name is found.
    A list counts as `DEPTH` long in a small library too, where a word in one document of many passages
    would else weigh less than the best of what only seems alike.
    """
    one, two = standard(light), standard(lexical, max(len(light), DEPTH))
    return {
        key: LIGHT_SHARE * one.get(key, 0.0) + (1 - LIGHT_SHARE) * two.get(key, 0.0)
        for key in one.keys() | two.keys()
    }


def mix(first: Ranking, second: Ranking, share: float) -> dict[str, float]:
    """`(1 - share) · mm(first) + share · mm(second)` over the best `DEPTH` of each, 0 outside.

    Score fusion by min-max normalisation (Fox and Shaw, TREC-2 1993); it beats reciprocal rank
    fusion on all sets we measured. For a ranking and what refines it.
    """
    one, two = min_max(_deepest(first)), min_max(_deepest(second))
    return {
        key: (1 - share) * one.get(key, 0.0) + share * two.get(key, 0.0) for key in one.keys() | two.keys()
    }


def _deepest(ranking: Ranking) -> Ranking:
    # Sorting costs more than all the rest, and most lists are no longer than this.
    return ranking if len(ranking) <= DEPTH else top(ranking, DEPTH)


def best_windows(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Passage scores from window scores: the best window of a passage counts."""
    best: dict[str, float] = {}
    for key, score in found:
        if score > best.get(key, -np.inf):
            best[key] = score
    return best


def feedback_query(hybrid: Ranking, vectors: Mapping[str, Vectors]) -> Vectors | None:
    """Pseudo-relevance feedback: the mean of the best passages' vectors, weighted by score.

    `vectors` maps a passage to its windows, shape (windows, dimension). Returns a vector of
    length 1, or None where no good passage has a vector. Rocchio 1971; Vector-PRF,
    arXiv 2108.11044.
    """
    best = [
        (key, score) for key, score in top(hybrid, FEEDBACK_PASSAGES).items() if key in vectors and score > 0
    ]
    if not best:
        return None
    total = np.sum([score * unit(vectors[key].mean(axis=0)) for key, score in best], axis=0)
    return unit(total)


def on_one_scale(deep: Ranking, light: Ranking) -> dict[str, float] | None:
    """Similarities of a partly deep library: deep ones where there are any, else light ones.

    Deep ones are brought to the mean and deviation of the light ones, over passages that have
    both. None where too few have both, or all the same.
    """
    both = deep.keys() & light.keys()
    if len(both) < FEWEST_IN_BOTH:
        return None
    deep_values, light_values = (np.array([ranking[key] for key in both]) for ranking in (deep, light))
    if not deep_values.std() or not light_values.std():
        return None
    scale = float(light_values.std() / deep_values.std())
    shift = float(light_values.mean()) - scale * float(deep_values.mean())
    return {**light, **{key: shift + scale * value for key, value in deep.items()}}


def cosines(query: Vectors, vectors: Mapping[str, Vectors]) -> dict[str, float]:
    """Cosine of the best window of each passage; `vectors` as `feedback_query` takes them."""
    return {key: float((windows @ query).max()) for key, windows in vectors.items()}


def unit(vector: Vectors) -> Vectors:
    """The vector at length 1; a zero vector stays zero."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32)


def exact(query: Vectors, keys: Sequence[str], matrix: Vectors, count: int) -> list[tuple[str, float]]:
    """The `count` nearest rows by cosine, best first. `matrix`: (n, dimension), rows of length 1."""
    if not len(keys):
        return []
    scores = matrix @ query
    count = min(count, len(keys))
    nearest = np.argpartition(-scores, count - 1)[:count]
    ordered = nearest[np.argsort(-scores[nearest], kind="stable")]
    return [(keys[index], float(scores[index])) for index in ordered]
