"""The window of a model: how much may be asked of it, how large it is, and how it is shared out.

Pure: numbers of tokens. It does not know texts, engines or conversations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from companion.chat.modes import Plan
from companion.config import Settings
from companion.domain import ModelInfo, Thinking

FIRST_WINDOW = 4096
LEAST_TO_THINK = 2048
"""Tokens: in a smaller window the steps of thinking leave no room for question and passages."""
SPARE = 0.05
"""Share of a window left empty, because tokens are estimated."""
PASSAGE_TOKENS = 600
HISTORY_TOKENS = 1024
QUESTION_TOKENS = 256
SYSTEM_TOKENS = 512
NATIVE_THOUGHT_TOKENS: dict[Thinking, int] = {True: 2048, "low": 1024, "medium": 2048, "high": 4096}


@dataclass(frozen=True, slots=True)
class Profile:
    """How much may be asked of a model."""

    small: bool
    """Plain words, few passages, no extra calls."""
    answer_tokens: int
    thought_tokens: int
    """Of one pass of thinking."""
    passages: int
    passes: int
    max_ctx: int
    prompt_tokens: int | None = None
    """Longest prompt, where the window is not the limit."""


def profile_for(model: ModelInfo, settings: Settings, passes: int) -> Profile:
    """The built-in engine reads slowly and its own model is tiny; a larger file of it is not."""
    max_ctx = min(model.context_length or settings.max_ctx, settings.max_ctx)
    if model.engine == "builtin" and (model.size or 0) < 1_000_000_000:
        return Profile(True, min(settings.answer_tokens, 256), 96, 2, 1, min(max_ctx, FIRST_WINDOW), 900)
    return Profile(False, settings.answer_tokens, 512, 50, passes, max_ctx)


@dataclass(frozen=True, slots=True)
class Window:
    """How the tokens of a model's window are shared out."""

    num_ctx: int
    prompt: int
    """For system text, passages, conversation and question."""
    answer: int
    thoughts: int
    """Of one pass; of all native thinking."""


def window_size(wanted: int, current: int, limit: int) -> int:
    """The step (4096, 8192, …) that holds `wanted` tokens: never less than now, never above the limit."""
    size = FIRST_WINDOW
    while size < max(wanted, current):
        size *= 2
    return min(size, limit)


def wanted_tokens(profile: Profile, plan: Plan, top_k: int, question: int, history: int, own: int = 0) -> int:
    """Tokens of a turn as it usually is. Taken before the search, so that the window is known.

    `own` are those of the person's system prompt.
    """
    passages = min(top_k, profile.passages) * PASSAGE_TOKENS if plan.searches else 0
    prompt = SYSTEM_TOKENS + own + passages + question + min(history, HISTORY_TOKENS)
    if profile.prompt_tokens:
        prompt = min(prompt, profile.prompt_tokens)
    return math.ceil((prompt + profile.answer_tokens + _thoughts(profile, plan)) * (1 + SPARE))


def share_out(num_ctx: int, profile: Profile, plan: Plan) -> Window:
    """In a small window answer and thoughts get at most a quarter each; the rest is the prompt's."""
    answer = min(profile.answer_tokens, num_ctx // 4)
    thoughts = min(_thoughts(profile, plan), num_ctx // 4)
    prompt = int(num_ctx * (1 - SPARE)) - answer - thoughts
    if profile.prompt_tokens:
        prompt = min(prompt, profile.prompt_tokens - thoughts)
    return Window(num_ctx, prompt, answer, thoughts // max(len(plan.passes), 1))


def _thoughts(profile: Profile, plan: Plan) -> int:
    return NATIVE_THOUGHT_TOKENS[plan.native] if plan.native else profile.thought_tokens * len(plan.passes)
