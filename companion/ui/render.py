"""Domain values become what is shown: messages of the chat, and pieces of HTML.

Pure: values in, text out. It does not know Gradio, the store, or what time it is. Every text
that is not ours goes through `escape` or `harmless`; gr.HTML gets finished HTML, because its
own `{{ }}` leaves `${…}` alive and would run it as script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape
from itertools import groupby
from typing import Any

from companion.domain import (
    Document,
    DocumentState,
    Finished,
    Message,
    MessageState,
    ModelInfo,
    Notice,
    Passage,
    Place,
    Retrieved,
    Role,
    Session,
    Source,
    ThinkingMode,
    Thought,
    Token,
    TurnEvent,
    Usage,
)
from companion.library.library import Progress
from companion.ui.markdown import harmless, literal

Shown = dict[str, Any]
"""One message as Gradio's Chatbot takes it."""

LIVE = "live"
"""Stands for the message id in citations of an answer that is still being written."""

MODES = (
    ("Hybrid", ThinkingMode.HYBRID),
    ("Documents (rag)", ThinkingMode.RAG),
    ("Thinking (cot)", ThinkingMode.COT),
)
MODE_LABELS = {mode: label for label, mode in MODES}
EXAMPLES = (
    "How do I add documents?",
    "What does hybrid mode do?",
    "What happens while my computer is idle?",
    "Which file formats can it read?",
)
MOST_PASSAGES = 200


def icon(name: str) -> str:
    return f'<svg class="lc-icon" aria-hidden="true"><use href="#lc-i-{name}"></use></svg>'


# --- small words --------------------------------------------------------------------------


def size(count: int) -> str:
    """Bytes as a person reads them.

    >>> size(2_100_000)
    '2.1 MB'
    """
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"


