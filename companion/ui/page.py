"""The page: places the panels, joins them, and says how everything looks.

Knows which panel stands where and what an arriving person gets to see. It does not know how
an answer, a search or a document comes about.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.config import Mode
from companion.domain import ModelInfo, ThinkingMode
from companion.errors import CompanionError, DatabaseDamaged, NotFound
from companion.ui.chat_panel import ChatPanel
from companion.ui.doctor_panel import DoctorPanel
from companion.ui.documents_panel import DocumentsPanel
from companion.ui.header import Header
from companion.ui.here import (
    ASSETS,
    AT_ONCE,
    EACH,
    QUEUED,
    Here,
    Look,
    Update,
    asset,
    html,
    now,
    owner_of,
    piece,
    told,
    warn,
    who_asks,
    zone_of,
)
from companion.ui.index_panel import IndexPanel
from companion.ui.models_panel import ModelsPanel
from companion.ui.quality_panel import QualityPanel
from companion.ui.render.account import admins_only
from companion.ui.render.conversation import edited
from companion.ui.render.documents import Arrangement
from companion.ui.render.models import model_choices
from companion.ui.session_list import SessionList
from companion.ui.settings_panel import SettingsPanel
from companion.ui.sources_panel import SourcesPanel
from companion.ui.texts import choose, for_scripts, text

STATUS_S = 4.0
STYLES = tuple(
    "page states sessions chat scope sources documents index quality settings models doctor login".split()
)
"""One file for the frame of the page, and one for each panel."""
IN_VIEW = """(...all) => [...all.slice(0, -2), ...['#lc-work', '#lc-quality'].map(
  place => document.querySelector(place)?.checkVisibility() ? 'yes' : '')]"""
"""Tells the server with each tick of the clock which of two tabs somebody sees."""
BROWSER_ZONE = "() => [Intl.DateTimeFormat().resolvedOptions().timeZone]"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
CODE_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def build_page(companion: Companion) -> gr.Blocks:
    """The whole page; it holds nothing of a person, everything is looked up per event."""
    choose(companion.settings.language)
    demo = gr.Blocks(title=text("app.name"), analytics_enabled=False, fill_width=True, fill_height=True)
    with demo:
        Page(companion).wire(demo)
    return demo


def launch_arguments(mode: Mode = "local") -> dict[str, Any]:
    """What `web.launch` takes for looks."""
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=FONTS, font_mono=CODE_FONTS
    )
    meta = '<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">'
    style = "".join(asset(f"{name}.css") for name in STYLES)
    texts = f'<script id="lc-texts" type="application/json">{for_scripts()}</script>'
    # A page too many is turned away before Gradio asks for anything, and looks like ours.
    early = asset("page.css") + asset("states.css")
    known = f'<meta name="companion-mode" content="{mode}">'
    first = f"{known}<style>{early}</style>{texts}<script>{asset('server.js')}</script>"
    head = f"{meta}<style>{style}</style><script>{asset('page.js')}</script>"
    return {"theme": theme, "first": first, "head": head, "favicon_path": str(ASSETS / "favicon.svg")}


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
                with gr.Tabs(elem_id="lc-tabs") as self.tabs:
                    with gr.Tab(text("tab.chat"), id="chat"):
                        self.chat = ChatPanel(companion)
                    with gr.Tab(text("tab.documents"), id="documents", render_children=True):
                        self.documents = DocumentsPanel(companion)
                    with gr.Tab(text("tab.index"), id="index", render_children=True) as self.index_tab:
                        self.index = IndexPanel(companion)
                    with gr.Tab(text("tab.quality"), id="quality", render_children=True) as self.quality_tab:
                        self.quality = QualityPanel(companion)
                    with gr.Tab(text("tab.settings"), id="settings", render_children=True):
                        html(piece("setnav.html"), js="setnav.js", elem_id="lc-setnav")
                        html(admins_only())
                        self.settings = SettingsPanel(companion)
                        self.models = ModelsPanel(companion)
                        self.doctor = DoctorPanel(companion)
                with gr.Column(elem_id="lc-right", min_width=0):
                    self.sources = SourcesPanel(companion)
        self.clock = gr.Timer(STATUS_S)

    def wire(self, demo: gr.Blocks) -> None:
        self.header.wire(self.here)
        self.chat.wire(self.here, self.sessions, self.header.mode)
        self.sources.wire(self.here)
        self.chat.scope.wire(self.here)
        self.documents.wire(self.here, self.sources)
        self.models.wire(self.here)
        self.doctor.wire()
        self.index.wire(self.here, self.index_tab, self.header.indexing)
        self.quality.wire(self.here, self.quality_tab, self.sources)
        self._wire_documents()
        self._wire_arrival(demo)
        self._wire_sessions()
        self._wire_questions()
        self._wire_choices()
        self._wire_status()

    # --- what a person sees ---------------------------------------------------------------

    @property
    def _view(self) -> list[Any]:
        """Everything that belongs to the chat that is looked at."""
        panels = (self.sessions, self.header, self.chat, self.chat.scope, self.sources, self.settings)
        return [self.here.session, *(component for panel in panels for component in panel.outputs)]

    async def look(
        self, request: gr.Request, session_id: str | None, zone: str, scope: tuple[str, ...] | None = None
    ) -> Update:
        """A chat, or for None an empty page, whose first question `scope` bounds. Raises `NotFound`."""
        owner, models = owner_of(request), await self._companion.catalog.models()
        view = await asyncio.to_thread(self._show, owner, session_id, zone, models)
        if session_id is None:
            view |= await asyncio.to_thread(self.chat.scope.show, owner, scope)
        self.here.turn(request, Look(session_id, scope=scope))
        return view

    def _show(self, owner: str, session_id: str | None, zone: str, models: list[ModelInfo]) -> Update:
        sessions = self._companion.sessions
        config = sessions.config(owner, session_id) if session_id else None
        preferences = sessions.preferences(owner)
        model = (config.model_name if config else preferences.model_name) or _first(models)
        mode = config.thinking_mode if config else preferences.thinking_mode
        choices = model_choices(models, model)
        return {
            self.here.session: session_id,
            **self.sessions.show(owner, session_id, zone),
            **self.header.show(model, mode, choices),
            **self.header.status(owner, session_id),
            **self.chat.show(owner, session_id, zone),
            **self.chat.scope.show(owner, config.scope if config else None),
            **self.settings.show(config, preferences, model, choices),
            **self.sources.clear(),
        }

    # --- events ---------------------------------------------------------------------------

    def _wire_arrival(self, demo: gr.Blocks) -> None:
        async def arrive(zone: str, request: gr.Request) -> Update:
            wanted = request.query_params.get("session")
            try:
                there = wanted and await asyncio.to_thread(self._exists, owner_of(request), wanted)
                view = await self.look(request, wanted if there else None, zone)
            except DatabaseDamaged:
                # Nothing else can be shown, and this says why.
                view = await asyncio.to_thread(self.header.status, owner_of(request), None)
            return {self.here.zone: zone, **view, **self.sessions.tell_who(who_asks(request))}

        async def settle(zone: str, request: gr.Request) -> Update:
            owner, wanted = owner_of(request), request.query_params.get("session")
            if wanted and not await asyncio.to_thread(self._exists, owner, wanted):
                warn(text("sessions.gone"))
            with told():
                documents = await asyncio.to_thread(self.documents.show, owner, zone, Arrangement())
                index = await asyncio.to_thread(self.index.show, owner, zone)
                return {**documents, **index, **await self.models.show(zone)}

        # First what is seen first; the queue, which toasts need, comes with two more requests.
        first = [self.here.zone, *self._view, self.sessions.account]
        demo.load(arrive, self.here.zone, first, js=BROWSER_ZONE, **AT_ONCE)
        behind = [*self.documents.outputs, *self.index.outputs, *self.models.outputs]
        demo.load(settle, self.here.zone, behind, js=BROWSER_ZONE, **QUEUED)
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
                deleted = await asyncio.to_thread(self._companion.sessions.get, owner, gone)
                await asyncio.to_thread(self._companion.sessions.hide, owner, gone)
            bar = self.sessions.offer_undo(deleted)
            if gone == session_id:
                return {**await self.look(request, None, zone), **bar}
            return {**await asyncio.to_thread(self.sessions.show, owner, session_id, zone), **bar}

        async def undo(event: gr.EventData, session_id: str | None, zone: str, request: gr.Request) -> Update:
            owner, back = owner_of(request), event._data["id"]
            with told():
                await asyncio.to_thread(self._companion.sessions.undo, owner, back)
            if session_id is None:
                return await self.look(request, back, zone)
            return await asyncio.to_thread(self.sessions.show, owner, session_id, zone)

        async def leave(zone: str, request: gr.Request) -> Update:
            warn(text("sessions.gone"))
            return await self.look(request, None, zone)

        here, side = self.here, self.sessions
        self.chat.gone.change(leave, here.zone, self._view, **QUEUED)
        side.head.fresh(fresh, here.zone, self._view, **AT_ONCE)
        side.list.open(open_chat, here.zone, self._view, **AT_ONCE, **EACH)
        side.list.rename(rename, [here.session, here.zone], side.list, **AT_ONCE, **EACH)
        side.list.remove(remove, [here.session, here.zone], [*self._view, side.undo], **AT_ONCE, **EACH)
        side.undo.undo(undo, [here.session, here.zone], self._view, **AT_ONCE)

    def _wire_documents(self) -> None:
        """From a document to a new chat about it, and from a passage to its document."""

        async def ask_only(event: gr.EventData, zone: str, request: gr.Request) -> Update:
            view = await self.look(request, None, zone, scope=(str(event._data["id"]),))
            return {self.tabs: gr.Tabs(selected="chat"), **view}

        def listed(event: gr.EventData, zone: str, arranged: Arrangement, request: gr.Request) -> Update:
            with told():
                shown = self.documents.reveal(owner_of(request), str(event._data["id"]), zone, arranged)
            return {self.tabs: gr.Tabs(selected="documents"), **shown}

        here, documents = self.here, self.documents
        for part in (documents.list, self.sources.cards):
            part.ask(ask_only, here.zone, [self.tabs, *self._view], **AT_ONCE)
        tab = [here.zone, documents.arranged]
        self.sources.cards.listed(listed, tab, [self.tabs, documents.arranged, *documents.outputs], **AT_ONCE)

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

        async def again(
            event: gr.EventData, session_id: str | None, zone: str, request: gr.Request
        ) -> Update:
            with told():
                mode, question = event._data.get("mode"), int(event._data["id"])
                return await self._once_more(request, session_id, zone, mode, question)

        async def resend(
            event: gr.EventData, session_id: str | None, mode: str, zone: str, request: gr.Request
        ) -> Update:
            question, text = int(event._data["id"]), str(event._data["text"])
            try:
                view = await self._once_more(request, session_id, zone, mode, question, text)
            except CompanionError as error:
                # Said beside the words, which are still there.
                return {self.chat.editor: edited(now(), error.message)}
            return {**view, self.chat.editor: edited(now())}

        here = [self.here.session, self.header.mode, self.here.zone]
        outputs = [self.here.session, *self.chat.outputs, *self.sessions.outputs]
        self.chat.box.submit(send, [self.chat.box, *here], outputs, **AT_ONCE)
        self.chat.welcome.ask(ask, here, outputs, **AT_ONCE)
        self.chat.welcome.again(again, [self.here.session, self.here.zone], outputs, **AT_ONCE)
        self.chat.editor.resend(resend, here, [*outputs, self.chat.editor], **AT_ONCE)

    def _wire_choices(self) -> None:
        header, fields, session = self.header, self.settings.fields, self.here.session

        async def choose_model(name: str, session_id: str | None, request: gr.Request) -> Update:
            with told():
                await self._choose(owner_of(request), session_id, {"model_name": name})
            return self.settings.follow("model_name", name)

        async def choose_mode(mode: str, session_id: str | None, request: gr.Request) -> Update:
            if session_id is None:
                # There is no chat yet: its first question takes the mode along, other chats keep theirs.
                return {self.settings.kept: gr.skip()}
            with told():
                change = {"thinking_mode": mode}
                await self._companion.sessions.update_config(owner_of(request), session_id, change)
            return self.settings.follow("thinking_mode", mode)

        kept = self.settings.kept
        header.model.input(choose_model, [header.model, session], [fields["model_name"], kept], **AT_ONCE)
        header.mode.input(choose_mode, [header.mode, session], [fields["thinking_mode"], kept], **AT_ONCE)
        self.settings.wire(self.here, {"model_name": header.model, "thinking_mode": header.mode})

    def _wire_status(self) -> None:
        async def tick(
            session_id: str | None,
            zone: str,
            watched: str,
            shown: int,
            seen: dict[int, int],
            model: str | None,
            arranged: Arrangement,
            index_seen: str,
            quality_seen: str,
            request: gr.Request,
        ) -> Update:
            choices = model_choices(await self._companion.catalog.models(), model)
            owner = owner_of(request)
            if self._companion.store.damaged:
                return await asyncio.to_thread(self.header.status, owner, None)
            news = await asyncio.to_thread(self._news, owner, session_id, zone, watched, shown, choices)
            news |= await asyncio.to_thread(self._documents_now, request, session_id, zone, arranged)
            news |= await self.models.show(zone)
            if index_seen:
                news |= await asyncio.to_thread(self.index.show, owner, zone)
            if quality_seen:
                news |= await asyncio.to_thread(self.quality.show, owner, zone)
            if not self.here.looks_at(request, session_id, shown):
                return {self.seen: gr.skip()}
            prints = {part._id: hash(_told(value)) for part, value in news.items()}
            changed = {part: value for part, value in news.items() if seen.get(part._id) != prints[part._id]}
            return changed | {self.seen: prints}

        inputs = [self.here.session, self.here.zone, self.chat.watched, self.chat.shown, self.seen]
        inputs += [self.header.model, self.documents.arranged, self.index.seen, self.quality.seen]
        outputs = [*self.header.outputs, self.sessions.list, self.chat.watched, *self.chat.scope.outputs]
        outputs += [*self.chat.kept, self.chat.gone, *self.documents.outputs, *self.index.outputs, self.seen]
        outputs += [*self.quality.outputs, *self.models.outputs, self.settings.fields["model_name"]]
        self.clock.tick(tick, inputs, outputs, js=IN_VIEW, **AT_ONCE)

    # --- the core is asked ----------------------------------------------------------------

    def _news(
        self,
        owner: str,
        session_id: str | None,
        zone: str,
        watched: str,
        shown: int,
        choices: list[tuple[str, str]],
    ) -> Update:
        """What may have changed without this tab: engines, chats, documents, a run begun elsewhere."""
        run = self.chat.run_of(owner, session_id)
        begun = run is not None and not watched.startswith(run.run_id)
        return {
            **self.header.status(owner, session_id),
            self.header.model: gr.Dropdown(choices=choices),
            self.settings.fields["model_name"]: gr.Dropdown(choices=choices),
            **self.sessions.show(owner, session_id, zone),
            **self._chat_now(owner, session_id, zone, shown),
            **({self.chat.watched: f"{run.run_id} {shown}"} if run and begun else {}),
        }

    def _chat_now(self, owner: str, session_id: str | None, zone: str, shown: int) -> Update:
        """A question asked in another tab, an edit, a deletion."""
        try:
            return self.chat.stored(owner, session_id, zone, shown)
        except NotFound:
            return {self.chat.gone: session_id}

    def _documents_now(
        self, request: gr.Request, session_id: str | None, zone: str, arranged: Arrangement
    ) -> Update:
        owner = owner_of(request)
        listed = self.documents.show(owner, zone, arranged)
        try:
            chosen = self.chat.scope.chosen(owner, session_id, self.here, request)
        except NotFound:
            # Deleted in another tab.
            return listed
        return {**listed, **self.chat.scope.show(owner, chosen)}

    async def _ask(
        self, request: gr.Request, session_id: str | None, text: str, mode: ThinkingMode, zone: str
    ) -> Update:
        """Start the answer; a new chat begins with its first question."""
        owner = owner_of(request)
        sessions, runs = self._companion.sessions, self._companion.runs
        scope = self.here.look_of(request).scope
        chat = session_id or (await sessions.create(owner, thinking_mode=mode, scope=scope)).session_id
        try:
            await asyncio.to_thread(runs.start, owner, chat, text, mode, zone=zone_of(zone))
        except CompanionError:
            if session_id is None:
                await asyncio.to_thread(sessions.delete, owner, chat)
            raise
        shown = await asyncio.to_thread(self._asked, owner, chat, zone)
        self.here.turn(request, Look(chat))
        # It may be answered already: then nobody follows it, who would bring the button back.
        going = self.chat.run_of(owner, chat) is not None
        box = gr.Textbox(value="", submit_btn=not going, stop_btn=going)
        return {**shown, self.chat.box: box}

    async def _once_more(
        self,
        request: gr.Request,
        session_id: str | None,
        zone: str,
        mode: str | None,
        question: int,
        text: str | None = None,
    ) -> Update:
        """Answer a question again, or in other words if there are any."""
        owner, runs = owner_of(request), self._companion.runs
        chat = session_id or ""
        way = ThinkingMode(mode) if mode else None
        if text is None:
            await asyncio.to_thread(runs.retry, owner, chat, way, message_id=question, zone=zone_of(zone))
        else:
            await asyncio.to_thread(runs.resend, owner, chat, question, text, way, zone=zone_of(zone))
        shown = await asyncio.to_thread(self._asked, owner, chat, zone)
        self.here.turn(request, Look(chat))
        return shown

    def _asked(self, owner: str, session_id: str, zone: str) -> Update:
        """A chat in which an answer has just begun."""
        return {
            self.here.session: session_id,
            **self.chat.show(owner, session_id, zone),
            **self.sessions.show(owner, session_id, zone),
        }

    async def _choose(self, owner: str, session_id: str | None, change: dict[str, str]) -> None:
        if session_id:
            await self._companion.sessions.update_config(owner, session_id, change)
        else:
            await self._companion.sessions.update_preferences(change, owner)

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
