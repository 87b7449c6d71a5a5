"""How many tokens a text costs a model: an estimate that learns from what the engine counts.

Pure: texts and numbers. It does not know models, windows or prompts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from companion.domain import PromptMessage

MESSAGE_TOKENS = 8
"""What a chat template puts around a message."""
FEWEST_COUNTED = 50
"""Of a shorter prompt the template says more than the text."""
SHORTEST, LONGEST = 1.0, 8.0
"""Characters per token of any tokenizer: of bytes, and of whole words."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How long a token of a model is; learned from what the engine counts."""

    chars_per_token: float = 3.5
    measured: bool = False
    """An engine has counted a prompt of the model."""
    english: bool = False
    """Its tokenizer was made for English alone, as those of the smallest models are."""

    def tokens(self, text: str) -> int:
        return math.ceil(self._weight(text) / self.chars_per_token)

    def of_messages(self, messages: Sequence[PromptMessage]) -> int:
        return sum(self.tokens(message.content) + MESSAGE_TOKENS for message in messages)

    def learned(self, messages: Sequence[PromptMessage], counted: int) -> Calibration:
        """Shorter tokens are believed at once, longer ones half way: to think a prompt longer than
        it is costs a passage, to think it shorter costs the beginning of the prompt.
        """
        tokens = counted - MESSAGE_TOKENS * len(messages)
        if tokens < FEWEST_COUNTED:
            return self
        found = sum(self._weight(message.content) for message in messages) / tokens
        length = min(found, (self.chars_per_token + found) / 2)
        return Calibration(min(max(length, SHORTEST), LONGEST), True, self.english)

    def may_count(self, messages: Sequence[PromptMessage], counted: int) -> bool:
        """Whether there are tokenizers that make so few tokens of these messages."""
        return counted * LONGEST >= sum(self._weight(message.content) for message in messages)

    def characters(self, tokens: int, text: str) -> int:
        """How much of `text` fits into so many tokens."""
        weight = self._weight(text)
        if weight <= tokens * self.chars_per_token:
            return len(text)
        return max(int(tokens * self.chars_per_token * len(text) / weight), 0)

    def _weight(self, text: str) -> float:
        return _weight(text) * _foreign(text) + _signs(text) if self.english else _weight(text)


_WIDE = re.compile("[\u2e80-\U0010ffff]+")
_FOREIGN = re.compile(r"[^\W\d_a-zA-Z]")


def _weight(text: str) -> float:
    """Characters, counted as often as they cost tokens: one of Chinese is about a token, and a digit
    is one in many models.
    """
    digits = 1.5 * sum(map(text.count, "0123456789"))
    if text.isascii():
        return len(text) + digits
    wide = len(text) - len(_WIDE.sub("", text))
    narrow = len(text.encode("ascii", "ignore"))
    return narrow + 1.75 * (len(text) - narrow - wide) + 3.5 * wide + digits


def _foreign(text: str) -> float:
    """What another language costs more where the tokenizer was made for English. Measured with that
    of SmolLM2: German 1.5, Russian 1.8, Chinese and Arabic 2.1 times.
    """
    foreign = len(_FOREIGN.findall(text)) if not text.isascii() else 0
    return 2.1 if foreign * 100 > len(text) else 1.0


def _signs(text: str) -> float:
    """Of programs and tables nearly every sign is a token there."""
    return 1.5 * sum(map(text.count, "0123456789.,-()[]{}<>=/|*_:;\"'`"))
