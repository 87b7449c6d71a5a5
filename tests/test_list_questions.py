"""Questions about the library itself: recognised, answered from its list, and told from all others."""

import sqlite3
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from companion.chat.days import days_of
from companion.chat.inventory import LISTED_NOTICE
from companion.chat.list_question import list_question
from companion.domain import LOCAL_OWNER
from companion.ui.render.conversation import conversation
from tests.doors import opened
from tests.fakes import ScriptedEngine, done

MONDAY = date(2026, 11, 23)
NAMES = ("contract.pdf", "letter.eml")
ABOUT_THE_LIBRARY = [
    "Which files do you have?",
    "What documents are there?",
    "what documents do i have in my library",
    "List all files",
    "Can you list my documents?",
    "Show me all my PDFs",
    "Tell me which files you have",
    "How many documents do I have?",
    "How many PDF files are there in the library?",
    "how many files?",
    "How many documents were added this month?",
    "What did I add yesterday?",
    "What have I uploaded today?",
    "what was added last week?",
    "Which documents did I add in March?",
    "Which files have I uploaded in the last 3 days?",
    "What is in my library?",
    "What’s in the library?",
    "What did I add last?",
    "Which document is the newest?",
    "What is my largest file?",
    "Do you have anything from Anna's mail?",
    "Do you have any e-mails from Anna?",
    "Do you have anything from yesterday?",
    "Do you have contract.pdf?",
    "What is in contract.pdf?",
    "How many pages does contract.pdf have?",
    "When did I add contract.pdf?",
    "Is contract.pdf in my library?",
    "Are there any e-mails in the library?",
    "What are my documents?",
    "Give me a list of all my files",
    "List the documents",
    "Did I add anything yesterday?",
    "Have I uploaded anything today?",
    "What did I upload since Monday?",
    "Which docs have you got?",
    "How many Word files do I have?",
    "Show all my text documents",
    "How big is my library?",
    "What’s new since Monday?",
    "What files do you have access to?",
    "What documents have I given you?",
    "Do you have documents?",
    "Which files are currently in the library?",
    "Can you show me the list of documents?",
    "What are the names of my files?",
    "total number of documents",
    "What was the last file I added?",
    "What did I add two days ago?",
    "What did I add on November 20?",
    "When have I added contract.pdf?",
    "Did I already add contract.pdf?",
    "What do you have from Anna?",
    "Which files are by Anna?",
    "Thanks! How many documents do I have, please?",
    "whats in my library",
]
ONLY_LOOKS_LIKE_IT = [
    "Which files does the manual say to delete?",
    "What documents do I need for a visa?",
    "Which documents do I have to bring?",
    "How many documents do I need for the permit?",
    "What did Anna add to the contract yesterday?",
    "Which file formats are supported?",
    "How many files can I upload at once?",
    "List the files that the installer removes",
    "How do I list all files in Linux?",
    "What did I say about files yesterday?",
    "Which of my files talks about taxes?",
    "Which document mentions Helsinki?",
    "What documents are required for registration?",
    "Where are my files stored?",
    "How large may a file be?",
    "How many documents were signed?",
    "What did I add to the stew?",
    "What is new in version 3?",
    "What happened yesterday?",
    "What are the files in the data folder?",
    "What did the committee add last year?",
    "Who added the appendix?",
    "Which documents were lost in the fire?",
    "Show me the documents on taxation",
    "What did I add on 2026-99-99?",
    "Which files do you have? " * 20,
    "Which files does the plugin write?",
    "How many documents does the court need?",
    "How many documents are there in the archive of the ministry?",
    "What files are there in /etc?",
    "List all documents required for the application",
    "Which documents have been uploaded by the plaintiff?",
    "Which files were added in version 3?",
    "How many files were uploaded to the server last week?",
    "How many words are there in total?",
    "What is the longest word?",
    "Which word is the shortest?",
    "What text is the oldest?",
    "How many tables are there?",
    "Which tables are there?",
    "What is the first document?",
    "Which document is the first?",
    "How many notebooks do I have at home?",
    "Which e-mails did Anna send yesterday?",
    "What mail did I get yesterday?",
    "What did we add to the soup yesterday?",
    "What is new?",
    "What is new since version 2?",
    "What happened since Monday?",
    "Show me the list of files that were lost",
    "What was the last thing I said?",
    "What did Anna add two days ago?",
]
NAMES_SOMETHING_ELSE = [
    "Do you have a minute?",
    "Do you have anything about taxes?",
    "What is in the soup?",
    "What does the report contain?",
    "How large is the moon?",
    "When was the lighthouse painted?",
    "Do you have anything from Berta?",
    "What is in other.pdf?",
    "What was added in 2020?",
    "Which files were added in 2019?",
    "How many notebooks do we have?",
    "Which spreadsheets are there?",
    "Do you know Python?",
    "How long is the river?",
    "What does the insurance cover?",
    "When was the company founded?",
    "Is water available?",
    "What chapters are in the Bible?",
    "What is the structure of DNA?",
    "What type of document is a will?",
]


