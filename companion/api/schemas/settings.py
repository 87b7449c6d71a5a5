"""The shapes of what can be set, for a conversation and for the whole app.

It does not know routes, or where a value comes from.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictBool

from companion.api.schemas.shape import Number, Request, Shape
from companion.domain import DeepQuery, ThinkingMode

TopK = Annotated[int, Number, Field(ge=1, le=50, description="Passages given to the model")]
IdleThreshold = Annotated[
    int, Number, Field(ge=10, le=86400, description="Quiet seconds before deepening starts")
]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Temperature = Annotated[
    float, Number, Field(ge=0, le=2, description="Of sampling; 0 takes the likeliest word")
]
SystemPrompt = Annotated[
    str, Field(max_length=4000, description="Told beside the rules for citing; empty for nothing")
]


class SessionConfig(Shape):
    session_id: str
    model_name: str
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int
    scope: tuple[str, ...] | None
    """The chosen documents, some perhaps deleted since; null: all of one's own."""
    temperature: float
    system_prompt: str
    """What the model is told beside the rules for citing; empty: nothing."""


class Change(Request):
    """What conversations and settings have in common. Fields left out stay as they are."""

    model_name: Name | None = None
    thinking_mode: ThinkingMode | None = None
    top_k: TopK | None = None
    embed_light: Name | None = None
    embed_deep: Name | None = None
    idle_threshold_s: IdleThreshold | None = None
    temperature: Temperature | None = None
    system_prompt: SystemPrompt | None = None

    def given(self) -> dict[str, Any]:
        """The fields to change."""
        return self.model_dump(exclude_none=True)


class ConfigChange(Change):
    """Fields left out stay as they are."""

    scope: Annotated[list[str], Field(json_schema_extra={"minItems": 1})] | None = None
    """The documents to search; null: all of one's own."""

    def given(self) -> dict[str, Any]:
        """The fields to change; null is a value for the scope alone."""
        chosen = {"scope": self.scope} if "scope" in self.model_fields_set else {}
        return super().given() | chosen


class Settings(Shape):
    """What new sessions start with, and what holds for the whole app."""

    model_name: str | None
    thinking_mode: ThinkingMode
    top_k: int
    embed_light: str
    embed_deep: str
    idle_threshold_s: int
    gpu_idle_percent: int
    cot_iterations: int
    least_similarity: int
    deep_query: DeepQuery
    show_cloud_models: bool
    temperature: float
    system_prompt: str
    quality_questions: int


class SettingsChange(Change):
    """Fields left out stay as they are."""

    gpu_idle_percent: Annotated[int, Number, Field(ge=1, le=100)] | None = None
    cot_iterations: Annotated[int, Number, Field(ge=1, le=3)] | None = None
    least_similarity: Annotated[int, Number, Field(ge=0, le=100)] | None = None
    """Percent; when no passage is as similar to the question, nothing counts as found."""
    deep_query: DeepQuery | None = None
    """Direct: the deep embedder reads questions, too, if it takes 50 ms at most here; else
    `/api/health` says why not."""
    show_cloud_models: StrictBool | None = None
    """List Ollama's cloud models; questions and passages then leave the machine."""
    quality_questions: Annotated[int, Number, Field(ge=0, le=300)] | None = None
    """Made from one's own documents to measure the search; 0: none."""
