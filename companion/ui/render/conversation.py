"""Messages of a chat as Gradio's Chatbot takes them, kept ones and the one in the making.

Knows what stands above and below an answer. It does not know how an answer comes about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape
from typing import Any
from urllib.parse import quote

from companion.chat.packing import Estimate
from companion.domain import (
    LISTED,
    Finished,
    Message,
    MessageState,
    Notice,
    Retrieved,
    Role,
    Source,
    ThinkingMode,
    Thought,
    Token,
    TurnEvent,
    Usage,
)
from companion.ui.markdown import harmless, literal
from companion.ui.render.models import answered_by, mode_choices, mode_label
from companion.ui.render.pieces import coded, icon, time
from companion.ui.render.words import layers, place, seconds
from companion.ui.texts import html_text, number, text

Shown = dict[str, Any]
"""One message as Gradio's Chatbot takes it."""

LIVE = "live"
"""Stands for the message id in citations of an answer that is still being written."""

EXAMPLES = ("add", "hybrid", "idle", "formats")
"""Questions that the sample library answers."""


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


def conversation(
    messages: Sequence[Message],
    now: datetime,
    zone: tzinfo | None,
    *,
    replaced: int | None = None,
    failure: str | None = None,
) -> list[Shown]:
    """Stored messages, oldest first, as the chat shows them.

    `replaced` is the answer that stays until a new one is kept, `failure` why there is none at all.
    """
    last = _last_question(messages)
    shown: list[Shown] = []
    for message in messages:
        again = _again(last) if last and message is messages[-1] else ""
        if message.role is Role.USER:
            shown += _question(message, now, zone, again)
        else:
            shown += _answer(message, now, zone, again, message.message_id == replaced)
    return [*shown, _said(_note(failure, " is-failed"))] if failure else shown


def _last_question(messages: Sequence[Message]) -> Message | None:
    return next((each for each in reversed(messages) if each.role is Role.USER), None)


def running(turn: Turn, elapsed_s: float, *, stopping: bool = False) -> list[Shown]:
    """The answer in the making, after the messages before it; it has been thought for `elapsed_s`."""
    sources = turn.retrieved.sources if turn.retrieved else ()
    chips = _chips(sources, LIVE)
    found = turn.retrieved
    shown = [_search(sources, found.layers, found.took_ms, chips, found.searched_for)] if found else []
    if turn.thinking:
        thinks = not turn.answer
        log = f"{elapsed_s:.0f} s" if thinks else ""
        shown.append(_thinking(turn.thinking, None, log, "pending" if thinks else "done"))
    answer = harmless(turn.answer, chips)
    waiting = "" if turn.answer or turn.thinking else '<span class="lc-wait"><i></i><i></i><i></i></span>'
    parts = [answer, waiting, *map(_note, turn.notices), _note(text("chat.stopping")) if stopping else ""]
    body = "\n\n".join(part for part in parts if part)
    return [*shown, _said(body)] if body else shown


def _question(message: Message, now: datetime, zone: tzinfo | None, again: str) -> list[Shown]:
    raw = f'<span class="lc-raw">{_whole(message.content)}</span>'
    does = _do("edit", text("chat.edit"), text("chat.edit_title")) + again + raw
    return [{"role": "user", "content": f"{harmless(message.content)}\n\n{_meta(message, now, zone, does)}"}]


def edited(now: datetime, refusal: str = "") -> str:
    """For edit.js: whether the words of an edited question were taken, or why not.

    The time makes two refusals of the same words two different ones.
    """
    return f'<p data-at="{now.timestamp()}">{escape(refusal)}</p>'


def _answer(message: Message, now: datetime, zone: tzinfo | None, again: str, replaced: bool) -> list[Shown]:
    chips = _chips(message.sources, str(message.message_id))
    shown: list[Shown] = []
    if message.sources or (message.usage.search_ms is not None and message.mode is not ThinkingMode.COT):
        found = {layer for source in message.sources for layer in source.layers}
        shown.append(_search(message.sources, found, message.usage.search_ms, chips, message.searched_for))
    if message.thinking:
        shown.append(_thinking(message.thinking, message.usage.thinking_ms, "", "done"))
    copy = _do("copy", text("chat.copy"), text("chat.copy_title"), " lc-copy")
    parts = [harmless(message.content, chips), *map(_note, message.notices), _ending(message)]
    parts += [_note(text("chat.replaced"), " is-replaced")] if replaced else []
    parts.append(_meta(message, now, zone, copy + again + _details(message)))
    return [*shown, _said("\n\n".join(part for part in parts if part))]


