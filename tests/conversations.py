"""Conversations over the bundled sample library, and how well their questions are found.

Knows texts and ranks. It does not know how a follow-up is put into words for the search.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from companion.chat.followup import leans_on_history, with_topic
from companion.chat.prompt import Exchange
from companion.config import REPOSITORY
from companion.domain import LOCAL_OWNER
from companion.library.library import Library
from companion.library.vectors import VectorIndex
from companion.storage.store import Store

FILE = Path(__file__).parent / "data" / "conversations.jsonl"
SAMPLES = REPOSITORY / "data" / "sample"


Way = Callable[["Asked", tuple[Exchange, ...]], str]
"""A later question and the turns before it, to the words that are searched for."""


@dataclass(frozen=True)
class Asked:
    """A question in its conversation."""

    question: str
    said: str
    """What was answered."""
    answers: tuple[tuple[str, str], ...]
    """(document, words) of each passage that answers it; one of them is enough."""
    alone: str | None
    """The same in words that need no conversation; None if it needs none anyway."""


@dataclass(frozen=True)
class Talk:
    """A conversation. The rules of follow-ups were made looking at some; the others were written later."""

    tuned_on: bool
    turns: tuple[Asked, ...]


@dataclass(frozen=True)
class Score:
    """Over questions: the share found within the first five passages, and the mean reciprocal rank."""

    questions: int
    recall: float
    mrr: float


@cache
def talks() -> tuple[Talk, ...]:
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return tuple(
        Talk(
            line["tuned_on"],
            tuple(
                Asked(turn["q"], turn["a"], tuple(map(tuple, turn["found"])), turn.get("alone"))
                for turn in line["turns"]
            ),
        )
        for line in lines
    )


def whole_questions() -> list[str]:
    """Those that stand by themselves: first ones, later ones about something else, rewritten ones."""
    turns = [(turn, not place) for talk in talks() for place, turn in enumerate(talk.turns)]
    return [turn.question for turn, first in turns if first or not turn.alone] + [
        turn.alone for turn, _ in turns if turn.alone
    ]


def follow_ups() -> list[str]:
    return [turn.question for talk in talks() for turn in talk.turns[1:] if turn.alone]


@contextmanager
def sample_library(folder, embedder):
    """The sample library, searched as the program does it."""
    store = Store.open(folder / "companion.db")
    library = Library(
        store, embedder, VectorIndex(folder / "index"), originals=folder / "originals", max_bytes=10**6
    )
    library.install_samples(SAMPLES)
    library.open_index()
    try:
        yield library
    finally:
        library.close()
        store.close()


def rank(library: Library, query: str, answers: Sequence[tuple[str, str]], deepest: int = 20) -> int | None:
    """1-based place of the first passage that holds an answer."""
    hits = library.search(LOCAL_OWNER, query, deepest).hits
    for place, hit in enumerate(hits, 1):
        if any(hit.document_name == name and words in hit.passage.text for name, words in answers):
            return place
    return None


def score(library: Library, chosen: Sequence[Talk], way: Way, *, all_later: bool = False) -> Score:
    """Of the follow-ups, or of all questions but the first, asked one after the other as a person does."""
    ranks = []
    for talk in chosen:
        history: tuple[Exchange, ...] = ()
        for turn in talk.turns:
            query = way(turn, history) if history else turn.question
            if history and (turn.alone or all_later):
                ranks.append(rank(library, query, turn.answers))
            searched_for = query if query != turn.question else None
            history += (Exchange(turn.question, turn.said, searched_for),)
    found = [place for place in ranks if place is not None]
    return Score(
        len(ranks),
        sum(place <= 5 for place in found) / len(ranks),
        sum(1 / place for place in found) / len(ranks),
    )


def raw(turn: Asked, history: tuple[Exchange, ...]) -> str:
    return turn.question


def concatenated(turn: Asked, history: tuple[Exchange, ...]) -> str:
    return f"{history[-1].question} {turn.question}"


def ours(turn: Asked, history: tuple[Exchange, ...]) -> str:
    """As the program does it without a model."""
    return with_topic(turn.question, history) if leans_on_history(turn.question, history) else turn.question


def by_hand(turn: Asked, history: tuple[Exchange, ...]) -> str:
    return turn.alone or turn.question
