"""The settings: what a chat is set to, and what holds for the whole app.

Knows how each setting is explained and asked for. It does not know which values are allowed:
the core checks, and its sentence is shown beside the field.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.chat.sessions import PERSONAL_FIELDS
from companion.chat.setting_values import LONGEST, RANGES
from companion.costs import EmbedderCost, LayerName
from companion.domain import DeepQuery, Preferences, SessionConfig, ThinkingMode
from companion.errors import CompanionError, InvalidInput
from companion.inference.embedder_facts import SUGGESTED, Suggested
from companion.ui.here import AT_ONCE, EACH, QUEUED, Here, Update, html, now, owner_of, told, warn
from companion.ui.render.models import mode_choices, mode_label
from companion.ui.render.settings import complaint, confirmation, field_foot, kept
from companion.ui.texts import html_text, number, text

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")

NUMBER = "number"
TEXT = "text"
MODEL = "model"
MODE = "mode"
CHOICE = "choice"
SWITCH = "switch"
LINES = "lines"


@dataclass(frozen=True, slots=True)
class Setting:
    """Its label and its explanation are the texts `setting.<name>` and `setting.<name>.about`."""

    name: str
    kind: str


ANSWERS = (
    Setting("model_name", MODEL),
    Setting("show_cloud_models", SWITCH),
    Setting("thinking_mode", MODE),
    Setting("top_k", NUMBER),
    Setting("cot_iterations", NUMBER),
    Setting("least_similarity", NUMBER),
    Setting("temperature", NUMBER),
    Setting("system_prompt", LINES),
)
SEARCH = (Setting("embed_light", TEXT), Setting("embed_deep", TEXT), Setting("deep_query", CHOICE))
IDLE = (
    Setting("idle_threshold_s", NUMBER),
    Setting("gpu_idle_percent", NUMBER),
    Setting("quality_questions", NUMBER),
)
SECTIONS = (("answers", ANSWERS), ("search", SEARCH), ("idle", IDLE))
KINDS = {setting.name: setting.kind for _, settings in SECTIONS for setting in settings}
LAYERS: dict[str, LayerName] = {"embed_light": "light", "embed_deep": "deep"}
"""Settings whose change costs time, and says so first."""


class SettingsPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.fields: dict[str, Any] = {}
        self.errors: dict[str, gr.HTML] = {}
        self.feet: list[gr.HTML] = []
        with gr.Column(elem_id="lc-setpane"):
            for section, settings in SECTIONS:
                machine = [] if any(one.name in PERSONAL_FIELDS for one in settings) else ["lc-machine"]
                title = f"<h2>{html_text(f'settings.{section}')}</h2>"
                html(title, elem_classes=["lc-sectiontitle", *machine])
                with gr.Column(elem_classes=["lc-section", *machine]):
                    for setting in settings:
                        self._place(setting)
            self.confirm = html(js="confirm.js", elem_id="lc-confirm")
            with gr.Row(elem_id="lc-saverow"):
                self.save = gr.Button(text("settings.save"), variant="primary", elem_id="lc-save", scale=0)
                self.saved = html(elem_id="lc-saved")
                self.kept = html(js="settings.js", elem_id="lc-kept")
        self.seen = gr.State({})
        """What this tab was shown: what differs from it was changed here, and nothing else."""

    def _place(self, setting: Setting) -> None:
        name = setting.name
        looks = "lc-field" if name in PERSONAL_FIELDS else "lc-field lc-machine"
        with gr.Column(elem_classes=looks.split(), elem_id=f"lc-set-{name}", min_width=0):
            self.fields[name] = _field(setting)
            self.errors[name] = html()
            default, longest = self._default_words(name), LONGEST.get(name)
            foot = field_foot(name, RANGES.get(name), default, _suggestions(name), longest)
            self.feet.append(html(foot, js="field.js"))

    @property
    def outputs(self) -> list[Any]:
        told = [self.saved, self.confirm, self.kept, self.seen]
        return [*self.fields.values(), *self.errors.values(), *told]

    def show(
        self,
        config: SessionConfig | None,
        preferences: Preferences,
        model: str | None,
        choices: list[tuple[str, str]],
    ) -> Update:
        """What holds for a chat, or for new chats; earlier complaints are cleared."""
        values = self._values(preferences, config) | {"model_name": model}
        update: Update = {self.fields[name]: value for name, value in values.items()}
        update[self.fields["model_name"]] = gr.Dropdown(choices=choices, value=model)
        stands = kept(values, now(), chosen=model or "", view=True)
        told = {self.saved: "", self.confirm: "", self.kept: stands, self.seen: values}
        return update | dict.fromkeys(self.errors.values(), "") | told

    def follow(self, name: str, value: str) -> Update:
        """What was chosen, and kept, elsewhere on the page."""
        chosen = value if name == "model_name" else None
        return {self.fields[name]: value, self.kept: kept({name: value}, now(), chosen=chosen)}

    def wire(self, here: Here, twins: dict[str, Any]) -> None:
        """`twins` are components elsewhere that show the same settings; they show what was changed."""
        inputs = {here.session, self.seen, *self.fields.values()}

        async def save(values: dict[Any, Any], request: gr.Request) -> Update:
            return await self._keep(owner_of(request), values[here.session], values, twins)

        async def sure(values: dict[Any, Any], event: gr.EventData, request: gr.Request) -> Update:
            owner, session_id = owner_of(request), values[here.session]
            sure_of = [(layer, name) for layer, name in event._data["names"]]
            return await self._keep(owner, session_id, values, twins, sure_of)

        async def reset(event: gr.EventData) -> Update:
            name = str(event._data["name"])
            if name not in self.fields:
                return {self.kept: gr.skip()}
            with told():
                return self._typed(name, await self._default(name))

        def fill(event: gr.EventData) -> Update:
            name = str(event._data["name"])
            return self._typed(name, str(event._data["value"])) if name in LAYERS else {self.kept: gr.skip()}

        def retype(event: gr.EventData) -> Update:
            typed = {name: value for name, value in event._data["values"].items() if name in self.fields}
            chosen = typed.get("model_name")
            values = {self.fields[name]: _read(name, str(value)) for name, value in typed.items()}
            return {**values, self.kept: kept({}, now(), chosen=chosen)}

        outputs = [*self.outputs, *twins.values()]
        self.save.click(save, inputs, outputs, **QUEUED)
        self.confirm.sure(sure, inputs, outputs, **QUEUED)
        self.confirm.back(lambda: "", None, self.confirm, **AT_ONCE)
        self.fields["model_name"].input(
            lambda name: kept({}, now(), chosen=name), self.fields["model_name"], self.kept, **AT_ONCE
        )
        self.kept.retype(retype, None, [*self.fields.values(), self.kept], **AT_ONCE, **EACH)
        for foot in self.feet:
            foot.reset(reset, None, [*self.fields.values(), self.kept], **AT_ONCE)
            foot.fill(fill, None, [*self.fields.values(), self.kept], **AT_ONCE)

    def _values(self, preferences: Preferences, config: SessionConfig | None) -> dict[str, Any]:
        """What the fields show of these."""
        stored = asdict(preferences) | (asdict(config) if config else {})
        values = {name: stored[name] for name in self.fields}
        return values | {name: str(value) for name, value in values.items() if isinstance(value, StrEnum)}

    def _typed(self, name: str, value: Any) -> Update:
        """As if the person had typed it: not saved yet."""
        chosen = str(value) if name == "model_name" else None
        return {self.fields[name]: value, self.kept: kept({}, now(), chosen=chosen)}

    async def _keep(
        self,
        owner: str,
        session_id: str | None,
        values: dict[Any, Any],
        twins: dict[str, Any],
        sure_of: Sequence[tuple[str, str]] = (),
    ) -> Update:
        """Save all or nothing; a field that cannot be used says why beside it.

        What costs time is saved only if the person is `sure_of` it, as (layer, embedder).
        """
        fields = {name: values[field] for name, field in self.fields.items()}
        stored = await asyncio.to_thread(self._stored, owner, session_id)
        # Another tab, or an admin, may have changed others; these are shown again below. `twins` follow.
        others = fields.keys() - twins.keys()
        stale = {name: stored[name] for name in others if fields[name] == values[self.seen].get(name)}
        # What is a chat's own must not become everybody's by the way.
        changed = {name: value for name, value in (fields | stale).items() if value != stored[name]}
        try:
            await self._companion.sessions.check(changed, owner)
            costs = await self._costs(changed)
            if [(cost.layer, cost.name) for cost in costs] != list(sure_of):
                return self._complaint(None, "") | {self.confirm: confirmation(costs, now())}
            await self._companion.sessions.save(owner, session_id, changed)
        except InvalidInput as error:
            if error.field not in self.errors:
                warn(error.message)
            return self._complaint(error.field, error.message)
        except CompanionError as error:
            warn(error.message)
            return self._complaint(None, "")
        elsewhere = {twins[name]: changed[name] for name in twins if name in changed}
        return self._saved(session_id, fields | stale) | elsewhere

    def _stored(self, owner: str, session_id: str | None) -> dict[str, Any]:
        sessions = self._companion.sessions
        config = sessions.config(owner, session_id) if session_id else None
        return self._values(sessions.preferences(owner), config)

    async def _costs(self, changed: Mapping[str, Any]) -> list[EmbedderCost]:
        """Raises `InvalidInput` for an embedder that cannot be used here."""
        costs = []
        for field, layer in LAYERS.items():
            if field in changed:
                cost = await self._companion.embedder_cost(changed[field], layer)
                if cost.refusal:
                    raise InvalidInput(cost.refusal, field=field)
                costs.append(cost)
        return costs

    def _saved(self, session_id: str | None, values: dict[str, Any]) -> Update:
        sentence = html_text("settings.saved_chat") if session_id else html_text("settings.saved_new")
        said = f'<span role="status">{sentence}</span>'
        stored = kept(values, now(), chosen=values["model_name"] or "")
        shown = {self.fields[name]: value for name, value in values.items()}
        told = {self.saved: said, self.kept: stored, self.seen: values}
        return self._complaint(None, "") | shown | told

    def _complaint(self, field: str | None, message: str) -> Update:
        lines = dict.fromkeys(self.errors.values(), "")
        if field in self.errors:
            lines[self.errors[field]] = complaint(message, now())
        failed = f'<span class="is-failed">{html_text("settings.not_saved")}</span>'
        bad = {self.kept: kept({}, now(), bad=field)}
        return {**lines, **bad, self.saved: failed if field else "", self.confirm: ""}

    async def _default(self, name: str) -> Any:
        """What the program was started with. Raises `EngineUnavailable` if there is no model at all."""
        value = getattr(self._companion.settings, name)
        if name == "model_name" and value is None:
            return (await self._companion.catalog.default()).name
        return str(value) if isinstance(value, StrEnum) else value

    def _default_words(self, name: str) -> str:
        match getattr(self._companion.settings, name):
            case None:
                return text("setting.model_name.default")
            case bool(on):
                return text("settings.on") if on else text("settings.off")
            case ThinkingMode() as mode:
                return mode_label(mode)
            case DeepQuery() as choice:
                return text(f"setting.deep_query.{choice}")
            case int(amount):
                return number(amount)
            case "":
                return text("settings.nothing")
            case other:
                return str(other)


def _read(name: str, typed: str) -> Any:
    """What a field holds, from what it showed."""
    match KINDS[name]:
        case "number":
            return float(typed) if _NUMBER.fullmatch(typed) else None
        case "switch":
            return typed == "true"
        case _:
            return typed


def _suggestions(name: str) -> list[Suggested]:
    """The light embedder has to be quick."""
    layer = LAYERS.get(name)
    return [each for each in SUGGESTED if layer == "deep" or (layer and each.light)]


def _field(setting: Setting) -> Any:
    about = text(f"setting.{setting.name}.about")
    looks: dict[str, Any] = {"label": text(f"setting.{setting.name}"), "info": about, "interactive": True}
    match setting.kind:
        case "number":
            return gr.Number(**looks)
        case "model":
            return gr.Dropdown([], **looks)
        case "mode":
            return gr.Radio(mode_choices(), **looks)
        case "choice":
            return gr.Radio([(text(f"setting.deep_query.{each}"), each.value) for each in DeepQuery], **looks)
        case "switch":
            return gr.Checkbox(**looks)
        case "lines":
            return gr.Textbox(lines=3, max_lines=12, **looks)
        case _:
            return gr.Textbox(max_lines=1, **looks)
