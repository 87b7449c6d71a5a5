"""A passage as it is read: headings, lists, tables and code where its document has them.

Knows Markdown's structure, and where in it a quotation stands. It does not know panels. What
comes out is escaped text in a few bare tags: no HTML of a document, nothing that loads or leads
anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from markdown_it import MarkdownIt
from markdown_it.token import Token

from companion.ui.texts import html_text
from companion.words import is_spaceless, size_of, words_in

MARKED = frozenset({"markdown", "notebook"})
"""Source types whose passages are Markdown; of others, the lines are kept as they are."""

_HEADINGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6", "h6": "h6"}
"""The panel has the headings above."""
_BLOCKS = frozenset("p ul ol li blockquote table thead tbody tr th td".split())
_WITHIN = frozenset("strong em s".split())
_BREAKS = ("softbreak", "hardbreak")
_READER = MarkdownIt("commonmark", {"html": False, "maxNesting": 20}).enable(["table", "strikethrough"])
_SHORTEST_QUOTATION = 3
"""Words."""

Span = tuple[int, int]


def passage_text(text: str, source_type: str, quoted: Sequence[str] = ()) -> str:
    """The text as HTML, with what is `quoted` of it marked wherever it stands word by word."""
    if source_type not in MARKED:
        return f'<p class="lc-plain">{_marked(text, 0, _spans(text, quoted))}</p>'
    return "".join(_block(token, quoted) for token in _READER.parse(text))


def _block(token: Token, quoted: Sequence[str]) -> str:
    match token.type:
        case "inline":
            return "".join(_line(token.children or [], quoted))
        case "fence" | "code_block":
            code = token.content.rstrip("\n")
            return f'<pre tabindex="0"><code>{_marked(code, 0, _spans(code, quoted))}</code></pre>'
        case "hr":
            return "<hr>"
    tag = _HEADINGS.get(token.tag, token.tag)
    if token.hidden or not (token.tag in _HEADINGS or tag in _BLOCKS):
        return ""
    if token.nesting < 0:
        return f"</{tag}>"
    start = token.attrGet("start")
    return f'<{tag} start="{start}">' if isinstance(start, int) else f"<{tag}>"


def _line(parts: Sequence[Token], quoted: Sequence[str]) -> Iterator[str]:
    spans = _spans("".join(map(_said, parts)), quoted)
    at, address = 0, ""
    for part in parts:
        said = _said(part)
        match part.type:
            case "text" | "softbreak":
                yield _marked(said, at, spans)
            case "hardbreak":
                yield "<br>"
            case "code_inline":
                yield f"<code>{_marked(said, at, spans)}</code>"
            case "image":
                left_out = html_text("markdown.left_out", address=str(part.attrGet("src")))
                yield f"{escape(part.content) or html_text('markdown.image')} <small>({left_out})</small>"
            case "link_open":
                # An address in angle brackets is its own text.
                address = "" if part.markup == "autolink" else str(part.attrGet("href"))
            case "link_close" if address:
                yield f" <small>({escape(address)})</small>"
            case _ if part.tag in _WITHIN:
                yield f"</{part.tag}>" if part.nesting < 0 else f"<{part.tag}>"
        at += len(said)


def _said(part: Token) -> str:
    if part.type in _BREAKS:
        return " "
    return part.content if part.type in ("text", "code_inline") else ""


def _spans(text: str, quoted: Sequence[str]) -> list[Span]:
    """Where quotations stand, in order and apart from each other; case and line ends do not matter."""
    found = sorted(match.span() for words in quoted for match in _finder(words).finditer(text))
    spans: list[Span] = []
    for start, end in found:
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def _finder(quotation: str) -> re.Pattern[str]:
    words = quotation.split()
    size = size_of(words_in(quotation)) if is_spaceless(quotation) else len(words)
    if size < _SHORTEST_QUOTATION:
        return re.compile(r"(?!)")
    return re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)


def _marked(text: str, at: int, spans: Sequence[Span]) -> str:
    """`text`, which begins at `at`, with its share of the spans marked."""
    parts, done = [], 0
    for start, end in spans:
        start, end = max(start - at, done), min(end - at, len(text))
        if start < end:
            parts += [escape(text[done:start]), f"<mark>{escape(text[start:end])}</mark>"]
            done = end
    return "".join(parts) + escape(text[done:])