def seconds(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 995 else f"{ms / 1000:.1f} s"


def clock(seconds: float) -> str:
    """A moment of a recording.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def place(where: Place) -> str:
    """Page, heading and time of a passage, as far as they are known."""
    parts = [f"page {where.page}"] if where.page is not None else []
    if where.heading:
        parts.append(f"§ {where.heading}")
    if where.start_s is not None:
        end = f"–{clock(where.end_s)}" if where.end_s is not None else ""
        parts.append(f"{clock(where.start_s)}{end}")
    return " · ".join(parts)


def layers(names: Iterable[str]) -> str:
    found = set(names)
    if "deep" in found:
        return "deep index"
    return "light index" if found & {"light", "feedback"} else "words only"


def moment(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    local, today = when.astimezone(zone), now.astimezone(zone).date()
    if local.date() == today:
        return f"{local:%H:%M}"
    day = f"{local.day} {local:%b}"
    return f"{day} {local:%H:%M}" if local.year == today.year else f"{day} {local.year}"


def day_group(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    local, today = when.astimezone(zone).date(), now.astimezone(zone).date()
    age = (today - local).days
    for limit, label in ((0, "Today"), (1, "Yesterday"), (7, "Last 7 days"), (30, "Last 30 days")):
        if age <= limit:
            return label
    return f"{local:%B %Y}"


# --- the conversation ---------------------------------------------------------------------


@dataclass(slots=True)
class Turn:
    """What a running answer has said so far."""

    retrieved: Retrieved | None = None
    thinking: str = ""
    answer: str = ""
    notices: tuple[str, ...] = ()
    finished: Message | None = None

    def add(self, event: TurnEvent) -> None:
        match event:
            case Retrieved():
                self.retrieved = event
            case Thought(text):
                self.thinking += text
            case Token(text):
                self.answer += text
            case Notice(text):
                self.notices += (text,)
            case Finished(message):
                self.finished = message


def conversation(messages: Sequence[Message], now: datetime, zone: tzinfo | None) -> list[Shown]:
    """Stored messages, oldest first, as the chat shows them."""
    shown: list[Shown] = []
    for message in messages:
        shown += _question(message, now, zone) if message.role is Role.USER else _answer(message, now, zone)
    return shown


def running(turn: Turn, elapsed_s: float, *, stopping: bool = False) -> list[Shown]:
    """The answer in the making, after the messages before it."""
    sources = turn.retrieved.sources if turn.retrieved else ()
    chips = _chips(sources, LIVE)
    shown = [_search(sources, turn.retrieved.layers, turn.retrieved.took_ms, chips)] if turn.retrieved else []
    if turn.thinking:
        thinks = not turn.answer
        log = f"{elapsed_s:.0f} s" if thinks else ""
        shown.append(_thinking(turn.thinking, None, log, "pending" if thinks else "done"))
    text = harmless(turn.answer, chips)
    waiting = "" if turn.answer or turn.thinking else '<span class="lc-wait"><i></i><i></i><i></i></span>'
    parts = [text, waiting, *map(_note, turn.notices), _note("Stopping…") if stopping else ""]
    body = "\n\n".join(part for part in parts if part)
    return [*shown, _said(body)] if body else shown


def _question(message: Message, now: datetime, zone: tzinfo | None) -> list[Shown]:
    time = f'<div class="lc-meta">{_time(message.created_at, now, zone)}</div>'
    return [{"role": "user", "content": f"{harmless(message.content)}\n\n{time}"}]


def _answer(message: Message, now: datetime, zone: tzinfo | None) -> list[Shown]:
    chips = _chips(message.sources, str(message.message_id))
    shown: list[Shown] = []
    if message.sources or (message.usage.search_ms is not None and message.mode is not ThinkingMode.COT):
        found = {layer for source in message.sources for layer in source.layers}
        shown.append(_search(message.sources, found, message.usage.search_ms, chips))
    if message.thinking:
        shown.append(_thinking(message.thinking, message.usage.thinking_ms, "", "done"))
    parts = [harmless(message.content, chips), *map(_note, message.notices), _ending(message)]
    parts.append(f'<div class="lc-meta">{_meta(message, now, zone)}</div>')
    return [*shown, _said("\n\n".join(part for part in parts if part))]


def _said(body: str) -> Shown:
    return {"role": "assistant", "content": body}


def _search(
    sources: Sequence[Source], found: Iterable[str], took_ms: float | None, chips: Mapping[int, str]
) -> Shown:
    took = f", {seconds(took_ms)}" if took_ms is not None else ""
    log = f"{layers(found)}{took}" if sources else f"nothing relevant found{took}"
    lines = [f"{chips[source.number]} {_origin(source)}" for source in sources]
    return {
        "role": "assistant",
        "content": "<br>".join(lines) or "No passage of your documents fits this question.",
        "metadata": {"title": "Searched your documents", "log": f"— {log}", "status": "done"},
    }


def _origin(source: Source) -> str:
    where = place(source.place)
    return literal(source.document_name) + (f" <small>{literal(where)}</small>" if where else "")


def _thinking(text: str, took_ms: float | None, log: str, status: str) -> Shown:
    metadata: dict[str, Any] = {"title": "Thinking", "status": status}
    if log:
        metadata["log"] = log
    if took_ms is not None:
        metadata["duration"] = round(took_ms / 1000, 1)
    return {"role": "assistant", "content": harmless(text), "metadata": metadata}


def _chips(sources: Sequence[Source], reference: str) -> dict[int, str]:
    """Number → link that the sources panel opens; its title marks what the model did not claim."""
    return {
        source.number: f"[{source.number}](#src-{reference}-{source.number}"
        + (' "Found by comparing texts; the model did not cite it itself")' if source.matched else ")")
        for source in sources
    }


def _note(text: str) -> str:
    return f'<div class="lc-note">{_line(text)}</div>'


def _line(text: str) -> str:
    """One line of HTML that Markdown, mathematics included, leaves as it is."""
    return " ".join(escape(text).split()).replace("$", "&#36;").replace("\\", "&#92;")


def _ending(message: Message) -> str:
    match message.state:
        case MessageState.STOPPED:
            return '<div class="lc-note is-stopped">You stopped this answer.</div>'
        case MessageState.FAILED:
            return '<div class="lc-note is-failed">This answer is not complete.</div>'
        case _:
            return ""


def _meta(message: Message, now: datetime, zone: tzinfo | None) -> str:
    parts = [_time(message.created_at, now, zone)]
    parts += [_line(message.model)] if message.model else []
    parts += [MODE_LABELS[message.mode]] if message.mode else []
    parts += [cost] if (cost := usage(message.usage)) else []
    return " · ".join(parts) + '<button class="lc-copy" title="Copy this answer">Copy</button>'


def _time(when: datetime, now: datetime, zone: tzinfo | None) -> str:
    return f'<span title="{when.astimezone(zone):%A, %d %B %Y, %H:%M:%S}">{moment(when, now, zone)}</span>'


def usage(spent: Usage) -> str:
    """Tokens, speed and first token of an answer, as far as they are known."""
    parts = []
    if spent.answer_tokens:
        parts.append(count(spent.answer_tokens, "token"))
        if spent.answer_ms:
            parts.append(f"{spent.answer_tokens / spent.answer_ms * 1000:.0f}/s")
    if spent.first_token_ms is not None:
        parts.append(f"first after {seconds(spent.first_token_ms)}")
    return ", ".join(parts)


def welcome(own_documents: int, passages: int) -> str:
    """What an empty chat shows: what to do first, and questions to click."""
    if own_documents:
        lead = (
            f"Answers come from {count(own_documents, 'document')} of yours, with the passages they stand on."
        )
        return _hello("What would you like to know?", lead, ())
    lead = "Try it on the small sample library, or add files under Documents: answers then come from those."
    return _hello("Ask your documents", lead, EXAMPLES if passages else ())


def _hello(title: str, lead: str, questions: Sequence[str]) -> str:
    cards = "".join(
        f'<button class="lc-example" data-ask="{escape(text)}">{escape(text)}</button>' for text in questions
    )
    examples = f'<div class="lc-examples">{cards}</div>' if cards else ""
    return (
        f'<div class="lc-welcome"><span class="lc-mark"></span><h1>{title}</h1><p>{lead}</p>{examples}</div>'
    )


# --- sessions -----------------------------------------------------------------------------


def session_list(
    sessions: Sequence[Session],
    current: str | None,
    busy: Callable[[str], bool],
    now: datetime,
    zone: tzinfo | None,
) -> str:
    """Sessions, latest first, under the day they were last used."""
    groups = groupby(sessions, lambda session: day_group(session.updated_at, now, zone))
    body = "".join(
        f'<section class="lc-group"><h3>{label}</h3>'
        + "".join(
            _session(session, session.session_id == current, busy(session.session_id)) for session in members
        )
        + "</section>"
        for label, members in groups
    )
    empty = '<p class="lc-quiet">Your chats will be listed here.</p>'
    where = f'data-current="{escape(current or "")}"'
    return f'<nav class="lc-sessions" aria-label="Chats" {where}>{body or empty}</nav>'


def _session(session: Session, current: bool, busy: bool) -> str:
    title = escape(session.title or "New chat")
    key = escape(session.session_id)
    here = ' aria-current="page"' if current else ""
    classes = "lc-session" + (" is-current" if current else "") + (" is-busy" if busy else "")
    return (
        f'<div class="{classes}" data-id="{key}" data-filter="{title.lower()}">'
        f'<a class="lc-open" href="?session={key}" title="{title}"{here}>{title}</a>'
        f"{_act('rename', 'pen', f'Rename {title}')}{_act('delete', 'bin', f'Delete {title}')}</div>"
    )


# --- sources and passages -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """A source with what the store says about it now."""

    source: Source
    passage: Passage | None
    """None: deleted since."""
    before: tuple[Passage, ...] = ()
    after: tuple[Passage, ...] = ()

    @property
    def changed(self) -> bool:
        return self.passage is not None and self.passage.text_hash != self.source.text_hash


def source_cards(opened: Sequence[Opened], reference: str, chosen: int) -> str:
    """The panel of an answer's sources, the clicked one open."""
    cards = "".join(_card(one, one.source.number == chosen) for one in opened)
    return _panel("Sources", count(len(opened), "passage"), cards, f"{escape(reference)}-{chosen}")


def _card(one: Opened, chosen: bool) -> str:
    source = one.source
    where = place(source.place)
    badge = f'<span class="lc-n">{source.number}</span>'
    tags = _tag("deleted since") if one.passage is None else _tag("changed since") if one.changed else ""
    tags += _tag("matched, not cited") if source.matched else ""
    layer = f"Found by: {', '.join(source.layers)}" if source.layers else ""
    name = escape(source.document_name)
    opened = ' is-hit" open' if chosen else '"'
    score = f'title="Score of this search, 0 to 1. {layer}">{source.score:.2f}'
    return (
        f'<details data-n="{source.number}" class="lc-card{opened}>'
        f'<summary>{badge}<span class="lc-file" title="{name}">{name}</span>'
        f'<span class="lc-score" {score}</span></summary>'
        f'<p class="lc-place">{escape(where)}{tags}</p>{_quoted(one)}</details>'
    )


def _quoted(one: Opened) -> str:
    if one.passage is None:
        return '<p class="lc-quiet">This passage is no longer in the library. The answer stays as it was.</p>'
    parts = [f'<p class="lc-near">{escape(near.text)}</p>' for near in one.before]
    parts.append(f'<p class="lc-text">{escape(one.passage.text)}</p>')
    parts += [f'<p class="lc-near">{escape(near.text)}</p>' for near in one.after]
    return "".join(parts)


def _tag(text: str) -> str:
    return f' <span class="lc-tag">{text}</span>'


def passage_cards(document: Document, passages: Sequence[Passage]) -> str:
    """The panel of a document's passages, as they were cut."""
    cards = "".join(
        f'<details class="lc-card" data-n="{passage.chunk_index + 1}" open><summary>'
        f'<span class="lc-n">{passage.chunk_index + 1}</span>'
        f'<span class="lc-file">{escape(place(passage.place)) or "Passage"}</span>'
        f'<span class="lc-score">{count(passage.tokens, "token")}</span></summary>'
        f'<p class="lc-text">{escape(passage.text)}</p></details>'
        for passage in passages[:MOST_PASSAGES]
    )
    more = f"the first {MOST_PASSAGES} of " if len(passages) > MOST_PASSAGES else ""
    notes = "".join(f'<p class="lc-quiet">{escape(note)}</p>' for note in document.notes)
    cards = cards or '<p class="lc-quiet">There are no passages yet.</p>'
    return _panel(document.name, f"{more}{count(len(passages), 'passage')}", notes + cards, document.doc_id)


def _panel(title: str, count: str, body: str, key: str) -> str:
    return (
        f'<aside class="lc-sources" aria-label="{escape(title)}" data-key="{escape(key)}">'
        f'<header><h2 title="{escape(title)}">{escape(title)}</h2><small>{count}</small>'
        f'<button class="lc-close" title="Close (Esc)" aria-label="Close">{icon("close")}</button></header>'
        f'<div class="lc-cards">{body}</div></aside>'
    )


# --- documents ----------------------------------------------------------------------------


STAGES = {"waiting": "Waiting", "reading": "Reading", "embedding": "Indexing"}
STATES = {
    DocumentState.READING: "Reading",
    DocumentState.SEARCHABLE: "Searchable",
    DocumentState.DEEP: "Deep",
    DocumentState.FAILED: "Failed",
}


def document_list(
    own: Sequence[Document],
    samples: Sequence[Document],
    progress: Mapping[str, Progress | None],
    now: datetime,
    zone: tzinfo | None,
) -> str:
    """One's own documents with what can be done to them, then the sample library."""
    rows = "".join(_document(document, progress.get(document.doc_id), True, now, zone) for document in own)
    empty = '<p class="lc-quiet lc-empty">No documents of your own yet. Drop some files above.</p>'
    summary = (
        f"<small>{count(len(own), 'document')}, {count(sum(d.passages for d in own), 'passage')}</small>"
    )
    title = f"<h2>Your documents {summary if own else ''}</h2>"
    first = f'<section>{title}<div class="lc-docs">{rows or empty}</div></section>'
    return f"{first}{_samples(samples, bool(own), now, zone)}" if samples else first


def _samples(samples: Sequence[Document], left: bool, now: datetime, zone: tzinfo | None) -> str:
    rows = "".join(_document(document, None, False, now, zone) for document in samples)
    sentence = (
        "They came with the app, and are not searched any more, because you have documents of your own."
        if left
        else "They came with the app, to try it. They leave the search with the first document of your own."
    )
    return (
        f'<section class="lc-samples"><h2>Sample library <small>read-only</small></h2>'
        f'<p class="lc-quiet">{sentence}</p><div class="lc-docs">{rows}</div></section>'
    )


def _document(
    document: Document, reading: Progress | None, own: bool, now: datetime, zone: tzinfo | None
) -> str:
    name, key = escape(document.name), escape(document.doc_id)
    facts = [escape(document.source_type)] if document.source_type else []
    facts += [count(document.passages, "passage")] if document.passages else []
    facts += [size(document.size), f"{_time(document.updated_at, now, zone)}"]
    acts = _act("open", "list", f"Passages of {name}")
    acts += (
        _act("replace", "swap", f"Replace {name}") + _act("delete", "bin", f"Delete {name}") if own else ""
    )
    return (
        f'<article class="lc-doc" data-id="{key}" data-name="{name}" data-filter="{name.lower()}">'
        f'<button class="lc-docname" data-act="open" title="{name}">{name}</button>'
        f'<span class="lc-facts">{" · ".join(facts)}</span>{_state(document, reading)}'
        f'<span class="lc-acts">{acts}</span>{_trouble(document)}</article>'
    )


def _act(what: str, symbol: str, title: str) -> str:
    names = f'title="{title}" aria-label="{title}"'
    return f'<button class="lc-act" data-act="{what}" {names}>{icon(symbol)}</button>'


def _state(document: Document, reading: Progress | None) -> str:
    if document.state is not DocumentState.READING:
        return f'<span class="lc-state is-{document.state}">{STATES[document.state]}</span>'
    reading = reading or Progress("waiting")
    label = STAGES[reading.stage]
    amount = f" {reading.done} of {reading.total}" if reading.total else ""
    bar = (
        f'<progress max="{reading.total}" value="{reading.done}"></progress>'
        if reading.total
        else "<progress></progress>"
    )
    return f'<span class="lc-state is-reading">{label}{amount}</span>{bar}'


def _trouble(document: Document) -> str:
    if document.error:
        return f'<p class="lc-error" role="alert">{escape(document.error)}</p>'
    return "".join(f'<p class="lc-quiet">{escape(note)}</p>' for note in document.notes)


Results = list[tuple[str, str | None]]
"""File names, each with the sentence why it was not taken in, or None."""


def upload_results(results: Results, known: Sequence[str] = ()) -> str:
    """File by file: taken in, or why not; `known` are the names of those that were there before."""
    failed = [error if name in error else f"{name}: {error}" for name, error in results if error]
    lines = "".join(f"<li>{escape(name)} is already there.</li>" for name in known)
    lines += "".join(f'<li class="is-failed">{escape(sentence)}</li>' for sentence in failed)
    taken = sum(error is None for _, error in results)
    head = f"<li><b>{count(taken, 'file')}</b> taken in.</li>" if taken else ""
    return f'<ul class="lc-results" role="status">{head}{lines}</ul>' if head or lines else ""


def undo_bar(document: Document, now: datetime) -> str:
    """The time makes two deletions of one document two different bars."""
    key = f'data-id="{escape(document.doc_id)}" data-at="{now.timestamp()}"'
    sentence = f"<span>{escape(document.name)} is deleted.</span>"
    return f'<div class="lc-undo" role="status" {key}>{sentence}<button>Undo</button></div>'


# --- header and settings ------------------------------------------------------------------


def pill(state: str, reasons: Sequence[str], detail: str = "") -> str:
    """The state of the app in a word; the reasons as its tooltip."""
    label = {"ready": "Ready", "warming": "Warming up", "degraded": "Limited"}[state]
    tip = escape(" ".join(reasons)) or "Everything works."
    more = f"<small>{escape(detail)}</small>" if detail else ""
    return f'<span class="lc-pill is-{state}" role="status" title="{tip}"><i></i><b>{label}</b>{more}</span>'


def model_choices(models: Sequence[ModelInfo], current: str | None) -> list[tuple[str, str]]:
    """(label, name) for the dropdown; a current model that is gone stays listed, and says so."""
    choices = [(model_label(model), model.name) for model in models]
    if current and current not in {model.name for model in models}:
        choices.append((f"{current} (not available)", current))
    return choices


def model_label(model: ModelInfo) -> str:
    kind = {"builtin": " (built-in)"}.get(model.engine, " (cloud)" if model.remote else "")
    return f"{model.name}{kind}"


def field_error(message: str, applies: bool) -> str:
    return f'<p class="lc-error" role="alert">{escape(message)}</p>' if applies else ""