@pytest.mark.parametrize("question", ABOUT_THE_LIBRARY)
def test_these_are_about_the_library(question):
    assert list_question(question, MONDAY)


@pytest.mark.parametrize("question", ONLY_LOOKS_LIKE_IT)
def test_these_only_look_like_it(question):
    assert list_question(question, MONDAY) is None


@pytest.mark.parametrize(
    ("words", "first", "last"),
    [
        ("today", "2026-11-23", "2026-11-23"),
        ("yesterday", "2026-11-22", "2026-11-22"),
        ("last week", "2026-11-16", "2026-11-22"),
        ("this month", "2026-11-01", "2026-11-23"),
        ("last month", "2026-10-01", "2026-10-31"),
        ("last year", "2025-01-01", "2025-12-31"),
        ("in the last three days", "2026-11-21", "2026-11-23"),
        ("on monday", "2026-11-16", "2026-11-16"),
        ("since friday", "2026-11-20", "2026-11-23"),
        ("in december", "2025-12-01", "2025-12-31"),
        ("in february 2024", "2024-02-01", "2024-02-29"),
        ("in 2020", "2020-01-01", "2020-12-31"),
        ("on 2026-03-05", "2026-03-05", "2026-03-05"),
        ("two days ago", "2026-11-21", "2026-11-21"),
        ("a day ago", "2026-11-22", "2026-11-22"),
        ("since last week", "2026-11-16", "2026-11-23"),
        ("since november", "2026-11-01", "2026-11-23"),
        ("since 2025", "2025-01-01", "2026-11-23"),
        ("on november 20", "2026-11-20", "2026-11-20"),
        ("on the 24th of november", "2025-11-24", "2025-11-24"),
        ("since march 3rd, 2024", "2024-03-03", "2026-11-23"),
    ],
)
def test_days_are_understood_as_a_person_means_them(words, first, last):
    days = days_of(words, MONDAY)
    assert (str(days.first), str(days.last)) == (first, last)


@pytest.mark.parametrize(
    "words",
    ["in march 0000", "on february 30", "on february 29", "the last 99999999999 days",
     "99999999999 days ago", "on march on march"],
)  # fmt: skip
def test_days_that_no_calendar_has_are_no_days(words):
    assert days_of(words, MONDAY) is None


# --- through the front door ---------------------------------------------------------------

MAIL = b"Subject: Keys\nFrom: Anna Berg <anna@example.org>\nTo: me@example.org\n\nThe keys are with Jo.\n"
PLAN = (
    "# Plan\n\n## Budget [7]\n\nThe budget is nine thousand for the garden and its walls.\n\n"
    "## Dates | times\n\nWe begin in May.\n"
)


