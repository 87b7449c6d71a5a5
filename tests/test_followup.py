"""Which questions lean on the conversation, and in what words they are searched for."""

# ruff: noqa: RUF001 questions in their own scripts

from pathlib import Path

import pytest

from companion.chat.followup import condense_messages, condensed, leans_on_history, with_topic
from companion.chat.prompt import Exchange

GOLDEN = Path(__file__).parent / "golden"
HISTORY = [Exchange("Are there backups?", "Yes, every night.")]


def as_text(messages):
    return "".join(f"--- {message.role}\n{message.content}\n" for message in messages)


def test_the_follow_up_prompt_is_exactly_this():
    messages = condense_messages("And where?", HISTORY)
    assert as_text(messages) == (GOLDEN / "condense.txt").read_text()


FOLLOW_UPS = [
    "Why?",
    "And in Linux?",
    "and in 2020?",
    "What about PDF files?",
    "How large are they?",
    "Can it be changed?",
    "Tell me more",
    "Explain further",
    "Where is that?",
    "Where is that described?",
    "Is that one fast?",
    "Who wrote this?",
    "What does the former mean?",
    "What is the default?",
    "What is the difference?",
    "What should I do then?",
    "What can I do instead?",
    "On another port?",
    "A larger one?",
    "How many are there?",
    "It is encrypted. What can I do?",
    "Can you say that in German?",
    "Translate to French",
    "Please explain it in simpler words",
    "Could you give me an example?",
    "As a table please",
    "Are you sure?",
    "What did you say?",
    "How do you know?",
    # Other languages
    "Und auf dem Mac?",
    "Warum?",
    "Wie geht das?",
    "Was kann ich damit machen?",
    "Wie lange dauert es?",
    "Kannst du das auf Englisch sagen?",
    "日曜日は？",
    "وماذا عن الأحد؟",
    "Pourquoi ça ?",
    "¿Y en Linux?",
    "А почему?",
    "为什么？",
    "它有多大？",
    "لماذا؟",
    "それは何ですか",
    # Nothing to search for
    "Give me more details",
    "Can you elaborate?",
    "I don't understand",
    "I don’t understand.",
    "Explain in more detail",
    "Be more specific",
    "Show me an example",
    "Are there any exceptions?",
    "Mehr Details bitte",
    "Gib mir ein Beispiel",
    "Plus de détails",
    "Dame más detalles",
    "请详细说明",
    "もっと詳しく",
    # Points back in other ways
    "Explain the second point",
    "What does the third step mean?",
    "Is the same true for the garage?",
]
WHOLE_QUESTIONS = [
    "How do I add documents to the library?",
    "Is it possible to add PDF files?",
    "Is there a way to delete a conversation?",
    "What does hybrid mode do?",
    "Which files that end in .md are read?",
    "Why is the first answer slow?",
    "Explain the hybrid mode",
    "How do I back up my data so that they are safe?",
    "Give me a list of the thinking modes",
    "How do I translate a document into French?",
    "Gibt es Backups?",
    "What is the default thinking mode?",
    "What happens when I add the same file twice?",
    "Can I undo the deletion of a document after I deleted it?",
    "How long does it take to read a large PDF?",
    "How much does the parking permit cost?",
    "Is it true that documents stay on this computer?",
    "Does this program send statistics?",
    "E-mail address of Anna?",
    "Summarise this chapter: " + "it was said that they " * 20,
    "Wie füge ich ein Dokument hinzu?",
    "Comment puis-je ajouter un document ?",
    "如何把文档添加到资料库中？",
    "كيف أضيف مستندا إلى المكتبة؟",
    "What is the second step of adding a document?",
    "Give me details about backups",
    "Show me an example of a system prompt",
    "Are there exceptions for encrypted files?",
    "咖啡机的具体参数",
]


@pytest.mark.parametrize("question", FOLLOW_UPS)
def test_these_need_the_conversation(question):
    assert leans_on_history(question, HISTORY)
    assert not leans_on_history(question, ())


@pytest.mark.parametrize("question", WHOLE_QUESTIONS)
def test_these_stand_by_themselves(question):
    assert not leans_on_history(question, HISTORY)


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ('"Where are backups written?"', "Where are backups written?"),
        ("\n\nRewritten question: Where are backups?\nBecause…", "Where are backups?"),
        ("Sure! Here is the rewritten question:\n\nWhere are backups?", "Where are backups?"),
        ("<think>\nThey mean backups.\n</think>\n\nWhere are backups?", "Where are backups?"),
        ("<think>\nThey mean the backups, so", None),
        ("Here is the rewritten question:", None),
        ("", None),
        ("?", None),
        ("x" * 1000, None),
    ],
)
def test_the_rewritten_question_is_used_only_if_it_is_one(said, question):
    assert condensed(said) == question


def test_without_a_model_the_words_of_the_question_before_help_the_search():
    assert with_topic("And where?", HISTORY) == "And where? backups"


def test_the_topic_stays_through_several_follow_ups():
    first = Exchange("How do I delete a document?", "In the Documents tab.")
    second = with_topic("And undo?", [first])
    third = with_topic("For how long?", [first, Exchange("And undo?", "Choose Undo.", second)])
    assert third == "For how long? undo delete document"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("mark", ["'", "-", ".", "a'"])
def test_a_hostile_question_is_looked_through_once(mark):
    """It was looked through again from each of its marks, for minutes, and nobody else was served."""
    hostile = mark * (100_000 // len(mark))
    assert not leans_on_history(hostile, HISTORY)
    assert with_topic("And why?", [Exchange(hostile, "Yes.")]).startswith("And why?")


def test_an_endless_question_does_not_bury_its_follow_up():
    long = Exchange(" ".join(f"word{number}" for number in range(1000)), "Yes.")
    assert len(with_topic("And why?", [long]).split()) < 30