def _meta(message: Message, now: datetime, zone: tzinfo | None, does: str) -> str:
    """The time, and what can be done; in one line, because Markdown reads it."""
    row = f'<span class="lc-does">{does}</span>'
    return (
        f'<div class="lc-meta" id="lc-m{message.message_id}">{time(message.created_at, now, zone)}{row}</div>'
    )


def _do(what: str, name: str, title: str, more: str = "") -> str:
    """A button for chat.js. Only class, id and title of ours outlive Gradio's cleaning of HTML."""
    return f'<button class="lc-do is-{what}{more}" title="{_line(title)}">{_line(name)}</button>'


def _again(question: Message) -> str:
    """Answer the question once more: as it was asked, or in a chosen way."""
    of = f" lc-again of-{question.message_id}"
    ways = "".join(
        f'<button class="lc-way{of} as-{mode}">{_line(label)}</button>' for label, mode in mode_choices()
    )
    title = _line(text("chat.again_as"))
    more = (
        f'<summary class="lc-do is-more" title="{title}">{title}</summary><span class="lc-pop">{ways}</span>'
    )
    return (
        _do("again", text("chat.again"), text("chat.again_title"), of)
        + f'<details class="lc-up">{more}</details>'
    )


def _details(message: Message) -> str:
    facts = "".join(f"<dt>{_line(name)}</dt><dd>{_line(value)}</dd>" for name, value in _facts(message))
    title = _line(text("chat.details"))
    more = (
        f'<summary class="lc-do is-details" title="{title}">{title}</summary><dl class="lc-pop">{facts}</dl>'
    )
    return f'<details class="lc-up">{more}</details>' if facts else ""


def _said(body: str) -> Shown:
    return {"role": "assistant", "content": body}


def _search(
    sources: Sequence[Source],
    found: Iterable[str],
    took_ms: float | None,
    chips: Mapping[int, str],
    searched_for: str | None,
) -> Shown:
    listed = LISTED in found
    title = text("chat.looked_up") if listed else text("chat.searched")
    how = [] if listed else [layers(found)]
    parts = [text("count.passage", n=len(sources)), *how] if sources else [text("chat.nothing")]
    log = ", ".join([*parts, seconds(took_ms)] if took_ms is not None else parts)
    lines = "".join(
        f'<span class="lc-found">{chips[source.number]} {_origin(source)}</span>' for source in sources
    )
    lines = lines or literal(text("chat.no_passage"))
    words = _note(text("chat.searched_for", words=searched_for)) + "\n\n" if searched_for else ""
    return {
        "role": "assistant",
        "content": words + lines,
        "metadata": {"title": title, "log": log, "status": "done"},
    }


def _origin(source: Source) -> str:
    where = place(source.place)
    return literal(source.document_name) + (f" <small>{literal(where)}</small>" if where else "")


def _thinking(thoughts: str, took_ms: float | None, log: str, status: str) -> Shown:
    metadata: dict[str, Any] = {"title": text("chat.thinking"), "status": status}
    if log or took_ms is not None:
        metadata["log"] = log or seconds(took_ms or 0)
    return {"role": "assistant", "content": harmless(thoughts), "metadata": metadata}


def _chips(sources: Sequence[Source], reference: str) -> dict[int, str]:
    """Number → link that the sources panel opens; its title marks what the model did not claim."""
    title = f' "{literal(text("chat.matched"))}"'
    return {
        source.number: f"[{source.number}](#src-{reference}-{source.number}{title if source.matched else ''})"
        for source in sources
    }


def _note(sentence: str, kind: str = "") -> str:
    return f'<div class="lc-note{kind}">{coded(_line(sentence))}</div>'


