"""What is known of a turn so far; it becomes the stored answer, however the turn ends.

Knows the events of a turn and how an answer is settled. It does not know engines, searches or stores.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo

from companion.chat.citations import CitationStream, match_sentences
from companion.chat.notes import repetition
from companion.chat.prompt import Exchange, Packed
from companion.domain import (
    Message,
    MessageState,
    ModelInfo,
    Notice,
    Retrieved,
    Role,
    SessionConfig,
    Source,
    ThinkingMode,
    Thought,
    Token,
    TurnEvent,
    Usage,
)


@dataclass(slots=True)
class Turn:
    """What is known of a turn so far; becomes the stored answer, however the turn ends."""

    owner: str
    question: Message
    mode: ThinkingMode
    config: SessionConfig
    started: float
    replaces: Message | None = None
    zone: tzinfo | None = None
    before: tuple[Message, ...] | None = None
    """What was said before, in a conversation that is kept nowhere; None: it is stored."""
    answer_tokens: int | None = None
    model: ModelInfo | None = None
    listed: bool = False
    """Answered from the library's list; no model was asked."""
    history: list[Exchange] = field(default_factory=list)
    citations: CitationStream = field(default_factory=lambda: CitationStream(()))
    packed: Packed | None = None
    sources: tuple[Source, ...] = ()
    searched_for: str | None = None
    content: str = ""
    thinking: str = ""
    notices: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    state: MessageState = MessageState.COMPLETE
    first_thought: float | None = None

    def keep(self, event: TurnEvent) -> None:
        match event:
            case Retrieved():
                self.sources = event.sources
                self.searched_for = event.searched_for
                self.usage = replace(self.usage, search_ms=event.took_ms)
            case Thought():
                self.first_thought = self.first_thought or time.monotonic()
                self.thinking += event.text
            case Token():
                self._keep_token(event)
            case Notice():
                self.notices.append(event.text)

    def _keep_token(self, token: Token) -> None:
        if self.usage.first_token_ms is None:
            self.end_thinking()
            self.usage = replace(self.usage, first_token_ms=ms_since(self.started))
        self.content += token.text

    def end_thinking(self) -> None:
        if self.first_thought is not None and self.usage.thinking_ms is None:
            self.usage = replace(self.usage, thinking_ms=ms_since(self.first_thought))

    @property
    def earlier_stays(self) -> bool:
        """Whether the answer that was there before is worth more than this one."""
        if self.replaces is None or (self.content.strip() and self.state is not MessageState.FAILED):
            return False
        nothing_to_lose = not (self.replaces.content or self.replaces.thinking).strip()
        return not (self.state is MessageState.FAILED and nothing_to_lose)

    @property
    def answered_by(self) -> str | None:
        if self.listed:
            return None
        return self.model.name if self.model else self.config.model_name

    def as_message(self) -> Message:
        """The answer as it would be stored, for a conversation that is kept nowhere."""
        return Message(
            message_id=self.question.message_id + 1,
            session_id=self.question.session_id,
            role=Role.ASSISTANT,
            content=self.content,
            created_at=datetime.now(UTC),
            state=self.state,
            mode=self.mode,
            model=self.answered_by,
            thinking=self.thinking,
            sources=self.sources,
            notices=tuple(self.notices),
            usage=self.usage,
            searched_for=self.searched_for,
        )

    def cut_repetition(self) -> None:
        self.content += self.citations.close()
        self.content = self.content[: len(self.content) - repetition(self.content)].rstrip()

    def close(self) -> None:
        """Settle text and sources; also after a stop or a failure."""
        self.end_thinking()
        self.content += self.citations.close()
        cited = set(self.citations.used)
        matched: set[int] = set()
        if self.packed and self.packed.shown:
            found = match_sentences(
                self.content, {each.number: each.hit.passage.text for each in self.packed.shown}, cited
            )
            self.content, matched = found.text, set(found.numbers)
        self.sources = tuple(
            replace(each, cited=each.number in cited | matched, matched=each.number in matched)
            for each in self.sources
        )


def ms_since(moment: float) -> float:
    return (time.monotonic() - moment) * 1000
