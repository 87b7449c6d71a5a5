"""What a turn works with: its model, the plan, the window and how long the model's tokens are.

Remembers per model what was learned of both, for all conversations. It does not know texts or engines.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from companion.chat.learned import Learned
from companion.chat.modes import Plan, plan_turn
from companion.chat.prompt import Exchange
from companion.chat.tokens import Calibration
from companion.chat.window import (
    LEAST_TO_THINK,
    QUESTION_TOKENS,
    Profile,
    Window,
    profile_for,
    share_out,
    wanted_tokens,
    window_size,
)
from companion.config import Settings
from companion.domain import ChatRequest, ModelInfo, Preferences, SessionConfig, ThinkingMode

FIRST_SHARE = 0.7
"""Of the room for a prompt, before an engine has counted one of the model: its tokens may be half as
long as is thought, and what is too long is cut without a word. Five passages fit in all the same.
"""
FULL = 8
"""Tokens: so near to the window's size a prompt was cut, or is about to be."""
OVERFLOW = 1.5
"""Times the window: what a prompt is taken for that was cut. If it was less, the next count tells."""
LEAST_READ = 0.7
"""Of our estimate; a prompt that counts less was not read whole."""
STALE_WINDOW_S = 30.0
"""A model that is not loaded and was not used for so long may come back with a smaller window."""

WINDOW_FULL = (
    "The model's window was full, so the beginning of what it was told may be missing; begin a new "
    "conversation, or choose a model with a larger window."
)
READ_LESS = (
    "The model read less than it was told, so the beginning may have been cut off; begin a new "
    "conversation, or choose another model."
)


@dataclass(frozen=True, slots=True)
class Means:
    """What a turn works with, once its model is known."""

    model: ModelInfo
    plan: Plan
    profile: Profile
    window: Window
    calibration: Calibration
    temperature: float
    system_prompt: str
    least_similarity: float
    """Cosine; what is further from the question has nothing to do with it."""

    def saying_at_most(self, tokens: int | None) -> Means:
        """With a shorter answer, in the same window: another one would reload the model."""
        if tokens is None or tokens >= self.window.answer:
            return self
        return replace(self, window=replace(self.window, answer=tokens))


class MeansByModel:
    """Holds nothing of a person."""

    def __init__(self, settings: Settings, learned: Learned) -> None:
        self._settings = settings
        self.learned = learned
        self._calibrations: dict[str, Calibration] = {}
        self._windows: dict[str, tuple[int, float]] = {}

    def of(
        self,
        model: ModelInfo,
        mode: ThinkingMode,
        preferences: Preferences,
        chosen: SessionConfig | Preferences,
        question: str,
        history: Sequence[Exchange],
    ) -> Means:
        profile = profile_for(model, self._settings, preferences.cot_iterations)
        plan = plan_turn(mode, model, profile.passes)
        calibration = self._calibrations.get(model.name) or self._from_before(model, profile)
        told = sum(calibration.tokens(each.question + each.answer) for each in history)
        own = calibration.tokens(chosen.system_prompt)
        wanted = wanted_tokens(profile, plan, chosen.top_k, calibration.tokens(question), told, own)
        num_ctx = self.window_for(model, preferences, wanted)
        if num_ctx < LEAST_TO_THINK:
            plan = replace(plan, passes=())
        window = share_out(num_ctx, profile, plan)
        if not calibration.measured and not profile.small:
            window = replace(window, prompt=int(window.prompt * FIRST_SHARE))
        return Means(
            model,
            plan,
            profile,
            window,
            calibration,
            chosen.temperature,
            chosen.system_prompt,
            preferences.least_similarity / 100,
        )

    def _from_before(self, model: ModelInfo, profile: Profile) -> Calibration:
        length = self.learned.of(model)
        if length is None:
            return Calibration(english=profile.small)
        return Calibration(length, measured=True, english=profile.small)

    def window_for(self, model: ModelInfo, preferences: Preferences, wanted: int = 0) -> int:
        """`num_ctx` of every call to this model: it only grows while the model is loaded."""
        profile = profile_for(model, self._settings, preferences.cot_iterations)
        # Sized for hybrid, whatever the mode: a change of mode shall not reload the model.
        plan = plan_turn(ThinkingMode.HYBRID, model, profile.passes)
        own = Calibration().tokens(preferences.system_prompt)
        usual = wanted_tokens(profile, plan, preferences.top_k, QUESTION_TOKENS, 0, own)
        current, used = self._windows.get(model.name, (0, 0.0))
        if not model.loaded and time.monotonic() - used > STALE_WINDOW_S:
            current = 0
        return window_size(max(usual, wanted), current, profile.max_ctx)

    def remember_window(self, model: ModelInfo, num_ctx: int) -> None:
        self._windows[model.name] = (num_ctx, time.monotonic())

    def learn(self, means: Means, request: ChatRequest, counted: int | None) -> str | None:
        """Compare the engine's count of the prompt with ours; a notice if something was cut off."""
        if not counted:
            return None
        calibration = self._calibrations.get(means.model.name, means.calibration)
        silent = means.model.engine == "ollama"
        less = counted < LEAST_READ * calibration.of_messages(request.messages)
        full = counted >= request.num_ctx - FULL
        if silent and (full or _was_cut(calibration, request, counted)):
            if calibration.may_count(request.messages, counted):
                # What was cut had more tokens than the window; nobody says how many more.
                self._believe(means.model, calibration, request, int(OVERFLOW * request.num_ctx))
            return WINDOW_FULL if full else READ_LESS
        self._believe(means.model, calibration, request, counted)
        if (now := self._calibrations[means.model.name]).measured:
            # Only a whole count: what a cut prompt is taken for ends with this start.
            self.learned.note(means.model, now.chars_per_token)
        # Before the first count it is the estimate that is rough.
        return READ_LESS if silent and less and calibration.measured else None

    def _believe(
        self, model: ModelInfo, calibration: Calibration, request: ChatRequest, counted: int
    ) -> None:
        self._calibrations[model.name] = calibration.learned(request.messages, counted)


def _was_cut(calibration: Calibration, request: ChatRequest, counted: int) -> bool:
    """Whether the count can only be, or may well be, that of a part of the prompt.

    Ollama says nothing when it cuts. Older ones keep half of the window. Newer ones leave out whole
    turns, the oldest first, until the rest fits, so that what is left nearly fills the window.
    """
    thought = calibration.of_messages(request.messages)
    halved = abs(counted - request.num_ctx // 2) <= FULL and (counted < thought or not calibration.measured)
    turns = request.messages[1:-1]
    largest = max((calibration.tokens(each.content) for each in turns), default=0)
    without_turns = counted < LEAST_READ * thought and 0 < request.num_ctx - counted <= 2 * largest
    return halved or without_turns or not calibration.may_count(request.messages, counted)
