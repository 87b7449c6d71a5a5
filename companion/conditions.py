"""The states of the app: each a code, one sentence, and one action that helps.

Knows which facts make a state, which is more important, and its words. It does not know how a
fact is found out, or where and how a state is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from companion.domain import EmbedderChange
from companion.inference.catalog import Situation

Severity = Literal["error", "warning", "info"]
MOST_PAGES = 5
"""Each open page keeps a connection, and a browser has six for one address."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a person can do about it. What a code does is the door's business."""

    code: str
    label: str
    link: str | None = None
    """Where it leads, if that is another site."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A state of the app."""

    code: str
    severity: Severity
    """`error`: something cannot be done. `warning`: something is missing. `info`: good to know."""
    sentence: str
    action: Action


@dataclass(frozen=True, slots=True)
class Models:
    """Which model answers, as the engines told last."""

    situation: Situation
    chosen: str | None
    """The model of the conversation, or of new ones; None or empty where nobody chose."""
    answers: str | None
    """The chosen one, or the one that stands in for it; None: nobody can answer."""

    @property
    def vanished(self) -> bool:
        """Somebody chose a model that is not there."""
        return bool(self.chosen) and self.answers not in (self.chosen, f"{self.chosen}:latest")


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that states are made of, at one moment."""

    models: Models | None = None
    """None until the engines were asked."""
    warming: str | None = None
    """What is being done before all is ready, such as `The embedder is being loaded`."""
    warming_s: float = 0.0
    trouble: str | None = None
    """Why search works with less than it should."""
    change: EmbedderChange | None = None
    """Another light embedder is on its way."""
    library_stuck: bool = False
    """The work behind the scenes fails and is tried again."""
    disk_full: bool = False
    """A write found no room; only conversations go on."""
    free: str | None = None
    """What is left on the disk, in words, where that is too little for documents."""
    conversations: bool = False
    own_documents: int = 0
    failed_documents: int = 0
    open_pages: int = 0
    gpu: bool = True
    english_embedder: str | None = None
    """The light embedder, where it reads English only and many documents are in other languages."""


ADD_DOCUMENTS = Action("add_documents", "Add documents")
FREE_SPACE = Action("free_disk_space", "Free disk space")
GET_OLLAMA = Action("get_ollama", "Get Ollama", "https://ollama.com/download")
PULL_MODEL = Action("pull_model", "Pull a model")
CHOOSE_MODEL = Action("choose_model", "Choose a model")
TRY_AGAIN = Action("try_again", "Try again")
ASK = Action("ask", "Ask meanwhile")
SHOW_FAILED = Action("show_failed_documents", "Show them")
CLOSE_PAGE = Action("close_page", "Close a page")
CHOOSE_EMBEDDER = Action("choose_embedder", "Choose another")
OPEN_DOCTOR = Action("open_doctor", "Ask the doctor")
OPEN_SETTINGS = Action("open_settings", "Set when to begin")

STUCK = "The library cannot be kept in order; it is tried again, and the log says why."
DAMAGED = (
    "The database file is damaged, so nothing more is written into it; end the app and restore a backup with "
    "python -m companion restore FILE --replace."
)
DAMAGE = Condition("database_damaged", "error", DAMAGED, OPEN_DOCTOR)
DISK_FULL = (
    "The disk is full, so no documents are added; questions are answered as long as the room kept for "
    "conversations lasts, and all works again when there is space."
)


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """What holds now, most important first."""
    rank = {"error": 0, "warning": 1, "info": 2}
    found = (*_disk(facts), *_models(facts), *_library(facts), *_page(facts))
    return tuple(sorted(found, key=lambda condition: rank[condition.severity]))


def _disk(facts: Facts) -> Iterator[Condition]:
    if facts.disk_full:
        yield Condition("disk_full", "error", DISK_FULL, FREE_SPACE)
    elif facts.free:
        sentence = (
            f"The disk is nearly full ({facts.free} left), so no documents are added; questions are answered."
        )
        yield Condition("disk_nearly_full", "warning", sentence, FREE_SPACE)


def _models(facts: Facts) -> Iterator[Condition]:
    models = facts.models
    if models is None:
        return
    if models.answers is None:
        yield _without_model(models.situation)
    elif models.situation.state != "ok":
        yield _without_ollama(models.situation, models.answers)
    elif models.vanished:
        sentence = f"The model {models.chosen} is no longer there; {models.answers} answers instead."
        yield Condition("model_vanished", "warning", sentence, CHOOSE_MODEL)


def _without_model(situation: Situation) -> Condition:
    if situation.state == "no_ollama":
        sentence = "No model can answer: Ollama does not run here, and the built-in model is not there."
        return Condition("no_model", "error", sentence, GET_OLLAMA)
    sentence = "No model can answer: Ollama has none yet, and the built-in model is not there."
    return Condition("no_model", "error", sentence, PULL_MODEL)


def _without_ollama(situation: Situation, answers: str) -> Condition:
    sentence = f"{situation.sentence.rstrip('.')}; meanwhile the small built-in model {answers} answers."
    if situation.state == "no_ollama":
        return Condition("no_ollama", "info", sentence, GET_OLLAMA)
    return Condition("ollama_without_models", "warning", sentence, PULL_MODEL)


def _library(facts: Facts) -> Iterator[Condition]:
    if facts.library_stuck:
        yield Condition("library_stuck", "error", STUCK, TRY_AGAIN)
    if facts.trouble:
        yield Condition("embedder_missing", "warning", facts.trouble, TRY_AGAIN)
    if failed := facts.failed_documents:
        subject = "1 document" if failed == 1 else f"{failed} documents"
        sentence = f"{subject} could not be read; the list of documents says why."
        yield Condition("failed_documents", "warning", sentence, SHOW_FAILED)
    if facts.warming:
        sentence = f"{facts.warming} ({facts.warming_s:.0f} s so far); words are searched already."
        yield Condition("warming", "info", sentence, ASK)
    if facts.change:
        yield Condition("embedder_change", "info", _on_its_way(facts.change), ASK)
    if facts.english_embedder:
        yield Condition("english_embedder", "info", _for_english(facts.english_embedder), CHOOSE_EMBEDDER)
    if not facts.own_documents:
        yield _without_documents(facts)


def _on_its_way(change: EmbedderChange) -> str:
    if not change.total:
        return f"The light embedder {change.embedder} is being loaded; {change.answering} answers meanwhile."
    return (
        f"The light embedder {change.embedder} has read {change.done:,} of {change.total:,} passages; "
        f"{change.answering} answers until it has read them all."
    )


def _for_english(embedder: str) -> str:
    return (
        f"Many of your documents are not in English, and the light embedder {embedder} was made for English; "
        "a multilingual one finds more."
    )


def _without_documents(facts: Facts) -> Condition:
    if facts.conversations:
        sentence = "You have no documents yet, so questions are answered from the sample library."
        return Condition("empty_library", "info", sentence, ADD_DOCUMENTS)
    sentence = "Welcome: ask the sample library something, or add documents of your own."
    return Condition("first_run", "info", sentence, ADD_DOCUMENTS)


def _page(facts: Facts) -> Iterator[Condition]:
    if facts.open_pages >= MOST_PAGES:
        sentence = f"{facts.open_pages} pages of this app are open, and a browser loads no more; close one."
        yield Condition("many_pages", "warning", sentence, CLOSE_PAGE)
    if not facts.gpu:
        sentence = "There is no NVIDIA GPU here, so deepening will watch the processor instead."
        yield Condition("no_gpu", "info", sentence, OPEN_SETTINGS)
