"""The conversation: what was said, the answer as it is written, and the box to ask in.

Knows how a run of an answer is shown and followed. It does not know how answers are made: a
run goes on without anybody looking, and ends only by itself or by Stop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.chat.runs import Run
from companion.domain import SAMPLE_OWNER, Message, Role, ThinkingMode
from companion.errors import NotFound
from companion.ui.here import (
    AT_ONCE,
    EACH,
    PAGE,
    QUEUED,
    Here,
    Look,
    Update,
    html,
    now,
    owner_of,
    piece,
    told,
    zone_of,
)
from companion.ui.render.conversation import (
    Turn,
    chat_menu,
    conversation,
    cost_line,
    follow_ups,
    running,
    welcome,
)
from companion.ui.scope_panel import ScopePanel
from companion.ui.session_list import SessionList
from companion.ui.texts import html_text, text

UPDATE_S = 0.1
STILL_S = 0.5
"""So often an answer is looked at while nothing is said: a thought takes time, another tab may stop it."""
MATH: list[dict[str, str | bool]] = [
    {"left": left, "right": right, "display": display}
    for left, right, display in (("$$", "$$", True), (r"\[", r"\]", True), (r"\(", r"\)", False))
]


class ChatPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-chatpane"):
            self.welcome = html(js="chat.js", elem_id="lc-welcome")
            with gr.Column(elem_id="lc-chat"):
                self.earlier = gr.Button(text("chat.earlier"), visible=False, size="sm", elem_id="lc-earlier")
                self.log = _messages("lc-log")
                # Apart from the rest: Gradio draws a whole Chatbot anew with each update.
                self.live = _messages("lc-live")
                self.next = html(elem_id="lc-next")
            html(piece("latest.html"), js="latest.js", elem_id="lc-latest")
            self.editor = html(js="edit.js", elem_id="lc-editor")
            self.menu = html(elem_id="lc-chatmenu")
            self.scope = ScopePanel(companion)
            self.box = gr.Textbox(
                elem_id="lc-box",
                label=text("chat.placeholder"),
                show_label=False,
                container=False,
                placeholder=text("chat.placeholder"),
                lines=1,
                max_lines=8,
                submit_btn=True,
                autofocus=True,
            )
            self.cost = html(elem_id="lc-cost")
            html(html_text("chat.hint"), elem_id="lc-hint")
        self.watched = gr.Textbox(visible="hidden")
        self.shown = gr.State(PAGE)
        self.gone = gr.Textbox(visible="hidden")
        """The chat that was looked at when it was deleted in another tab."""

    @property
    def outputs(self) -> list[Any]:
        return [*self.kept, self.live, self.box, self.watched, self.shown]

    @property
    def kept(self) -> list[Any]:
        """What shows a chat as it is stored."""
        return [self.menu, self.welcome, self.earlier, self.log, self.next]

    def show(self, owner: str, session_id: str | None, zone: str, shown: int = PAGE) -> Update:
        """A chat from the store, and the name of its run, if one is going, to follow it."""
        run = self.run_of(owner, session_id)
        return {
            **self.stored(owner, session_id, zone, shown),
            self.live: _as_far_as(run) if run else [],
            self.box: gr.Textbox(submit_btn=run is None, stop_btn=run is not None),
            self.watched: f"{run.run_id} {shown}" if run else "",
            self.shown: shown,
        }

    def stored(self, owner: str, session_id: str | None, zone: str, shown: int) -> Update:
        """What is kept of a chat, without the answer in the making. Raises `NotFound`."""
        if session_id is None:
            empty = {self.menu: "", self.earlier: gr.Button(visible=False), self.log: [], self.next: ""}
            return {**empty, self.welcome: self._greeting(owner)}
        run = self._companion.runs.get(session_id)
        run = run if run is not None and run.owner == owner else None
        messages = self._companion.store.sessions.messages(owner, session_id, limit=shown + 1)
        latest = _with_remarks(messages[-shown:], run)
        log = conversation(
            latest, now(), zone_of(zone), replaced=_replaced_by(run), failure=_failure_of(run, latest)
        )
        calm = run is None or run.done
        return {
            self.menu: chat_menu(session_id) if messages else "",
            self.welcome: "" if messages else self._greeting(owner),
            self.earlier: gr.Button(visible=len(messages) > shown),
            self.log: log,
            self.next: follow_ups(self._companion.chat.suggestions(owner, session_id)) if calm else "",
        }

    def run_of(self, owner: str, session_id: str | None) -> Run | None:
        """The run that answers in this chat at the moment."""
        run = self._companion.runs.get(session_id) if session_id else None
        return run if run is not None and run.owner == owner and not run.done else None

    def wire(self, here: Here, sessions: SessionList, mode: gr.Dropdown) -> None:

        async def follow(
            watched: str, session_id: str | None, zone: str, shown: int, request: gr.Request
        ) -> AsyncIterator[Update]:
            owner = owner_of(request)
            run = self.run_of(owner, session_id)
            if run is not None and watched.startswith(f"{run.run_id} "):
                looking = partial(here.looks_at, request, session_id, shown)
                async with aclosing(self._follow(run, looking)) as updates:
                    async for update in updates:
                        yield update
            last = await asyncio.to_thread(ended, owner, session_id, zone, shown)
            if here.looks_at(request, session_id, shown):
                yield last
            # Gradio sends the last update once more when all is over; that must not bring back a chat.
            yield {self.live: gr.skip()}

        def ended(owner: str, session_id: str | None, zone: str, shown: int) -> Update:
            try:
                return {**self.show(owner, session_id, zone, shown), **sessions.show(owner, session_id, zone)}
            except NotFound:
                # Deleted while it was answered; whoever deleted it shows something else.
                return {self.live: gr.skip()}

        def stop(session_id: str | None, request: gr.Request) -> gr.Textbox:
            with told():
                if session_id:
                    self._companion.runs.stop(owner_of(request), session_id)
            return gr.Textbox(stop_btn=text("chat.stopping"))

        def earlier(session_id: str | None, zone: str, shown: int, request: gr.Request) -> Update:
            here.turn(request, Look(session_id, shown + PAGE))
            return self.show(owner_of(request), session_id, zone, shown + PAGE)

        def weigh(event: gr.EventData, session_id: str | None, chosen: str, request: gr.Request) -> str:
            with suppress(NotFound):
                draft = str(event._data["text"])
                owner = owner_of(request)
                return cost_line(
                    self._companion.chat.estimate(owner, session_id, draft, ThinkingMode(chosen))
                )
            return ""

        self.watched.change(
            follow,
            [self.watched, here.session, here.zone, self.shown],
            [*self.outputs, *sessions.outputs],
            **QUEUED,
            **EACH,
        )
        self.box.stop(stop, here.session, self.box, **AT_ONCE)
        self.welcome.touch(self._companion.touch, None, None, **AT_ONCE)
        self.welcome.draft(weigh, [here.session, mode], self.cost, **AT_ONCE, **EACH)
        self.earlier.click(earlier, [here.session, here.zone, self.shown], self.outputs, **AT_ONCE)

    async def _follow(self, run: Run, looking: Callable[[], bool]) -> AsyncGenerator[Update]:
        """The answer as far as it is, at most ten times a second, until it is kept or nobody looks."""
        turn, seen = Turn(), 0
        told: object = None
        yield {self.box: gr.Textbox(submit_btn=False, stop_btn=True)}
        while True:
            await _stirring(run, seen)
            if not looking():
                return
            due = time.monotonic() + UPDATE_S
            # Asked before reading on: what comes later is read next time.
            ended, stopping = run.done, run.stopping
            fresh = run.events[seen:]
            seen += len(fresh)
            for event in fresh:
                turn.add(event)
            if ended or turn.finished:
                return
            shown = running(turn, _thought_for(run), stopping=stopping)
            if (shown, stopping) != told:
                told = shown, stopping
                box = {self.box: gr.Textbox(stop_btn=text("chat.stopping"))} if stopping else {}
                yield {self.live: shown, **box}
            # Gradio has taken its own time in between.
            await asyncio.sleep(max(due - time.monotonic(), 0))

    def _greeting(self, owner: str) -> str:
        documents = self._companion.library.documents(owner)
        own = sum(document.owner == owner for document in documents)
        samples = sum(document.passages for document in documents if document.owner == SAMPLE_OWNER)
        return welcome(own, samples)


def _messages(name: str) -> gr.Chatbot:
    return gr.Chatbot(
        elem_id=name,
        show_label=False,
        container=False,
        autoscroll=False,
        buttons=[],
        allow_tags=False,
        latex_delimiters=MATH,
        feedback_options=None,
        # Two questions in one bubble could not be told apart, nor edited.
        group_consecutive_messages=False,
        height=None,
    )


async def _stirring(run: Run, seen: int) -> None:
    """Wait for an event after those that were seen, or half a second."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STILL_S), aclosing(run.follow(after=seen)) as events:
            await anext(events, None)


def _as_far_as(run: Run) -> list[dict[str, Any]]:
    turn = Turn()
    for event in list(run.events):
        turn.add(event)
    return running(turn, _thought_for(run), stopping=run.stopping)


def _thought_for(run: Run) -> float:
    return (now() - run.thinking_since).total_seconds() if run.thinking_since else 0.0


def _replaced_by(run: Run | None) -> int | None:
    """The answer that a run is to take the place of, while it has not."""
    going = run is not None and not run.done
    return run.replaces.message_id if run and going and run.replaces else None


def _with_remarks(messages: list[Message], run: Run | None) -> list[Message]:
    """An earlier answer that stayed says why, as long as its run is known: that is not stored."""
    answer = run.answer if run is not None and run.done else None
    return [answer if answer and answer.message_id == each.message_id else each for each in messages]


def _failure_of(run: Run | None, messages: list[Message]) -> str | None:
    """Why the last question has no answer at all."""
    if run is None or not run.done or run.error is None or not messages:
        return None
    last = messages[-1]
    unanswered = last.role is Role.USER and last.message_id == run.question.message_id
    return run.error.message if unanswered else None
