"""A conversation as a file to keep: Markdown to read, JSON with everything that is stored.

Pure: values in, text out. It does not know stores or downloads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from companion.chat.prompt import place_words
from companion.chat.verbatim import LEADING
from companion.domain import Message, MessageState, Role, Session, SessionConfig, Source

ExportKind = Literal["markdown", "json"]

FORMAT = 1
"""Of the JSON; counts up when a reader of the old one would be misled."""
UNTITLED = "Conversation"
LONGEST_NAME = 80
"""Characters of a file's name, before its ending."""

_STATES = {
    MessageState.STOPPED: "This answer was stopped; it ends where it was.",
    MessageState.FAILED: "This answer failed; it ends where it broke off.",
}
_FENCE = re.compile(r"(?P<fence>`{3,}|~{3,})(?P<info>.*)")
_INNER_FENCE = re.compile(rf"{LEADING}+(?:`{{3}}|~{{3}})")
_HEADING = re.compile(r"(?m)^ {0,3}(#{1,6})(?=\s)")
_UNDERLINE = re.compile(r"(?m)^( {0,3})(?==+[ \t]*$)")
_CODE_OR_TAG = re.compile(
    r"(?<![`\\])(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)|<(?=[A-Za-z/!?])", re.DOTALL
)
_FOLDING_TAG = re.compile(r"<(?=[!?]|/?(?:details|summary)\b)", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*\[\]<>|])")
_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|]')


@dataclass(frozen=True, slots=True)
class Export:
    """A file to download."""

    file_name: str
    media_type: str
    text: str


def export(session: Session, config: SessionConfig, messages: Sequence[Message], kind: ExportKind) -> Export:
    """The whole conversation in one file, named after its title."""
    name = _file_name(session.title)
    if kind == "json":
        return Export(f"{name}.json", "application/json", as_json(session, config, messages))
    return Export(f"{name}.md", "text/markdown", as_markdown(session, config, messages))


def as_json(session: Session, config: SessionConfig, messages: Sequence[Message]) -> str:
    """All fields, times in ISO 8601. Without the owner: in a file that is passed on it is nobody's
    business, and visitors are known by it.
    """
    about = {name: value for name, value in asdict(session).items() if name != "owner"}
    whole = {
        "format": FORMAT,
        "session": about,
        "config": asdict(config),
        "messages": [asdict(message) for message in messages],
    }
    return json.dumps(whole, ensure_ascii=False, indent=2, default=datetime.isoformat) + "\n"


def as_markdown(session: Session, config: SessionConfig, messages: Sequence[Message]) -> str:
    """To read and to pass on: questions as quotations, answers as they were written."""
    about = (_minute(session.created_at), config.model_name, config.thinking_mode.value)
    blocks = [f"# {_inline(session.title or UNTITLED)}", _aside(about)]
    for message in messages:
        blocks += _question(message) if message.role is Role.USER else _answer(message)
    return "\n\n".join(block for block in blocks if block) + "\n"


# --- one message --------------------------------------------------------------------------


def _question(message: Message) -> Iterator[str]:
    yield "## Question"
    yield _aside((_minute(message.created_at),))
    yield _quoted(_without_tags(message.content))


def _answer(message: Message) -> Iterator[str]:
    yield "## Answer"
    yield _aside((_minute(message.created_at), message.model, message.mode and message.mode.value))
    if message.thinking.strip():
        yield f"<details>\n<summary>Thinking</summary>\n\n{_fenced(message.thinking)}\n\n</details>"
    yield _contained(message.content)
    if message.state in _STATES:
        yield f"**{_STATES[message.state]}**"
    yield "\n".join(f"- Notice: {_inline(notice)}" for notice in message.notices)
    if message.searched_for:
        yield f"- Searched for: {_inline(message.searched_for)}"
    if message.sources:
        yield "### Sources"
        yield "\n".join(_source(source) for source in message.sources)


def _source(source: Source) -> str:
    where = ", ".join(filter(None, (source.document_name, place_words(source.place))))
    used = " (matched afterwards)" if source.matched else " (cited)" if source.cited else ""
    return f"- \\[{source.number}\\] {_inline(where)}{used}"


def _aside(parts: Sequence[str | None]) -> str:
    return f"*{' · '.join(_inline(part) for part in parts if part)}*"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# --- texts that come from people, documents and models --------------------------------------


def _inline(text: str) -> str:
    """One line that is only text, whatever stands in it."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _quoted(text: str) -> str:
    """Whatever is left open in a quotation ends with it."""
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _fenced(text: str) -> str:
    """Word for word, behind a fence longer than any inside."""
    longest = max(map(len, re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"


def _contained(text: str) -> str:
    """An answer's own Markdown, so that what follows it stays outside: its headings below ours, no
    HTML, no fence left open. Where fences stand inside lists or quotations, the answer is quoted.
    """
    blocks: list[str] = []
    plain: list[str] = []
    fence = ""
    for line in text.strip().splitlines():
        mark = _FENCE.match(line)
        if fence:
            blocks[-1] += f"\n{line}"
            if mark and mark["fence"].startswith(fence) and not mark["info"].strip():
                fence = ""
        elif mark and not (line.startswith("`") and "`" in mark["info"]):
            blocks += ["\n".join(plain), line]
            plain, fence = [], mark["fence"]
        elif _INNER_FENCE.match(line):
            return _quoted(_without_tags(text))
        else:
            plain.append(line)
    if fence:
        blocks[-1] += f"\n{fence}"
    blocks.append("\n".join(plain))
    # Texts and fences take turns, a text first.
    return "\n".join(
        block if place % 2 else _below_ours(_without_tags(block)) for place, block in enumerate(blocks)
    ).strip("\n")


def _without_tags(text: str) -> str:
    """HTML as text. In code it is text already, but what folds or hides is taken no risk with."""
    return _CODE_OR_TAG.sub(lambda found: _FOLDING_TAG.sub("&lt;", found[0]) if found[1] else "&lt;", text)


def _below_ours(text: str) -> str:
    deeper = _HEADING.sub(lambda found: "#" * min(len(found[1]) + 2, 6), text)
    return _UNDERLINE.sub(r"\1\\", deeper)


def _file_name(title: str | None) -> str:
    """A name that every file system takes."""
    words = " ".join(_NOT_IN_NAMES.sub(" ", title or "").split())
    return "".join(filter(str.isprintable, words)).strip(". ")[:LONGEST_NAME].strip(". ") or UNTITLED
