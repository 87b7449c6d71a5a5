"""Text of documents as it may stand in a prompt: seen as a whole, and nothing but data.

Knows what closes our fence, looks like our numbers, or is a sign of a chat template, which engines
read as such wherever it stands. It does not know prompts.
"""

from __future__ import annotations

import re

from companion.library.readers.cleaning import without_unseen

_OPEN, _CLOSE = "<\uff1c\u2039\u3008", ">\uff1e\u203a\u3009"
"""Also the wide and the pointed ones, which a model takes for the same."""
_FENCE = re.compile(
    rf"[{_OPEN}](\s{{0,9}}[/\uff0f]?\s{{0,9}}passages\b)(?:([^{_OPEN}{_CLOSE}]{{0,40}})[{_CLOSE}])?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[\[\u3010](\s{0,3}\d{1,2}(?:\s{0,3}[,;\u2013-]\s{0,3}\d{1,2}){0,20}\s{0,3})[\]\u3011]")
_TEMPLATE = re.compile(
    r"<([|\uff5c][^<>|\uff5c\s][^<>|\uff5c\n]{0,39}[|\uff5c])>"
    r"|<(/?(?:s|bos|eos|start_of_turn|end_of_turn|think|tool_call|tool_response))>"
    r"|<<(/?SYS)>>"
    r"|\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK))\]",
    re.IGNORECASE,
)
"""As of ChatML, Llama, Gemma, Mistral, Phi, DeepSeek and Qwen."""


def harmless(text: str) -> str:
    """Nothing unseen, and what could be taken for a part of the prompt in round brackets."""
    text = _FENCE.sub(r"(\1\2)", without_unseen(text))
    text = _TEMPLATE.sub(lambda found: f"({found[found.lastindex or 0]})", text)
    return _NUMBER.sub(r"(\1)", text)
