"""Text of models, people and documents, made into Markdown that can do no harm.

Knows Markdown as Gradio's Chatbot reads it. It does not know messages or documents. What
comes out loads nothing from elsewhere, holds no HTML but ours, and shows where a link leads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from companion.chat.indented import IndentedCode
from companion.chat.verbatim import MATH, fenced
from companion.ui.texts import text as said

# Blanks are bounded: a hostile text is else looked through again from each of them, for minutes.
_BLANKS = r"\s{0,8}+"
_TITLE = r"(?:\s{1,8}+(?:\"[^\"\n]*\"|'[^'\n]*'))?"


def _destination(name: str) -> str:
    return rf"\({_BLANKS}<?(?P<{name}>[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?{_TITLE}{_BLANKS}\)"


_INLINE = re.compile(
    rf"(?P<math>{MATH})"
    r"|(?P<escape>\\[^\n])"
    r"|(?P<code>(?<!`)(?P<ticks>`+)(?!`)(?P<inside>[^\n]+?)(?<!`)(?P=ticks)(?!`))"
    rf"|!\[(?P<alt>[^\[\]\n]*)\]{_destination('image')}"
    rf"|\[(?P<label>[^\[\]\n]*)\]{_destination('link')}"
    r"|\[(?P<number>\d{1,3})\]"
    r"|(?P<break><br ?/?>)"
    r"|(?P<angle><)"
    r"|(?P<bang>!\[)"
    r"|(?P<join>\](?=[(\[:]))",
    re.DOTALL,
)
_MARGIN = re.compile(r"^(?: {4}| {0,3}\t)", re.MULTILINE)
_OPENABLE = re.compile(r"(?:https?://|mailto:)[^\s<>\\\"'`]+", re.IGNORECASE)
_MARKED = re.compile(r"[<>&\[\]!`*_~|\\$()#]")


def harmless(text: str, chips: Mapping[int, str] | None = None) -> str:
    """Markdown without HTML, images or hidden links; `[n]` becomes `chips[n]` where there is one."""
    parts, lines = [], IndentedCode()
    for code, language in _split(text):
        if language is not None:
            parts.append(_fenced(code, language))
            continue
        for stretch, indented in _stretches(code, lines):
            parts.append(_fenced(_MARGIN.sub("", stretch), "") if indented else _prose(stretch, chips or {}))
    return "\n".join(parts)


def literal(text: str) -> str:
    """The text as it stands, for a place where Markdown is read."""
    return _MARKED.sub(lambda found: f"&#{ord(found[0])};", text)


def _split(text: str) -> list[tuple[str, str | None]]:
    """Stretches of prose (language None) and of fenced code, in order."""
    parts: list[tuple[str, str | None]] = []
    here = 0
    for block in fenced(text):
        before = text[here : block.start].splitlines()
        item = [block.fence.item] if block.fence.item else []
        parts += [("\n".join(before + item), None), (block.code, block.fence.info)]
        here = block.stop
    parts.append(("\n".join(text[here:].splitlines()), None))
    return [part for part in parts if part[0] or part[1] is not None]


def _stretches(text: str, lines: IndentedCode) -> list[tuple[str, bool]]:
    """Stretches of prose and of code that is set in, in order. Empty lines within code are of it."""
    found: list[tuple[str, bool]] = []
    for line in text.split("\n"):
        code = lines.takes(line)
        if code and len(found) > 1 and found[-2][1] and not found[-1][0].strip():
            empty, _ = found.pop()
            line = f"{empty}\n{line}"
        if found and found[-1][1] is code:
            line = f"{found.pop()[0]}\n{line}"
        found.append((line, code))
    return found


def _fenced(code: str, language: str) -> str:
    """Code at the left margin between fences longer than any in it.

    Only there is it certain that Gradio's reader takes it for code too. Diagrams are shown as
    their source: drawing them would read HTML again.
    """
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    name = re.sub(r"[^A-Za-z0-9+#-].*", "", language.strip())
    name = "text" if name.lower() == "mermaid" else name
    return f"\n{ticks}{name}\n{code}\n{ticks}\n"


def _prose(text: str, chips: Mapping[int, str]) -> str:
    return _INLINE.sub(lambda found: _inline(found, chips), text)


def _inline(found: re.Match[str], chips: Mapping[int, str]) -> str:
    match found.lastgroup:
        case "math":
            return found[0].replace("<", r"\lt ").replace("![", "! [").replace("](", "] (")
        case "escape":
            return "&lt;" if found[0] == r"\<" else found[0]
        case "image":
            return _image(found["alt"], found["image"])
        case "number":
            return chips.get(int(found["number"]), literal(found[0]))
        case "link":
            label, address = found["label"], found["link"]
            # A citation and words in brackets behind it.
            chip = chips.get(int(label)) if re.fullmatch(r"\d{1,3}", label) else None
            return f"{chip}{literal(f'({address})')}" if chip else _link(label, address)
        case "break":
            return "<br>"
        case "angle":
            return "&lt;"
        case "bang":
            return "!&#91;"
        case "join":
            return "&#93;"
        case _:
            return _code(found[0], found["inside"])


def _code(span: str, inside: str) -> str:
    if re.search(r"[<\[\]!&]", inside):
        return f"<code>{literal(inside)}</code>"
    return span


def _image(alt: str, address: str) -> str:
    left_out = literal(said("markdown.left_out", address=address))
    return f"{literal(alt or said('markdown.image'))} <small>({left_out})</small>"


def _link(label: str, address: str) -> str:
    if not _OPENABLE.fullmatch(address):
        return f"{literal(label)} ({literal(address)})"
    if label in (address, address.removeprefix("mailto:")):
        return f"[{literal(label)}](<{address}>)"
    return f"[{literal(label)}](<{address}>) <small>({literal(address)})</small>"
