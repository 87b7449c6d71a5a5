"""Chat completions as OpenAI's clients ask for them: models, answers whole or in chunks.

A conversation is the client's: it comes with each request and is kept nowhere here, so nobody can
come back to an answer, and it ends when the client leaves. It does not know how an answer comes
about.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from companion.api.access import CompanionOf, OwnerOf
from companion.api.compatible_errors import UnknownModel, UnsupportedParameter, body_of
from companion.api.events import EVENTS, MEDIA_TYPE
from companion.api.schemas import completions as shapes
from companion.api.schemas.messages import Source
from companion.app import Companion
from companion.chat.passing import asked_in_passing
from companion.chat.runs import Run
from companion.domain import Message, MessageState, Role, SessionConfig, ThinkingMode, Thought, Token
from companion.errors import CompanionError, Conflict, EngineError, ModelMissing

router = APIRouter(tags=["chat completions"])

_NAME = re.compile(f"companion/({'|'.join(ThinkingMode)})(?::(.+))?", re.DOTALL)
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer; with `stream` as server-sent events, each a chunk, `[DONE]` last",
        "content": EVENTS,
    }
}
STOPPED = "The answer was stopped before it was whole, because LLM Companion is closing."
FAILED = "The model failed; ask again."


@router.get("/models")
async def models(request: Request, companion: CompanionOf) -> shapes.ModelCards:
    """Each chat model in each thinking mode."""
    began = request.app.state.began
    return shapes.ModelCards(
        data=[
            shapes.ModelCard(id=f"companion/{mode}:{model.name}", created=began, owned_by=model.engine)
            for model in await companion.catalog.models()
            for mode in ThinkingMode
        ]
    )


@router.get("/models/{name:path}")
async def model(request: Request, companion: CompanionOf, name: str) -> shapes.ModelCard:
    """One of them."""
    mode, chosen = await _meant(companion, name)
    found = await companion.catalog.info(chosen) if chosen else await companion.catalog.default()
    return shapes.ModelCard(
        id=name if chosen is None else f"companion/{mode}:{found.name}",
        created=request.app.state.began,
        owned_by=found.engine,
    )


@router.post("/chat/completions", response_model=shapes.ChatCompletion, responses=_STREAM)
async def complete(
    request: Request, companion: CompanionOf, owner: OwnerOf, wish: shapes.ChatCompletionRequest
) -> Response | shapes.ChatCompletion:
    """Answer the last message. Whoever leaves stops the model."""
    if name := wish.refused():
        raise UnsupportedParameter(f"`{name}` is not supported with this value; leave it out.", name)
    config = await _config(companion, owner, wish)
    said = [(_ROLES[each.role], each.text) for each in wish.messages if each.role in _ROLES]
    run = companion.runs.answer_in_passing(owner, asked_in_passing(config, said, wish.answer_tokens))
    telling = Telling(run, wish)
    if wish.stream:
        return StreamingResponse(
            telling.events(), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"}
        )
    async with _stopped_when_gone(request, run):
        return await telling.whole()


async def _meant(companion: Companion, name: str) -> tuple[ThinkingMode, str | None]:
    """Mode and model of a name; None: the model that would answer in a new conversation."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UnknownModel(f"There is no model named {name}; GET /v1/models lists all of them.")
    if found[2]:
        try:
            await companion.catalog.info(found[2])
        except ModelMissing as error:
            raise UnknownModel(error.message) from error
    return ThinkingMode(found[1]), found[2]


async def _config(companion: Companion, owner: str, wish: shapes.ChatCompletionRequest) -> SessionConfig:
    mode, chosen = await _meant(companion, wish.model)
    told = "\n\n".join(each.text for each in wish.messages if each.role not in _ROLES)
    wishes = {"model_name": chosen, "temperature": wish.temperature, "system_prompt": told or None}
    given = {name: value for name, value in wishes.items() if value is not None}
    return await companion.sessions.new_config(owner, thinking_mode=mode, **given)


@asynccontextmanager
async def _stopped_when_gone(request: Request, run: Run) -> AsyncIterator[None]:
    """Stop the model when the client does not wait for the answer any more."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        run.stop()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


class Telling:
    """One answer on its way to a client."""

    def __init__(self, run: Run, wish: shapes.ChatCompletionRequest) -> None:
        self._run = run
        self._id = f"chatcmpl-{run.run_id}"
        self._created = int(time.time())
        self._model = wish.model
        self._with_usage = bool(wish.stream_options and wish.stream_options.include_usage)

    async def whole(self) -> shapes.ChatCompletion:
        """Raises why there is no whole answer."""
        async with aclosing(self._run.follow()) as events:
            async for _ in events:
                pass
        message = self._message()
        said = shapes.SaidMessage(
            content=message.content,
            reasoning_content=message.thinking or None,
            sources=_sources(message),
            notices=message.notices,
        )
        return shapes.ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[shapes.Choice(message=said, finish_reason=_finish(message))],
            usage=_usage(message),
        )

    async def events(self) -> AsyncGenerator[str]:
        """Server-sent events; an error in the middle becomes the last one."""
        try:
            yield self._part(shapes.Delta(role="assistant", content=""))
            async with aclosing(self._run.follow()) as events:
                async for _, event in events:
                    if isinstance(event, Token):
                        yield self._part(shapes.Delta(content=event.text))
                    elif isinstance(event, Thought):
                        yield self._part(shapes.Delta(reasoning_content=event.text))
            message = self._message()
            last = shapes.Delta(sources=_sources(message), notices=message.notices)
            yield self._part(last, _finish(message))
            if self._with_usage:
                yield self._event([], _usage(message))
            yield "data: [DONE]\n\n"
        except CompanionError as error:
            yield f"data: {json.dumps(body_of(error)[1])}\n\n"
        finally:
            # Nobody else can follow it.
            self._run.stop()

    def _part(self, delta: shapes.Delta, finish: shapes.Finish | None = None) -> str:
        return self._event([shapes.ChunkChoice(delta=delta, finish_reason=finish)])

    def _event(self, choices: list[shapes.ChunkChoice], usage: shapes.TokenUsage | None = None) -> str:
        chunk = shapes.ChatCompletionChunk(
            id=self._id, created=self._created, model=self._model, choices=choices, usage=usage
        )
        value = chunk.model_dump(mode="json")
        for choice in value["choices"]:
            # Clients take a field that is there for news.
            choice["delta"] = {name: part for name, part in choice["delta"].items() if part is not None}
        return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"

    def _message(self) -> Message:
        """Raises why there is no whole answer."""
        message = self._run.answer
        if message is None:
            raise self._run.error or Conflict(STOPPED)
        if message.state is MessageState.STOPPED:
            raise Conflict(STOPPED)
        if message.state is MessageState.FAILED:
            raise EngineError(message.notices[-1] if message.notices else FAILED)
        return message


def _sources(message: Message) -> tuple[Source, ...]:
    return tuple(Source.model_validate(source) for source in message.sources)


def _finish(message: Message) -> shapes.Finish:
    return "length" if message.usage.ended == "length" else "stop"


def _usage(message: Message) -> shapes.TokenUsage:
    asked, answered = message.usage.prompt_tokens or 0, message.usage.answer_tokens or 0
    return shapes.TokenUsage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)
