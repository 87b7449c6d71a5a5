"""The settings: what a chat is set to, and what holds for the whole app.

Knows how each setting is explained and asked for. It does not know which values are allowed:
the core checks, and its sentence is shown beside the field.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from companion.app import Companion
from companion.domain import Preferences, SessionConfig
from companion.errors import CompanionError, InvalidInput
from companion.ui import render
from companion.ui.here import Update, html, warn

NUMBER = "number"
TEXT = "text"
MODEL = "model"
MODE = "mode"


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    label: str
    kind: str
    about: str


ANSWERS = (
    Setting("model_name", "Model", MODEL, "Who answers: a chat model of Ollama, or the built-in one."),
    Setting(
        "thinking_mode",
        "How to answer",
        MODE,
        "Hybrid searches your documents and thinks about what it found. "
        "Documents answers from them at once. Thinking leaves them out.",
    ),
    Setting(
        "top_k",
        "Passages",
        NUMBER,
        "How many passages of your documents the model reads before it answers, 1 to 50.",
    ),
    Setting(
        "cot_iterations",
        "Thinking passes",
        NUMBER,
        "Drafts and checks of a model that cannot think by itself, 1 to 3. More is slower. For all chats.",
    ),
)
SEARCH = (
    Setting(
        "embed_light",
        "Light embedder",
        TEXT,
        "Makes new documents searchable within seconds: name or folder of a sentence-transformers model. "
        "Another one is used from the next start on, which embeds the library again.",
    ),
    Setting(
        "embed_deep",
        "Deep embedder",
        TEXT,
        "Will read the library again while the machine is idle: a name, a folder, or ollama:NAME. "
        "Kept for a later version; this one does not deepen yet.",
    ),
)
IDLE = (
    Setting(
        "idle_threshold_s",
        "Quiet time",
        NUMBER,
        "Seconds without a sign of you before deepening may start, 10 to 86,400. Not used yet.",
    ),
    Setting(
        "gpu_idle_percent",
        "GPU counts as idle below",
        NUMBER,
        "Percent of the GPU that other programs use, 1 to 100. For all chats. Not used yet.",
    ),
)
SECTIONS = (("Answers", ANSWERS), ("Search", SEARCH), ("Idle time", IDLE))


class SettingsPanel:
    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.fields: dict[str, Any] = {}
        self.errors: dict[str, gr.HTML] = {}
        with gr.Column(elem_id="lc-setpane"):
            for title, settings in SECTIONS:
                html(f"<h2>{title}</h2>", elem_classes="lc-sectiontitle")
                with gr.Column(elem_classes="lc-section"):
                    for setting in settings:
                        self._place(setting)
            with gr.Row(elem_id="lc-saverow"):
                self.save = gr.Button("Save", variant="primary", elem_id="lc-save", scale=0)
                self.saved = html(elem_id="lc-saved")

    def _place(self, setting: Setting) -> None:
        with gr.Column(elem_classes="lc-field", elem_id=f"lc-set-{setting.name}", min_width=0):
            self.fields[setting.name] = _field(setting)
            self.errors[setting.name] = html()

    @property
    def outputs(self) -> list[Any]:
        return [*self.fields.values(), *self.errors.values(), self.saved]

    def show(
        self,
        config: SessionConfig | None,
        preferences: Preferences,
        model: str | None,
        choices: list[tuple[str, str]],
    ) -> Update:
        """What holds for a chat, or for new chats; earlier complaints are cleared."""
        values = asdict(preferences) | (asdict(config) if config else {})
        update: Update = {self.fields[name]: values[name] for name in self.fields}
        update[self.fields["thinking_mode"]] = str(values["thinking_mode"])
        update[self.fields["model_name"]] = gr.Dropdown(choices=choices, value=model)
        return update | dict.fromkeys(self.errors.values(), "") | {self.saved: ""}

    async def keep(
        self, owner: str, session_id: str | None, values: dict[str, Any], twins: dict[str, Any]
    ) -> Update:
        """Save all or nothing; a field that cannot be used says why beside it.

        `twins` are components elsewhere that show the same setting; what was changed is shown there, too.
        """
        try:
            changed = await self._save(owner, session_id, values)
        except InvalidInput as error:
            if error.field not in self.errors:
                warn(error.message)
            return self._complaint(error.field, error.message)
        except CompanionError as error:
            warn(error.message)
            return self._complaint(None, "")
        where = "for this chat and for new ones" if session_id else "for new chats"
        said = {self.saved: f'<span role="status">Saved {where}.</span>'}
        return (
            self._complaint(None, "")
            | said
            | {twins[name]: changed[name] for name in twins if name in changed}
        )

    async def _save(self, owner: str, session_id: str | None, values: dict[str, Any]) -> dict[str, Any]:
        """Only what was changed here: what is a chat's own must not become everybody's by the way."""
        sessions = self._companion.sessions
        shown = asdict(sessions.preferences())
        if session_id:
            shown |= asdict(sessions.config(owner, session_id))
        changed = {name: value for name, value in values.items() if value != shown[name]}
        await sessions.save(owner, session_id, changed)
        return changed

    def _complaint(self, field: str | None, message: str) -> Update:
        lines = {line: render.field_error(message, name == field) for name, line in self.errors.items()}
        return {**lines, self.saved: '<span class="is-failed">Not saved.</span>' if field else ""}


def _field(setting: Setting) -> Any:
    label = f"{setting.label} ({setting.name})"
    looks: dict[str, Any] = {"label": label, "info": setting.about, "interactive": True}
    match setting.kind:
        case "number":
            return gr.Number(**looks)
        case "model":
            return gr.Dropdown([], **looks)
        case "mode":
            return gr.Radio([(label, str(mode)) for label, mode in render.MODES], **looks)
        case _:
            return gr.Textbox(max_lines=1, **looks)
