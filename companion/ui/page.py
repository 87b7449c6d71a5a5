"""The page: places the panels, joins them, and says how everything looks.

Knows which panel stands where and what an arriving person gets to see. It does not know how
an answer, a search or a document comes about.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.domain import ModelInfo, ThinkingMode
from companion.errors import CompanionError, NotFound
from companion.ui import render
from companion.ui.chat_panel import ChatPanel
from companion.ui.documents_panel import DocumentsPanel
from companion.ui.header import Header
from companion.ui.here import (
    ASSETS,
    AT_ONCE,
    PAGE,
    QUEUED,
    Here,
    Look,
    Update,
    asset,
    owner_of,
    told,
    warn,
)
from companion.ui.session_list import SessionList
from companion.ui.settings_panel import SettingsPanel
from companion.ui.sources_panel import SourcesPanel

STATUS_S = 4.0
BROWSER_ZONE = "() => [Intl.DateTimeFormat().resolvedOptions().timeZone]"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
CODE_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_page(companion: Companion) -> gr.Blocks:
    """The whole page; it holds nothing of a person, everything is looked up per event."""
    demo = gr.Blocks(title="LLM Companion", analytics_enabled=False, fill_width=True, fill_height=True)
    with demo:
        Page(companion).wire(demo)
    return demo


def launch_arguments() -> dict[str, object]:
    """What `gr.Blocks.launch` takes for looks."""
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=FONTS, font_mono=CODE_FONTS
    )
    meta = '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">'
    head = f"{meta}<style>{asset('page.css')}</style><script>{asset('page.js')}</script>"
    return {"theme": theme, "head": head, "favicon_path": str(ASSETS / "favicon.svg")}


class Page:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.here = Here(gr.State(None), gr.Textbox(visible="hidden"))
        self.seen = gr.State({})
        with gr.Row(elem_id="lc-shell"):
            with gr.Column(elem_id="lc-side", min_width=0):
                self.sessions = SessionList(companion)
            with gr.Column(elem_id="lc-main", min_width=0):
                self.header = Header(companion)
                with gr.Tabs(elem_id="lc-tabs"):
                    with gr.Tab("Chat", id="chat"):
                        self.chat = ChatPanel(companion)
                    with gr.Tab("Documents", id="documents", render_children=True):
                        self.documents = DocumentsPanel(companion)
                    with gr.Tab("Settings", id="settings", render_children=True):
                        self.settings = SettingsPanel(companion)
            with gr.Column(elem_id="lc-right", min_width=0):
                self.sources = SourcesPanel(companion)
        self.clock = gr.Timer(STATUS_S)

    def wire(self, demo: gr.Blocks) -> None:
        self.chat.wire(self.here, self.sessions)
        self.sources.wire(self.here)
        self.documents.wire(self.here, self.sources)
        self._wire_arrival(demo)
        self._wire_sessions()
        self._wire_questions()
        self._wire_choices()
        self._wire_status()

    # --- what a person sees ---------------------------------------------------------------

    @property
    def _view(self) -> list[Any]:
        """Everything that belongs to the chat that is looked at."""
        panels = (self.sessions, self.header, self.chat, self.sources, self.settings)
        return [self.here.session, *(component for panel in panels for component in panel.outputs)]

    async def look(self, request: gr.Request, session_id: str | None, zone: str) -> Update:
        """A chat, or an empty page for None. Raises `NotFound`."""
        models = await self._companion.catalog.models()
        view = await asyncio.to_thread(self._show, owner_of(request), session_id, zone, models)
        self.here.turn(request, Look(session_id))
        return view

    def _show(self, owner: str, session_id: str | None, zone: str, models: list[ModelInfo]) -> Update:
        sessions = self._companion.sessions
        config = sessions.config(owner, session_id) if session_id else None
        preferences = sessions.preferences()
        model = (config.model_name if config else preferences.model_name) or _first(models)
        mode = config.thinking_mode if config else preferences.thinking_mode
        choices = render.model_choices(models, model)
        return {
            self.here.session: session_id,
            **self.sessions.show(owner, session_id, zone),
            **self.header.show(model, mode, choices),
            **self.chat.show(owner, session_id, zone),
            **self.settings.show(config, preferences, model, choices),
            **self.sources.clear(),
        }

    # --- events ---------------------------------------------------------------------------

    def _wire_arrival(self, demo: gr.Blocks) -> None:
        async def arrive(zone: str, request: gr.Request) -> Update:
            owner, wanted = owner_of(request), request.query_params.get("session")
            if wanted and not self._exists(owner, wanted):
                warn("This chat does not exist any more.")
                wanted = None
            documents = await asyncio.to_thread(self.documents.show, owner, zone)
            return {self.here.zone: zone, **await self.look(request, wanted or None, zone), **documents}

        outputs = [self.here.zone, *self._view, *self.documents.outputs]
        demo.load(arrive, self.here.zone, outputs, js=BROWSER_ZONE, **QUEUED)
        demo.unload(self.here.leave)

    def _wire_sessions(self) -> None:
        async def fresh(zone: str, request: gr.Request) -> Update:
            return await self.look(request, None, zone)

        async def open_chat(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            with told():
                return await self.look(request, event._data["id"], zone)

        def rename(event: gr.EventData, session_id: str | None, zone: str, request: gr.Request) -> Update:
            with told():
                self._companion.sessions.rename(owner_of(request), event._data["id"], event._data["title"])
            return self.sessions.show(owner_of(request), session_id, zone)

        async def remove(
            event: gr.EventData, session_id: str | None, zone: str, request: gr.Request
        ) -> Update:
            owner, gone = owner_of(request), event._data["id"]
            with told():
                await asyncio.to_thread(self._companion.sessions.delete, owner, gone)
            if gone == session_id:
                return await self.look(request, None, zone)
            return self.sessions.show(owner, session_id, zone)

        here, side = self.here, self.sessions
        side.head.fresh(fresh, here.zone, self._view, **AT_ONCE)
        side.list.open(open_chat, here.zone, self._view, **AT_ONCE)
        side.list.rename(rename, [here.session, here.zone], side.list, **AT_ONCE)
        side.list.remove(remove, [here.session, here.zone], self._view, **AT_ONCE)

    def _wire_questions(self) -> None:
        async def send(
            text: str, session_id: str | None, mode: str, zone: str, request: gr.Request
        ) -> Update:
            if not text.strip():
                return {self.chat.box: gr.skip()}
            with told():
                return await self._ask(request, session_id, text, ThinkingMode(mode), zone)

        async def ask(
            event: gr.EventData, session_id: str | None, mode: str, zone: str, request: gr.Request
        ) -> Update:
            with told():
                text = event._data["text"]
                return await self._ask(request, session_id, text, ThinkingMode(mode), zone)

        here = [self.here.session, self.header.mode, self.here.zone]
        outputs = [self.here.session, *self.chat.outputs, *self.sessions.outputs]
        self.chat.box.submit(send, [self.chat.box, *here], outputs, **AT_ONCE)
        self.chat.welcome.ask(ask, here, outputs, **AT_ONCE)

    def _wire_choices(self) -> None:
        header, fields, session = self.header, self.settings.fields, self.here.session

        async def choose_model(name: str, session_id: str | None, request: gr.Request) -> str:
            with told():
                await self._choose(owner_of(request), session_id, {"model_name": name})
            return name

        async def choose_mode(mode: str, session_id: str | None, request: gr.Request) -> Any:
            if session_id is None:
                # There is no chat yet: its first question takes the mode along, other chats keep theirs.
                return gr.skip()
            with told():
                change = {"thinking_mode": mode}
                await self._companion.sessions.update_config(owner_of(request), session_id, change)
            return mode

        async def save(values: dict[Any, Any], request: gr.Request) -> Update:
            named = {name: values[field] for name, field in self.settings.fields.items()}
            twins = {"model_name": header.model, "thinking_mode": header.mode}
            return await self.settings.keep(owner_of(request), values[session], named, twins)

        header.model.input(choose_model, [header.model, session], fields["model_name"], **AT_ONCE)
        header.mode.input(choose_mode, [header.mode, session], fields["thinking_mode"], **AT_ONCE)
        outputs = [*self.settings.outputs, header.model, header.mode]
        self.settings.save.click(save, {session, *fields.values()}, outputs, **QUEUED)

    def _wire_status(self) -> None:
        async def tick(
            session_id: str | None,
            zone: str,
            watched: str,
            seen: dict[int, int],
            model: str | None,
            request: gr.Request,
        ) -> Update:
            choices = render.model_choices(await self._companion.catalog.models(), model)
            owner = owner_of(request)
            news = await asyncio.to_thread(self._news, owner, session_id, zone, watched, choices)
            if not self.here.looks_at(request, session_id):
                return {self.seen: gr.skip()}
            prints = {part._id: hash(_told(value)) for part, value in news.items()}
            changed = {part: value for part, value in news.items() if seen.get(part._id) != prints[part._id]}
            return changed | {self.seen: prints}

        inputs = [self.here.session, self.here.zone, self.chat.watched, self.seen, self.header.model]
        outputs = [*self.header.outputs, self.sessions.list, self.chat.watched, *self.documents.outputs]
        self.clock.tick(tick, inputs, [*outputs, self.seen], **AT_ONCE)

    # --- the core is asked ----------------------------------------------------------------

    def _news(
        self, owner: str, session_id: str | None, zone: str, watched: str, choices: list[tuple[str, str]]
    ) -> Update:
        """What may have changed without this tab: engines, chats, documents, a run begun elsewhere."""
        run = self.chat.run_of(owner, session_id)
        begun = run is not None and not watched.startswith(run.run_id)
        return {
            self.header.pill: self.header.status(owner),
            self.header.model: gr.Dropdown(choices=choices),
            **self.sessions.show(owner, session_id, zone),
            **({self.chat.watched: f"{run.run_id} {PAGE}"} if run and begun else {}),
            **self.documents.show(owner, zone),
        }

    async def _ask(
        self, request: gr.Request, session_id: str | None, text: str, mode: ThinkingMode, zone: str
    ) -> Update:
        """Start the answer; a new chat begins with its first question."""
        owner = owner_of(request)
        sessions, runs = self._companion.sessions, self._companion.runs
        chat = session_id or (await sessions.create(owner, thinking_mode=mode)).session_id
        try:
            await asyncio.to_thread(runs.start, owner, chat, text, mode)
        except CompanionError:
            if session_id is None:
                sessions.delete(owner, chat)
            raise
        shown = await asyncio.to_thread(self.chat.show, owner, chat, zone)
        self.here.turn(request, Look(chat))
        box = gr.Textbox(value="", submit_btn=False, stop_btn=True)
        return {self.here.session: chat, **shown, self.chat.box: box, **self.sessions.show(owner, chat, zone)}

    async def _choose(self, owner: str, session_id: str | None, change: dict[str, str]) -> None:
        if session_id:
            await self._companion.sessions.update_config(owner, session_id, change)
        else:
            await self._companion.sessions.update_preferences(change)

    def _exists(self, owner: str, session_id: str) -> bool:
        try:
            self._companion.sessions.get(owner, session_id)
        except NotFound:
            return False
        return True


def _first(models: list[ModelInfo]) -> str | None:
    return next((model.name for model in models if not model.remote), None)


def _told(value: Any) -> str:
    """What a new value says; a component stands for the settings it was made with."""
    return repr(getattr(value, "constructor_args", value))