class Desk:
    def __init__(self, companion, client, engine):
        self.companion, self.client, self.engine = companion, client, engine

    def add(self, name, content, *, days_ago=0):
        added = self.client.post("/api/documents", files=[("files", (name, content))]).json()
        doc_id = added["results"][0]["document"]["doc_id"]
        self.date(doc_id, datetime.now(UTC) - timedelta(days=days_ago))
        return doc_id

    def date(self, doc_id, moment):
        with sqlite3.connect(self.companion.settings.data_dir / "companion.db") as database:
            database.execute(
                "UPDATE documents SET created_at = ? WHERE doc_id = ?", (f"{moment:%F %T.%f}", doc_id)
            )

    def session(self, mode="rag", **more):
        made = self.client.post("/api/sessions", json={"thinking_mode": mode, **more})
        return made.json()["session_id"]

    def ask(self, words, session_id=None, **more):
        path = f"/api/sessions/{session_id or self.session()}/messages"
        found = self.client.post(path, json={"content": words, **more})
        assert found.status_code == 200, found.text
        return found.json()


@pytest.fixture
def engine():
    return ScriptedEngine()


@pytest.fixture
def desk(tmp_path, engine):
    with opened(tmp_path, engine) as (companion, client):
        yield Desk(companion, client, engine)


@pytest.fixture
def shelf(desk):
    desk.add("plan.md", PLAN, days_ago=40)
    desk.add("letter.eml", MAIL, days_ago=1)
    desk.add("anna-notes.txt", "Anna likes bees.")
    return desk


