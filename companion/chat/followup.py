"""Follow-up questions: which ones lean on the conversation, and in what words they are searched for.

Pure: questions and turns in, questions and prompts out. It does not know models, searches or stores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from companion.chat.prompt import Exchange
from companion.domain import PromptMessage
from companion.library.ranking import STOP_WORDS
from companion.words import MARKS

LONGEST_FOLLOW_UP = 40
"""A question of more words than this stands by itself."""
LONGEST_FOLLOW_UP_TEXT = 1000
"""Characters; the same, without counting words."""
LONGEST_CONTINUATION = 6
"""Words after an “and”: with more of them it names what it is about."""
LONGEST_FRAGMENT = 4
"""Words of a question without a verb, such as “on another port?”."""
TOPIC_TERMS = 24
"""Words of the conversation that a search is helped with."""
LONGEST_REWRITING = 400
"""Characters; a model that writes more does not rewrite."""

_CONDENSE = (
    "Rewrite the person's last question so that it can be understood without the conversation: put the "
    "things themselves in the place of words that point back to them. Keep its language and its meaning, "
    "and do not answer it. If it can be understood already, repeat it as it is. "
    "Write only the rewritten question."
)

# --- English first, then the commonest words of some other languages ----------------------

_POINTING = re.compile(
    r"""\b(?:
      it|its|they|them|their|theirs|he|him|his|she|her|hers|these|those|former|latter
    | same(?=\W*$|\s+(?:thing|way|for|with|in|on|true|case|go|goes|appl(?:y|ies))\b)
    | else(?=\W*$|\s+(?:can|could|should|do|does)\b)
    | this(?!\s+(?:program|app|application|computer|machine|library|page|version|chat|year|month|week)\b|\s*:)
    | (?:is|are|was|were|does|did|do|can|could|will|would|should|has|have|how|why|when|where|what|if|about|
         with|for|of|like|than|by|after|before|without|from|to|on|in|at)
      \s+that(?!\s+(?:an?|the|my|your|i|you|we|there)\b)
    | (?:that|there|then|instead|meanwhile|otherwise|afterwards?|too|either|so\sfar)(?=\W*$)
    | that(?=\s+(?:again|too|now|then|here|by)\b) | ones?(?=\s*(?:$|[?.!,;]))
    | (?:which|that|this|another|an?\s\w+|the(?:\s\w+)?|old|new|other)\s+ones?\b(?!\s+(?:of|that|which|who)\b)
    | the\s+(?:first|second|third|last|next|others?|rest|two|both)(?=\W*$)
    | the\s+(?:first|second|third|fourth|fifth|last|next|other)
      \s+(?:points?|parts?|steps?|options?|reasons?|items?|things?|sentences?|paragraphs?|bullets?)
      (?!\s+(?:of|to|in|on|for|when|after|before|that|which)\b)
    | the\s+(?:default|difference|reason|purpose|limits?|range|size|result|(?:dis)?advantages?|price|cost|
               alternatives?|exceptions?|date|author|meaning)(?=\s*(?:$|[?.!,;]))
    | davon|damit|dafür|dabei|dazu|darin|darüber|dort|dessen|deren|ihn|ihm|diese[rsmn]?
    | das(?=\W*$|\s+(?:ist|geht|heißt|bedeutet|auch)\b) | (?:es|sie)(?=\W*$|\s+(?:auch|noch|denn)\b)
    | cela|ça|ceci|celui|celle|ceux|celles|elles?|leur|lui
    | eso|esto|aquello|ello|allí|ciò|esso|essa
    | он|она|оно|они|его|её|ее|их|ему|им|это|этот|эта|эти
    | هذا|هذه|ذلك|تلك
    )\b
    | 它|他们|她们|这个|那个|这些|那些|其中|前者|后者|呢(?=\W*$)|は(?=\W*$)|それ|これ|その|この|그것|이것""",  # noqa: RUF001 Cyrillic is meant
    re.IGNORECASE | re.VERBOSE,
)
_NOT_POINTING = re.compile(
    r"\b(is|was|would|will) it (possible|true|necessary|allowed|safe|ok|okay)\b|"
    r"\b(is|are|was|were) there\b|\bthere (is|are|was|were)\b|\bit is (possible|true|necessary)\b|"
    r"\bit takes? (?:to|until|till|before|for)\b|"
    # What is named in the question itself: “a document before I delete it”.
    r"(?<=[\w,] )(?:an?|my|our|your|two|several|every|each) \w.*"
    r"\b(?:when|if|while|and|so|before|after|once|until|because|without)\b.*\b(?:it|its|they|them|their)\b",
    re.IGNORECASE,
)
_CONTINUING = re.compile(
    r"^\W*(?:and|but|or|so|then|also|how so|what about|how about|what if|which one|more|another|"
    r"tell me more|go on|continue|for example|such as|really|give me an example|"
    r"und|aber|oder|was ist mit|wie ist es mit|noch|et|mais|ou|alors|donc|[yoe](?=\s)|pero|entonces|ma|"
    r"allora|а|и|но|тогда|و?ماذا عن)\b(?P<rest>.*)",  # noqa: RUF001 Cyrillic is meant
    re.IGNORECASE | re.DOTALL,
)
_WHY = re.compile(
    r"^\W*(?:(?:why|how come|explain|which|how many|warum|wieso|weshalb|pourquoi|por qué|perché|почему|"
    r"لماذا)\b|为什么|なぜ|どうして|왜)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
"""Lean where next to nothing follows: “why not?”, “explain further”."""
_WITHOUT_NOUN = re.compile(r"^\W*how many (?:are|is|do|does|did|can|could|were|have|has)\b", re.IGNORECASE)
_FRAGMENT = re.compile(
    r"^\W*(?:in|on|at|for|with|without|from|to|by|of|under|after|before|other|the|an?|only|even|still|not|just|all|"
    r"any|some|both|none|if|because|auf|mit|ohne|für|bei|avec|sans|pour|dans|con|sin|para|en)\b",
    re.IGNORECASE,
)
_ABOUT_ANSWER = re.compile(
    r"""\b(?:translate|rephrase|reword|repeat|shorten|simplify|summari[sz]e|explain|say|write|put)
        \s+(?:it|that|this|them|(?:your|the)\s+(?:last\s+)?answer)\b
    | ^\W*(?:please\s+)?translate\s+(?:in)?to\b | \byour\s+(?:last\s+|first\s+)?answer\b
    | \bin\s+(?:simpler|simple|other|plain|fewer|your\s+own)\s+words\b
    | \bgive\s+(?:me\s+)?(?:an?|another|some|more)\s+(?:short\s+)?(?:examples?|list|table|summary)(?=\W*$)
    | ^\W*as\s+(?:an?\s+)?(?:table|list|bullet\s+points|json)\b
    | ^\W*are\s+you\s+(?:sure|certain)\b | \bwhat\s+(?:did|do)\s+you\s+(?:say|mean)\b
    | \bhow\s+do\s+you\s+know(?=\W*$)
    | \b(?:übersetze?|kannst\s+du|können\s+sie)\s+das\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What is to be done with the answer before: another language, other words, a list."""
_COMPARING = re.compile(
    r"^(?!.*\b(?:than|or)\b).*\b(?:better|worse|faster|slower|larger|bigger|smaller|cheaper|easier|newer|older)"
    r"\W*$",
    re.IGNORECASE | re.DOTALL,
)
"""What it is compared with was named before."""
_SAYING_NOTHING = frozenset(
    """again any bit can't clarify clear clearer clearly could describe detail detailed details deeper
    different does doesn't don't elaborate example examples exception exceptions exactly expand explain
    explanation further get give got i'm in-depth instance know let like little longer look mean meaning
    need ok okay one please point precise put say says see shorter show some something specific
    specifically sure tell thanks that's understand unclear want what's word words yes mehr details
    bitte gib nenne zeig mir ein eine einen beispiel beispiele erkläre erklären erklär genauer genau
    ausführlicher näher noch das ich verstehe nicht kannst du können sie etwas plus de détails détail
    explique expliquez expliquer exemple exemples un une donne donnez moi donne-moi davantage précis
    précise je ne comprends pas peux-tu pouvez-vous más detalles detalle dame ejemplo ejemplos explica
    explícame explicar por favor no entiendo puedes più dettagli fammi esempio spiega spiegami mais
    detalhes dê exemplo explique não entendo ещё еще подробнее пример приведи объясни""".split()
)
"""Beside `STOP_WORDS`: a question of nothing else says nothing of what it is about."""
_SAYING_NOTHING_WIDE = re.compile(
    r"^(?:请|能|可以|你|再|更|详细|具体|一点|一下|地|的|说明|解释|说|讲|举|个|例子|吗|些|多|给我|我|不|没|听|懂|明白"
    r"|もっと|もう|少し|詳しく|くわしく|教えて|説明|して|ください|例|を|挙げて|例えば|お願い|します"
    r"|더|자세히|자세하게|설명해|줘|주세요|예를|들어|좀|\s)+\W*$"
)
_WIDE = re.compile("[\u2e80-\U0010ffff]")


def leans_on_history(question: str, history: Sequence[Exchange]) -> bool:
    """Whether a question can only be understood with the ones before it. When in doubt it does not."""
    if not history or len(question) > LONGEST_FOLLOW_UP_TEXT:
        return False
    size = _size(question)
    if size > LONGEST_FOLLOW_UP:
        return False
    if size <= 2 or _POINTING.search(_NOT_POINTING.sub(" ", question)) or _WITHOUT_NOUN.match(question):
        return True
    if _ABOUT_ANSWER.search(question) or _COMPARING.match(question) or _says_nothing(question):
        return True
    continuing, why = _CONTINUING.match(question), _WHY.match(question)
    return bool(
        (continuing and _size(continuing["rest"]) <= LONGEST_CONTINUATION)
        or (why and _size(why["rest"]) <= 2)
        or (size <= LONGEST_FRAGMENT and _FRAGMENT.match(question))
    )


def _says_nothing(question: str) -> bool:
    """“Can you elaborate?”, “Give me more details”: there is nothing to search for."""
    words = {word.casefold().replace("’", "'") for word in _WORD.findall(question)}
    return words <= STOP_WORDS | _SAYING_NOTHING or bool(_SAYING_NOTHING_WIDE.match(question))


def _size(text: str) -> float:
    """Words; of scripts without spaces two characters count as one."""
    wide = len(_WIDE.findall(text))
    return len(_WORD.findall(_WIDE.sub(" ", text))) + wide / 2


# Begins with a letter: a long run of apostrophes is else looked through again from each of them.
_WORD = re.compile(rf"[\w{MARKS}]+(?:[’'./-]+[\w{MARKS}]+)*")


# --- put into words that stand alone ------------------------------------------------------


def condense_messages(question: str, history: Sequence[Exchange]) -> tuple[PromptMessage, ...]:
    """Ask for the question in words that need no conversation. Only the last two turns are told."""
    turns = history[-2:]
    told = "\n".join(f"Person: {each.question[:500]}\nAssistant: {each.answer[:500]}" for each in turns)
    return (
        PromptMessage("system", _CONDENSE),
        PromptMessage("user", f"Conversation:\n{told}\n\nLast question: {question}\n\nRewritten question:"),
    )


def condensed(said: str) -> str | None:
    """The rewritten question out of what the model said; None if that is unusable."""
    said = _THOUGHT.sub("", said)
    said = re.sub(r"^\W*(rewritten|standalone) question:", "", said, flags=re.IGNORECASE)
    lines = [line.strip().strip("\"'“”*") for line in said.splitlines() if line.strip()]
    told = next((line for line in lines if not line.endswith((":", "\uff1a"))), "")
    return told if 3 <= len(told) <= LONGEST_REWRITING else None


_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
"""Of a model whose engine does not know that it thinks."""


def with_topic(question: str, history: Sequence[Exchange]) -> str:
    """The question and the telling words of what was searched for last: no model is needed.

    Since that was made in the same way, the topic stays through several follow-ups. Of eight such
    ways this finds most; the whole last question, its answer or the headings of what was cited
    find less (docs/measurements.md).
    """
    last = history[-1]
    own = {word.casefold() for word in _WORD.findall(question)}
    topic = dict.fromkeys(_WORD.findall(last.searched_for or last.question))
    told = [word for word in topic if word.casefold() not in own | STOP_WORDS]
    return " ".join([question, *told[:TOPIC_TERMS]])


def after_last(question: str, history: Sequence[Exchange]) -> str:
    """For a small model that sees no history: the last question before this one."""
    return f"{history[-1].question[:300]} {question}"
