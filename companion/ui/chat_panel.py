"""The conversation: what was said, the answer as it is written, and the box to ask in.

Knows how a run of an answer is shown and followed. It does not know how answers are made: a
run goes on without anybody looking, and ends only by itself or by Stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.chat.runs import Run
from companion.domain import SAMPLE_OWNER, Message
from companion.errors import NotFound
from companion.ui import render
from companion.ui.here import (
    AT_ONCE,
    PAGE,
    QUEUED,
    Here,
    Look,
    Update,
    html,
    now,
    owner_of,
    told,
    zone_of,
)
from companion.ui.session_list import SessionList

UPDATE_S = 0.1
MATH: list[dict[str, str | bool]] = [
    {"left": left, "right": right, "display": display}
    for left, right, display in (("$$", "$$", True), (r"\[", r"\]", True), (r"\(", r"\)", False))
]


class ChatPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        with gr.Column(elem_id="lc-chatpane"):
            self.earlier = gr.Button("Show earlier messages", visible=False, size="sm", elem_id="lc-earlier")
            self.welcome = html(js="chat.js", elem_id="lc-welcome")
            self.log = gr.Chatbot(
                elem_id="lc-chat",
                show_label=False,
                container=False,
                autoscroll=False,
                buttons=[],
                allow_tags=False,
                latex_delimiters=MATH,
                feedback_options=None,
                height=None,
            )
            self.box = gr.Textbox(
                elem_id="lc-box",
                show_label=False,
                container=False,
                placeholder="Ask your documents…",
                lines=1,
                max_lines=8,
                submit_btn=True,
                autofocus=True,
            )
            html("Enter sends · Shift+Enter starts a new line · Esc stops", elem_id="lc-hint")
        self.watched = gr.Textbox(visible="hidden")
        self.shown = gr.State(PAGE)

    @property
    def outputs(self) -> list[Any]:
        return [self.earlier, self.welcome, self.log, self.box, self.watched, self.shown]

    def show(self, owner: str, session_id: str | None, zone: str, shown: int = PAGE) -> Update:
        """A chat from the store, and the name of its run, if one is going, to follow it."""
        messages, more = self._latest(owner, session_id, shown)
        run = self.run_of(owner, session_id)
        log = render.conversation(messages, now(), zone_of(zone))
        return {
            self.earlier: gr.Button(visible=more),
            self.welcome: "" if messages else self._greeting(owner),
            self.log: log + (render.running(render.Turn(), 0) if run else []),
            self.box: gr.Textbox(submit_btn=run is None, stop_btn=run is not None),
            self.watched: f"{run.run_id} {shown}" if run else "",
            self.shown: shown,
        }

    def run_of(self, owner: str, session_id: str | None) -> Run | None:
        """The run that answers in this chat at the moment."""
        run = self._companion.runs.get(session_id) if session_id else None
        return run if run is not None and run.owner == owner and not run.done else None

    def wire(self, here: Here, sessions: SessionList) -> None:

        async def follow(
            watched: str, session_id: str | None, zone: str, shown: int, request: gr.Request
        ) -> AsyncIterator[Update]:
            owner = owner_of(request)
            run = self.run_of(owner, session_id)
            if run is not None and watched.startswith(f"{run.run_id} "):
                async with aclosing(self._follow(owner, run, zone, shown)) as updates:
                    async for update in updates:
                        if not here.looks_at(request, session_id, shown):
                            break
                        yield update
            last = await asyncio.to_thread(ended, owner, session_id, zone, shown)
            if here.looks_at(request, session_id, shown):
                yield last
            # Gradio sends the last update once more when all is over; that must not bring back a chat.
            yield {self.log: gr.skip()}

        def ended(owner: str, session_id: str | None, zone: str, shown: int) -> Update:
            try:
                return {**self.show(owner, session_id, zone, shown), **sessions.show(owner, session_id, zone)}
            except NotFound:
                # Deleted while it was answered; whoever deleted it shows something else.
                return {self.log: gr.skip()}

        def stop(session_id: str | None, request: gr.Request) -> gr.Textbox:
            with told():
                if session_id:
                    self._companion.runs.stop(owner_of(request), session_id)
            return gr.Textbox(stop_btn="Stopping…")

        def earlier(session_id: str | None, zone: str, shown: int, request: gr.Request) -> Update:
            here.turn(request, Look(session_id, shown + PAGE))
            return self.show(owner_of(request), session_id, zone, shown + PAGE)

        self.watched.change(
            follow,
            [self.watched, here.session, here.zone, self.shown],
            [*self.outputs, *sessions.outputs],
            trigger_mode="multiple",
            **QUEUED,
        )
        self.box.stop(stop, here.session, self.box, **AT_ONCE)
        self.welcome.touch(self._companion.touch, None, None, **AT_ONCE)
        self.earlier.click(earlier, [here.session, here.zone, self.shown], self.outputs, **AT_ONCE)

    async def _follow(self, owner: str, run: Run, zone: str, shown: int) -> AsyncGenerator[Update]:
        """The chat with the answer as far as it is, at most ten times a second, until it is kept."""
        messages, _ = await asyncio.to_thread(self._latest, owner, run.session_id, shown)
        before = render.conversation(messages, now(), zone_of(zone))
        turn, seen = render.Turn(), 0
        yield {self.box: gr.Textbox(submit_btn=False, stop_btn=True)}
        async with aclosing(run.follow()) as events:
            async for number, _event in events:
                if number <= seen:
                    continue
                fresh = run.events[seen:]
                seen += len(fresh)
                for event in fresh:
                    turn.add(event)
                if turn.finished is None:
                    elapsed = (now() - run.question.created_at).total_seconds()
                    yield {self.log: before + render.running(turn, elapsed)}
                    await asyncio.sleep(UPDATE_S)

    def _latest(self, owner: str, session_id: str | None, shown: int) -> tuple[list[Message], bool]:
        """The last messages, and whether there are more before them."""
        if session_id is None:
            return [], False
        messages = self._companion.store.sessions.messages(owner, session_id, limit=shown + 1)
        return messages[-shown:], len(messages) > shown

    def _greeting(self, owner: str) -> str:
        documents = self._companion.library.documents(owner)
        own = sum(document.owner == owner for document in documents)
        samples = sum(document.passages for document in documents if document.owner == SAMPLE_OWNER)
        return render.welcome(own, samples)
