"""Windows: a text in overlapping pieces that an embedder can read whole.

Knows a tokenizer and a limit. It does not know models: the pieces are the same wherever the
embedder runs, here or in a child.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from companion.errors import EmbedderError
from companion.tuning import WINDOW_OVERLAP


class Windows:
    """Cuts texts for one embedder. Safe to call from several threads."""

    def __init__(self, tokenizer: Path, *, name: str, prompt: str, max_tokens: int) -> None:
        """`tokenizer`: its tokenizer.json. `prompt` stands before each piece; `max_tokens` counts it
        and the special tokens. Raises EmbedderError when there is none, or none that is whole."""
        if not tokenizer.is_file():
            raise EmbedderError(f"The embedder {name} has no {tokenizer.name}: choose another.")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:
            # Its Rust part raises nothing more precise.
            raise EmbedderError(
                f"The {tokenizer.name} of the embedder {name} cannot be read: fetch the embedder again."
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._prompt, self._max_tokens = prompt, max_tokens
        self._budget = max_tokens - len(self._tokenizer.encode(prompt).ids)
        if self._budget < 1:
            raise EmbedderError(f"The prompt of the embedder {name} leaves no room for text.")

    def of(self, text: str) -> list[str]:
        """At least one piece; together they hold every character."""
        if self._fits(text):
            return [text]
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        offsets, words = encoding.offsets, encoding.word_ids
        # The last window reaches to the end, the first from the beginning, each to the next token:
        # so that no character is left out, not even one that the tokenizer drops.
        starts = [0, *(start for start, _ in offsets[1:]), len(text)]
        count, first, pieces = len(offsets), 0, []
        while True:
            end = min(first + self._budget, count)
            if end < count:
                end = _word_border(words, end, lowest=first + self._budget // 2)
            while end > first + 1 and not self._fits(text[starts[first] : starts[end]]):
                end -= 1
            pieces.append(text[starts[first] : starts[end]])
            if end == count:
                return pieces
            overlap = int((end - first) * WINDOW_OVERLAP)
            first = _word_border(words, end - overlap, lowest=max(first + 1, end - 2 * overlap))

    def _fits(self, text: str) -> bool:
        return len(self._tokenizer.encode(self._prompt + text).ids) <= self._max_tokens


def _word_border(words: Sequence[int | None], position: int, *, lowest: int) -> int:
    """The nearest token at or before `position` that begins a word; `position` if there is none."""
    for candidate in range(position, lowest - 1, -1):
        if words[candidate] is None or words[candidate] != words[candidate - 1]:
            return candidate
    return max(position, lowest)