def rows(answer):
    """The names in the table of an answer."""
    return [line.split("`")[1] for line in answer["content"].splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("mode", ["cot", "rag", "hybrid"])
def test_the_list_is_told_without_a_model_in_every_mode(shelf, mode):
    answer = shelf.ask("Which files do you have?", shelf.session(mode))
    assert rows(answer) == ["anna-notes.txt", "letter.eml", "plan.md"]
    assert "3 documents in your library" in answer["content"]
    assert answer["notices"] == [LISTED_NOTICE]
    assert (answer["state"], answer["model"], answer["mode"]) == ("complete", None, mode)
    assert shelf.engine.requests == []


def test_it_is_told_even_where_no_model_is(shelf):
    shelf.engine.offered = []
    assert rows(shelf.ask("List all files"))


def test_numbers_and_kinds_are_exact(shelf):
    assert shelf.ask("How many documents do I have?")["content"].startswith("3 documents in your library")
    assert shelf.ask("How many e-mails are there?")["content"].startswith("1 e-mail document in your")
    assert shelf.ask("Do you have any PDFs?")["content"] == "No PDF documents in your library."
    assert shelf.ask("How many PDFs do you have?")["content"] == "No PDF documents in your library."


def test_whole_names_are_looked_for_and_what_stands_in_them_is_no_kind(desk):
    desk.add("budget.eml", MAIL.replace(b"Anna Berg", b"Pat O'Brien"))
    desk.add("party.eml", MAIL.replace(b"Anna Berg", b"Sinead O'Connor"))
    desk.add("Text Adventure.html", "<h1>Adventure</h1><p>You stand in a dark cave with a lamp.</p>")
    for name in ("O'Brien", "O’Brien"):
        assert rows(desk.ask(f"Do you have any emails from {name}?")) == ["budget.eml"]
    for place in ("", " in my library"):
        asked = desk.ask(f"Do you have anything called Text Adventure{place}?")
        assert rows(asked) == ["Text Adventure.html"]


def test_comments_in_code_are_no_headings(desk):
    desk.add(
        "readme.md", "# Tower\n\n## Start\n\n```bash\n# install the packages\nmake\n```\n\nThen go up.\n"
    )
    told = desk.ask("What is in readme.md?")["content"]
    assert "Start" in told
    assert "install the packages" not in told


def test_days_are_those_where_the_person_is(desk):
    doc_id = desk.add("bees.txt", "Bees make honey.")
    # Half an hour after midnight in the far east is yesterday in the far west.
    here = datetime.now(UTC)
    desk.date(doc_id, here)
    east = desk.ask("What did I add today?", time_zone="Pacific/Kiritimati")
    west = desk.ask("What did I add today?", time_zone="Pacific/Pago_Pago")
    assert rows(east) == rows(west) == ["bees.txt"]
    desk.date(doc_id, here - timedelta(hours=24))
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert rows(desk.ask("What did I add yesterday?", time_zone=zone)) == ["bees.txt"]
        assert rows(desk.ask("What did I add today?", time_zone=zone)) == []


def test_a_day_ends_at_midnight_of_the_person_s_zone(desk):
    doc_id = desk.add("bees.txt", "Bees make honey.")
    now = datetime.now(UTC)
    added = now.replace(hour=0, minute=0, second=0) - timedelta(minutes=30)
    desk.date(doc_id, added)
    # Half past eleven in the evening in UTC is past midnight in Berlin.
    assert rows(desk.ask("What did I add yesterday?", time_zone="UTC")) == ["bees.txt"]
    berlin = rows(desk.ask("What did I add today?", time_zone="Europe/Berlin"))
    zone = ZoneInfo("Europe/Berlin")
    same_day = added.astimezone(zone).date() == now.astimezone(zone).date()
    assert berlin == (["bees.txt"] if same_day else [])


def test_an_unknown_zone_is_refused(desk):
    path = f"/api/sessions/{desk.session()}/messages"
    refused = desk.client.post(path, json={"content": "What did I add today?", "time_zone": "Mars/Base"})
    assert refused.status_code == 422


def test_and_yesterday_asks_the_same_of_another_day(shelf):
    session_id = shelf.session()
    assert rows(shelf.ask("What did I add today?", session_id)) == ["anna-notes.txt"]
    assert rows(shelf.ask("And yesterday?", session_id)) == ["letter.eml"]
    assert len(rows(shelf.ask("And in the last two days?", session_id))) == 2
    assert rows(shelf.ask("What did I add last?", session_id)) == ["anna-notes.txt", "letter.eml", "plan.md"]


def test_a_follow_up_asks_of_the_same_documents(shelf):
    session_id = shelf.session()
    assert len(rows(shelf.ask("Which files did I add in the last two days?", session_id))) == 2
    assert shelf.ask("And how many are there?", session_id)["content"].startswith(
        "2 documents added in the last"
    )
    assert shelf.ask("How many of them are e-mails?", session_id)["content"].startswith("1 e-mail document a")
    assert shelf.ask("And PDFs?", session_id)["content"].startswith("No PDF documents added")
    assert LISTED_NOTICE not in shelf.ask("How many are there?")["notices"]


def test_somebody_s_mail_is_found_by_its_sender_and_by_names(shelf):
    assert rows(shelf.ask("Do you have anything from Anna's mail?")) == ["anna-notes.txt", "letter.eml"]
    assert rows(shelf.ask("Do you have any e-mails from Anna?")) == ["letter.eml"]
    assert rows(shelf.ask("Is there an e-mail from Anna in my library?")) == ["letter.eml"]
    assert rows(shelf.ask("What do you have by Berg?")) == ["letter.eml"]


def test_what_is_in_a_document_is_its_outline_and_each_heading_opens_its_passage(shelf):
    answer = shelf.ask("What is in Plan.md?")
    assert "Budget (7)" in answer["content"]
    assert "Dates \\| times" in answer["content"]
    numbers = [source["number"] for source in answer["sources"]]
    assert numbers
    assert all(f"[{number}]" in answer["content"] for number in numbers)
    assert all(source["cited"] and source["layers"] == ["list"] for source in answer["sources"])
    passages = shelf.client.get(f"/api/documents/{answer['sources'][0]['doc_id']}").json()["passages"]
    assert {each["chunk_id"] for each in answer["sources"]} <= {each["chunk_id"] for each in passages}


def test_without_headings_it_is_the_beginning(shelf):
    answer = shelf.ask("What does anna-notes.txt contain?")
    assert "It begins: “Anna likes bees.…” [1]" in answer["content"]


def test_facts_of_one_document(shelf):
    answer = shelf.ask("When did I add letter.eml?")
    assert answer["content"].startswith("`letter.eml`: e-mail, 0.1 kB, 1 passage, added on ")
    assert shelf.ask("Have I already added letter.eml to my library?")["content"] == answer["content"]


def test_what_is_new_is_what_was_added_and_else_what_the_documents_tell(shelf):
    assert rows(shelf.ask("What’s new since yesterday?")) == ["anna-notes.txt", "letter.eml"]
    assert LISTED_NOTICE not in shelf.ask("What’s new since 2999-01-01?")["notices"]


@pytest.mark.parametrize("question", NAMES_SOMETHING_ELSE)
def test_what_names_no_document_of_the_list_goes_the_usual_way(shelf, question):
    shelf.engine.scripts = [["From the texts.", done()]]
    answer = shelf.ask(question)
    assert LISTED_NOTICE not in answer["notices"]
    assert answer["usage"]["search_ms"] is not None


@pytest.mark.parametrize("question", ONLY_LOOKS_LIKE_IT[:3])
def test_what_only_looks_like_it_is_searched_for(shelf, question):
    answer = shelf.ask(question)
    assert LISTED_NOTICE not in answer["notices"]
    assert answer["usage"]["search_ms"] is not None


def test_only_what_the_conversation_is_about_is_listed(shelf):
    chosen = next(each for each in shelf.companion.library.documents(LOCAL_OWNER) if each.name == "plan.md")
    session_id = shelf.session(scope=[chosen.doc_id])
    answer = shelf.ask("Which documents do you have?", session_id)
    assert rows(answer) == ["plan.md"]
    assert "chosen for this chat" in answer["content"]


def test_what_belongs_to_somebody_else_is_not_listed(shelf):
    shelf.companion.library.add("visitor", "secret.txt", b"Nobody is to know.")
    assert "secret.txt" not in str(shelf.ask("Which files do you have?"))
    assert LISTED_NOTICE not in shelf.ask("What is in secret.txt?")["notices"]


def test_the_sample_library_is_said_to_be_one(desk, tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "tour.md").write_text("# Tour\n\nWelcome.\n")
    desk.companion.library.install_samples(folder)
    answer = desk.ask("Which files do you have?")
    assert rows(answer) == ["tour.md"]
    assert answer["content"].endswith("\n\nYou have added no document of your own yet.")
    # They came with the program today, but nobody added them.
    assert desk.ask("What did I add today?")["content"].startswith("No documents added today")


def test_a_failed_document_says_so(shelf):
    shelf.add("broken.pdf", b"%PDF-1.4 nothing")
    answer = shelf.ask("Which files do you have?")
    assert "| `broken.pdf` | " in answer["content"]
    assert "could not be read" in answer["content"]


def test_names_are_shown_as_they_are_and_do_nothing(desk):
    desk.add("![x](http-evil) | `b` [1].txt", "Bees.")
    answer = desk.ask("Which files do you have?")
    assert "\\|" in answer["content"]
    stored = desk.companion.store.sessions.messages(LOCAL_OWNER, answer["session_id"])
    shown = conversation(stored, stored[-1].created_at, None)[-1]["content"]
    assert "<img" not in shown
    assert "#src-" not in shown


def test_the_page_says_where_an_outline_is_from(shelf):
    answer = shelf.ask("What is in plan.md?")
    stored = shelf.companion.store.sessions.messages(LOCAL_OWNER, answer["session_id"])
    block = conversation(stored, stored[-1].created_at, None)[1]
    assert block["metadata"]["title"] == "Looked into the list of your documents"
    assert "words only" not in block["metadata"]["log"]


def test_a_long_list_is_cut_and_says_so(desk):
    for number in range(53):
        desk.companion.library.accept(LOCAL_OWNER, f"note{number}.txt", f"Note {number}.".encode())
    answer = desk.ask("Which files do you have?")
    assert len(rows(answer)) == 50
    assert "and 3 more" in answer["content"]
