"""How well follow-ups of conversations over the sample library are found, and in which words."""

import asyncio
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

from companion.chat.followup import condense_messages, condensed, leans_on_history, with_topic
from companion.config import Settings
from companion.domain import ChatRequest, Token
from companion.embedding import load_embedder
from companion.inference.builtin import Builtin
from companion.inference.weights import builtin_gguf
from tests import conversations
from tests.conversations import Score, talks

HISTORY = (conversations.Exchange("A question?", "An answer."),)


class Rewriting:
    """The program's way with a model, whatever that is worth."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.said = Counter()

    def __call__(self, turn, history) -> str:
        if not leans_on_history(turn.question, history):
            return turn.question
        rewritten = condensed(self.answer(condense_messages(turn.question, history)))
        self.said[
            "unusable" if rewritten is None else "repeated" if rewritten == turn.question else "new"
        ] += 1
        return rewritten or with_topic(turn.question, history)

    @cache  # noqa: B019 lives as long as the measurement
    def answer(self, messages) -> str:
        return asyncio.run(self._answer(messages))

    async def _answer(self, messages) -> str:
        (model,) = await self.engine.models()
        request = ChatRequest(model.name, messages, 4096, 64, temperature=0.0)
        return "".join([p.text async for p in self.engine.stream(request) if isinstance(p, Token)])


def line(name: str, found: dict[str, Score]) -> str:
    parts = [f"{what}: {each.recall:.3f} / {each.mrr:.3f} ({each.questions})" for what, each in found.items()]
    return f"{name}: recall@5 / MRR of follow-ups: {'; '.join(parts)}"


def run() -> list[str]:
    folder = Path(tempfile.mkdtemp())
    settings = Settings(data_dir=folder / "data")
    engine = Builtin(lambda: builtin_gguf(settings))
    rewriting = Rewriting(engine)
    ways = {
        "the raw question": conversations.raw,
        "always after the last question": conversations.concatenated,
        "ours without a model": conversations.ours,
        "rewritten by hand": conversations.by_hand,
    }
    tuned, other = ([talk for talk in talks() if talk.tuned_on is which] for which in (True, False))
    lines = []
    with conversations.sample_library(folder, load_embedder(settings.embed_light, settings)) as library:
        for name, way in ways.items():
            found = {
                "tuned on": conversations.score(library, tuned, way),
                "held out": conversations.score(library, other, way),
                "all later questions": conversations.score(library, talks(), way, all_later=True),
            }
            lines.append(line(name, found))
        # The model takes seconds for each.
        third = talks()[::3]
        for name, way in (
            ("ours without a model", conversations.ours),
            ("rewritten by the built-in", rewriting),
        ):
            lines.append(line(name, {"each third": conversations.score(library, third, way)}))
    asyncio.run(engine.close())
    whole, leaning = conversations.whole_questions(), conversations.follow_ups()
    needless = sum(leans_on_history(each, HISTORY) for each in whole)
    missed = sum(not leans_on_history(each, HISTORY) for each in leaning)
    lines.append(f"needlessly rewritten: {needless} of {len(whole)} questions that stand by themselves")
    lines.append(f"searched as they are: {missed} of {len(leaning)} follow-ups")
    lines.append(f"what the built-in model says: {dict(rewriting.said)}")
    return lines