def _whole(words: str) -> str:
    """As `_line`, with all spaces and lines."""
    marked = escape(words).replace("$", "&#36;").replace("\\", "&#92;").replace("\t", "&#9;")
    return marked.replace("\r", "").replace("\n", "&#10;").replace(" ", "&#32;")


def _line(words: str) -> str:
    """One line of HTML that Markdown, mathematics included, leaves as it is."""
    return " ".join(escape(words).split()).replace("$", "&#36;").replace("\\", "&#92;")


def _ending(message: Message) -> str:
    match message.state:
        case MessageState.STOPPED:
            return _note(text("chat.stopped"), " is-stopped")
        case MessageState.FAILED:
            return _note(text("chat.failed"), " is-failed")
        case _:
            return ""


def _facts(message: Message) -> list[tuple[str, str]]:
    """Who answered, how, and what it cost, as far as it is known."""
    spent = message.usage
    speed = spent.answer_tokens / spent.answer_ms * 1000 if spent.answer_tokens and spent.answer_ms else None
    return [
        (text(f"chat.fact.{name}"), value)
        for name, value in (
            ("model", answered_by(message.model) if message.model else None),
            ("mode", mode_label(message.mode) if message.mode else None),
            ("answer", _count(spent.answer_tokens)),
            ("speed", text("chat.speed", speed=number(speed)) if speed else None),
            ("first", _took(spent.first_token_ms)),
            ("thinking", _took(spent.thinking_ms)),
            ("search", _took(spent.search_ms)),
            ("prompt", _count(spent.prompt_tokens)),
            ("cached", _count(spent.cached_tokens)),
            ("window", _count(spent.window)),
            ("left_out", _left_out(spent)),
        )
        if value
    ]


def _left_out(spent: Usage) -> str | None:
    missing = (("passage", spent.passages_left_out), ("turn", spent.turns_left_out))
    return ", ".join(text(f"count.{what}", n=n) for what, n in missing if n) or None


def _count(tokens: int | None) -> str | None:
    return text("count.token", n=tokens) if tokens else None


def _took(ms: float | None) -> str | None:
    return seconds(ms) if ms is not None else None


def follow_ups(questions: Sequence[str]) -> str:
    """What might be asked next, to click."""
    chips = "".join(
        f'<button class="lc-next" data-ask="{escape(question)}">{escape(question)}</button>'
        for question in questions
    )
    return (
        f'<div class="lc-nexts" role="group" aria-label="{html_text("chat.next")}">{chips}</div>'
        if chips
        else ""
    )


def cost_line(cost: Estimate) -> str:
    """What the question in the box would take of the model's window."""
    if cost.cut:
        return f'<span class="lc-cost is-failed">{html_text("chat.too_long")}</span>'
    line = html_text("chat.cost", tokens=number(cost.tokens), window=number(cost.window))
    return f'<span class="lc-cost">{line}</span>'


def chat_menu(session_id: str) -> str:
    """What can be done with the whole chat."""
    title = html_text("chat.menu")
    links = "".join(
        f'<a class="lc-way" download href="api/sessions/{quote(session_id)}/export?format={kind}">'
        f"{html_text(f'chat.export.{kind}')}</a>"
        for kind in ("markdown", "json")
    )
    return (
        f'<details class="lc-up"><summary class="lc-act" title="{title}" aria-label="{title}">'
        f'{icon("more")}</summary><div class="lc-pop">{links}</div></details>'
    )


def welcome(own_documents: int, passages: int) -> str:
    """What an empty chat shows: what to do first, and questions to click."""
    if own_documents:
        return _hello(text("welcome.own"), text("welcome.own_lead", n=own_documents), ())
    questions = tuple(text(f"welcome.example.{name}") for name in EXAMPLES) if passages else ()
    return _hello(text("welcome.sample"), text("welcome.sample_lead"), questions)


def _hello(title: str, lead: str, questions: Sequence[str]) -> str:
    cards = "".join(
        f'<button class="lc-example" data-ask="{escape(question)}">{escape(question)}</button>'
        for question in questions
    )
    examples = f'<div class="lc-examples">{cards}</div>' if cards else ""
    head = f'<span class="lc-mark"></span><h1>{escape(title)}</h1><p>{escape(lead)}</p>'
    return f'<div class="lc-welcome">{head}{examples}</div>'
