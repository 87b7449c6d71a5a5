"""What a conversation searches: everything of one's own, chosen documents, or the sample library."""

import ast
import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion import errors
from companion.api.app import create_api
from companion.app import build
from companion.chat.prompt import NOTHING_FOUND
from companion.chat.scope import CHOSEN_GONE, SAMPLES_LEFT
from companion.config import REPOSITORY, Settings
from companion.domain import LOCAL_OWNER, SAMPLE_OWNER
from companion.errors import InvalidInput
from companion.library.search import ScopeSummary
from tests.fakes import FakeEmbedder, ScriptedEngine
from tests.sources import tree_of

BEES = "Bees make honey in summer."
BEARS = "Bears love honey in summer."
GUIDE = "This guide tells where honey is kept."
HONEY = "Where is honey in summer?"
WHAT_TO_DO = re.compile(r"\b(add|save|split|make|run)\b", re.IGNORECASE)


@pytest.fixture
def start(tmp_path):
    """Starts the app on one folder, again if asked again."""
    running = []

    def start():
        for companion in running:
            companion.close()
        settings = Settings(data_dir=tmp_path / "data", max_upload_mb=1, offline=True)
        running.append(build(settings, engines=[ScriptedEngine()], light=FakeEmbedder()))
        return running[-1]

    yield start
    for companion in running:
        companion.close()


@pytest.fixture
def companion(start):
    return start()


@pytest.fixture
def library(companion):
    return companion.library


@pytest.fixture
def client(companion):
    return client_of(companion)


def client_of(companion):
    outside = Starlette(routes=[Mount("/api", create_api(companion))])
    return TestClient(outside, base_url="http://127.0.0.1:7860")


@pytest.fixture
def session_id(client):
    return client.post("/api/sessions", json={"thinking_mode": "rag"}).json()["session_id"]


def added(library, name, text, owner=LOCAL_OWNER):
    return library.add(owner, name, text.encode()).doc_id


def ask(client, session_id, content=HONEY):
    return client.post(f"/api/sessions/{session_id}/messages", json={"content": content}).json()


def names(message):
    return {source["document_name"] for source in message["sources"]}


def choose(client, session_id, scope):
    return client.put(f"/api/config/{session_id}", json={"scope": scope})


def upload(client, *files, **more):
    return client.post("/api/documents", files=[("files", file) for file in files], **more).json()


# --- chosen documents ---------------------------------------------------------------------


def test_a_conversation_searches_the_chosen_documents_until_all_are_chosen_again(client, session_id, library):
    bees, _bears = added(library, "bees.txt", BEES), added(library, "bears.txt", BEARS)
    assert names(ask(client, session_id)) == {"bees.txt", "bears.txt"}
    assert choose(client, session_id, [bees, bees]).json()["scope"] == [bees]
    assert names(ask(client, session_id)) == {"bees.txt"}
    kept = client.put(f"/api/config/{session_id}", json={"top_k": 7}).json()
    assert (kept["scope"], kept["top_k"]) == ([bees], 7)
    assert choose(client, session_id, None).json()["scope"] is None
    assert names(ask(client, session_id)) == {"bees.txt", "bears.txt"}


def test_a_choice_outlives_a_start_and_holds_for_its_conversation_only(start):
    companion = start()
    client = client_of(companion)
    session_id = client.post("/api/sessions").json()["session_id"]
    bees = added(companion.library, "bees.txt", BEES)
    choose(client, session_id, [bees])
    client = client_of(start())
    assert client.get(f"/api/config/{session_id}").json()["scope"] == [bees]
    assert client.get(f"/api/sessions/{session_id}").json()["config"]["scope"] == [bees]
    assert client.post("/api/sessions").json()["config"]["scope"] is None
    assert client.post("/api/sessions", json={"scope": [bees]}).json()["config"]["scope"] == [bees]
    assert client.put("/api/settings", json={"scope": [bees]}).status_code == 422


async def test_a_choice_that_cannot_be_searched_is_refused_and_changes_nothing(companion, library):
    bees = added(library, "bees.txt", BEES)
    gone = added(library, "gone.txt", BEARS)
    theirs = added(library, "diary.txt", "My honey.", owner="somebody")
    library.delete(LOCAL_OWNER, gone)
    session = await companion.sessions.create(LOCAL_OWNER, scope=[bees])
    before = companion.sessions.config(LOCAL_OWNER, session.session_id)
    for scope in ([], [bees, gone], [bees, theirs], ["nobodys"], bees, [1], {"a": 1}, 3):
        with pytest.raises(InvalidInput) as refused:
            await companion.sessions.update_config(
                LOCAL_OWNER, session.session_id, {"top_k": 9, "scope": scope}
            )
        assert refused.value.field == "scope"
        assert refused.value.message.endswith(".")
        assert companion.sessions.config(LOCAL_OWNER, session.session_id) == before


def test_an_empty_choice_is_refused_in_words(client, session_id):
    answer = choose(client, session_id, [])
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == "scope: Choose at least one document, or all of them."


def test_a_chosen_document_that_is_deleted_falls_out_and_comes_back_with_undo(client, session_id, library):
    bees, bears = added(library, "bees.txt", BEES), added(library, "bears.txt", BEARS)
    added(library, "wasps.txt", "Wasps steal honey in summer.")
    choose(client, session_id, [bees, bears])
    client.delete(f"/api/documents/{bees}")
    message = ask(client, session_id)
    assert (names(message), message["notices"]) == ({"bears.txt"}, [])
    client.post(f"/api/documents/{bees}/undo")
    assert names(ask(client, session_id)) == {"bees.txt", "bears.txt"}


def test_when_all_chosen_documents_are_gone_it_says_so_and_searches_nothing_else(client, session_id, library):
    bees = added(library, "bees.txt", BEES)
    added(library, "bears.txt", BEARS)
    added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    choose(client, session_id, [bees])
    client.delete(f"/api/documents/{bees}")
    message = ask(client, session_id)
    assert (message["sources"], message["content"]) == ([], NOTHING_FOUND)
    assert message["notices"] == [CHOSEN_GONE]


def test_a_sample_document_can_be_chosen_beside_ones_own(client, session_id, library):
    guide = added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    bees = added(library, "bees.txt", BEES)
    added(library, "bears.txt", BEARS)
    choose(client, session_id, [guide, bees])
    assert names(ask(client, session_id)) == {"guide.md", "bees.txt"}


def test_a_search_can_be_kept_to_documents(client, library):
    bees, bears = added(library, "bees.txt", BEES), added(library, "bears.txt", BEARS)
    added(library, "wasps.txt", "Wasps steal honey in summer.")
    theirs = added(library, "diary.txt", "My honey in summer.", owner="somebody")

    def found(*doc_ids):
        hits = client.get("/api/search", params={"q": HONEY, "doc_id": doc_ids}).json()["hits"]
        return {hit["document_name"] for hit in hits}

    assert found(bees) == {"bees.txt"}
    assert found(bees, bears) == {"bees.txt", "bears.txt"}
    assert found(theirs) == found("nobodys") == set()
    assert found() == {"bees.txt", "bears.txt", "wasps.txt"}


# --- what is searched, in one value -------------------------------------------------------


def test_the_scope_is_told_in_one_value(library):
    guide = added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    assert library.scope_of(LOCAL_OWNER) == ScopeSummary(1, 1, samples=True, chosen=False, missing=0)
    bees = added(library, "bees.txt", BEES)
    long = added(library, "long.txt", "\n\n".join(f"Honey {n}. " * 200 for n in range(5)))
    many = len(library.passages(LOCAL_OWNER, long))
    broken = added(library, "broken.pdf", "no pdf")
    theirs = added(library, "diary.txt", "My honey.", owner="somebody")
    assert many > 1
    assert library.scope_of(LOCAL_OWNER) == ScopeSummary(2, 1 + many, False, False, 0)
    assert library.scope_of(LOCAL_OWNER, [bees, guide]) == ScopeSummary(2, 2, True, True, 0)
    assert library.scope_of(LOCAL_OWNER, [long, broken]) == ScopeSummary(1, many, False, True, 0)
    assert library.scope_of(LOCAL_OWNER, [bees, theirs, "x"]) == ScopeSummary(1, 1, False, True, 2)
    library.delete(LOCAL_OWNER, bees)
    assert library.scope_of(LOCAL_OWNER, [bees]) == ScopeSummary(0, 0, False, True, 1)
    assert library.scope_of(LOCAL_OWNER) == ScopeSummary(1, many, False, False, 0)
    library.delete(LOCAL_OWNER, long)
    assert library.scope_of(LOCAL_OWNER) == ScopeSummary(1, 1, True, False, 0)


def test_documents_are_listed_with_what_they_come_to(client, library):
    added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    nothing = {"documents": 0, "searchable": 0, "passages": 0, "size": 0}
    assert client.get("/api/documents").json()["totals"] == nothing
    gone = added(library, "bees.txt", BEES)
    added(library, "bears.txt", BEARS)
    added(library, "broken.pdf", "no pdf")
    listed = client.get("/api/documents").json()
    own = [one for one in listed["documents"] if not one["sample"]]
    assert {one["name"]: (one["size"], one["passages"]) for one in own} == {
        "bees.txt": (len(BEES), 1), "bears.txt": (len(BEARS), 1), "broken.pdf": (6, 0),
    }  # fmt: skip
    size = len(BEES) + len(BEARS) + 6
    assert listed["totals"] == {"documents": 3, "searchable": 2, "passages": 2, "size": size}
    library.delete(LOCAL_OWNER, gone)
    left = client.get("/api/documents").json()["totals"]
    assert left == {"documents": 2, "searchable": 1, "passages": 1, "size": size - len(BEES)}


# --- the sample library leaves ------------------------------------------------------------


def test_the_upload_that_makes_the_samples_leave_says_so(client, library):
    added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    failed = upload(client, ("broken.pdf", "no pdf"), ("good.pdf", "neither"))
    assert not failed.get("samples_left")
    assert library.uses_samples(LOCAL_OWNER)
    assert upload(client, ("bees.txt", BEES))["samples_left"] is True
    assert upload(client, ("bears.txt", BEARS))["samples_left"] is False


def test_the_first_answer_without_the_samples_says_so_once(client, session_id, library):
    added(library, "guide.md", GUIDE, owner=SAMPLE_OWNER)
    message = ask(client, session_id)
    assert (names(message), message["notices"]) == ({"guide.md"}, [])
    added(library, "bees.txt", BEES)
    assert ask(client, session_id, "Zzz?")["notices"] == [SAMPLES_LEFT]
    message = ask(client, session_id)
    assert (names(message), message["notices"]) == ({"bees.txt"}, [])
    fresh = client.post("/api/sessions", json={"thinking_mode": "rag"}).json()["session_id"]
    assert ask(client, fresh)["notices"] == [], "nobody expects the samples there"


# --- documents that a question names ------------------------------------------------------


LEASES = {
    "lease-2023.txt": "Pets are allowed in the flat. The rent is 900.",
    "lease-2024.txt": "Pets are forbidden in the flat. The rent is 950.",
    "old lease-2024.txt": "Pets may visit the flat.",
    "flat/lease-2022.txt": "Pets are not spoken of. The flat is cold.",
    "lease": "Pets pay for the flat themselves.",
    "lease (1).txt": "Pets sleep in the flat.",
}


@pytest.fixture
def leases(library):
    return {name: added(library, name, text) for name, text in LEASES.items()}


@pytest.mark.parametrize(
    ("question", "searched"),
    [
        ("What does lease-2024.txt say of pets in the flat?", {"lease-2024.txt"}),
        (
            "Pets in the flat: compare LEASE-2023.TXT with lease-2024.txt.",
            {"lease-2023.txt", "lease-2024.txt"},
        ),
        ("Are pets allowed by “old lease-2024.txt”?", {"old lease-2024.txt"}),
        ("Pets in lease-2022.txt?", {"flat/lease-2022.txt"}),
        ("Pets in flat/lease-2022.txt?", {"flat/lease-2022.txt"}),
        ("请总结lease-2023.txt的内容", {"lease-2023.txt"}),
        ("Sum up lease-2023.txt", {"lease-2023.txt"}),
        ("Pets in lease (1).txt?", {"lease (1).txt"}),
        ("Pets in the flat by my-lease-2024.txt.bak?", None),
        ("What does the lease say of pets in the flat?", None),
    ],
)
def test_a_question_that_names_a_file_is_answered_from_it(client, session_id, leases, question, searched):
    message = ask(client, session_id, question)
    if searched is None:
        assert (len(names(message)), message["notices"]) == (5, [])
        return
    assert names(message) == searched
    [told] = message["notices"]
    assert told.startswith("Only “")
    assert all(f"“{name}”" in told for name in searched)


def test_a_named_file_that_is_not_of_the_chosen_ones_is_not_searched(client, leases):
    chosen = {"scope": [leases["lease-2023.txt"]], "thinking_mode": "rag"}
    session_id = client.post("/api/sessions", json=chosen).json()["session_id"]
    message = ask(client, session_id, "What does lease-2024.txt say of pets in the flat?")
    assert (names(message), message["notices"]) == ({"lease-2023.txt"}, [])


def test_a_file_that_could_not_be_read_bounds_no_search(client, session_id, leases):
    upload(client, ("broken.pdf", "no pdf"))
    message = ask(client, session_id, "What does broken.pdf say of pets in the flat?")
    assert len(names(message)) == 5


# --- documents that fail ------------------------------------------------------------------


FAILING = {
    "empty.txt": (b"", "empty_document"),
    "blank.txt": (b" \n \n", "empty_document"),
    "text.pdf": (b"no pdf at all", "unreadable_document"),
    "torn.pdf": (b"%PDF-1.7\n1 0 obj", "unreadable_document"),
    "old.docx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 99, "encrypted_document"),
    "torn.docx": (b"PK\x03\x04" + b"x" * 99, "unreadable_document"),
    "program.exe": (b"MZ\x00\x01", "unknown_format"),
    "picture.txt": (b"\x89PNG\r\n", "unreadable_document"),
    "noise.txt": (bytes(range(1, 32)) * 99, "unreadable_document"),
    "torn.ipynb": (b"{", "unreadable_document"),
    "large.txt": (b"x" * 1_000_001, "document_too_large"),
}


def test_a_failed_document_says_what_is_wrong_and_what_to_do(client):
    results = upload(client, *((name, content) for name, (content, _code) in FAILING.items()))["results"]
    said = {result["name"]: result["error"] for result in results}
    assert {name: error["code"] for name, error in said.items()} == {
        name: code for name, (_content, code) in FAILING.items()
    }
    assert [error for error in said.values() if not WHAT_TO_DO.search(error["message"])] == []
    listed = client.get("/api/documents").json()["documents"]
    # What was too large was never kept.
    assert {one["name"] for one in listed} == set(FAILING) - {"large.txt"}
    for one in listed:
        assert one["state"] == "failed"
        assert {"code": one["error_code"], "message": one["error"]} == said[one["name"]]


def test_a_document_that_is_mended_has_no_error_any_more(client):
    doc_id = upload(client, ("notes.txt", b""))["results"][0]["document"]["doc_id"]
    mended = client.put(f"/api/documents/{doc_id}", files={"files": ("notes.txt", BEES)}).json()
    assert (mended["state"], mended["error"], mended["error_code"]) == ("searchable", None, None)


def sentences():
    """What every error about a document says, as far as it stands in the code."""
    kinds = {"DocumentError", *(kind.__name__ for kind in errors.DocumentError.__subclasses__())}
    for room in ("library", "api"):
        for path in sorted((REPOSITORY / "companion" / room).rglob("*.py")):
            for node in ast.walk(tree_of(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                    if words := " ".join(text for text in texts if isinstance(text, str)):
                        yield f"{path.name}: {words}"


def test_every_sentence_about_a_document_says_what_to_do():
    found = list(sentences())
    assert len(found) > 20
    assert [words for words in found if not WHAT_TO_DO.search(words) and "fewer" not in words] == []


# --- folders ------------------------------------------------------------------------------


def test_equal_names_in_different_folders_are_different_documents(client):
    files = [(f"reports/{year}/a.txt", f"Honey of {year}.") for year in (2023, 2024)]
    first, second = upload(client, *files, ("a.txt", BEES))["results"][:2]
    listed = {one["name"]: one["doc_id"] for one in client.get("/api/documents").json()["documents"]}
    assert set(listed) == {"reports/2023/a.txt", "reports/2024/a.txt", "a.txt"}
    again = upload(client, ("reports/2023/a.txt", "Honey of 2023."))["results"][0]
    assert (again["already_there"], again["document"]["doc_id"]) == (True, first["document"]["doc_id"])
    newer = upload(client, ("reports\\2024\\a.txt", "More honey of 2024."))["results"][0]
    assert newer["document"]["doc_id"] == second["document"]["doc_id"]
    beside = upload(client, ("reports/2024/a.txt", BEARS), data={"if_exists": "keep"})["results"][0]
    assert beside["document"]["name"] == "reports/2024/a (2).txt"


def test_a_document_stays_in_its_folder_when_it_is_replaced_by_a_file_picked_by_hand(client):
    upload(client, ("a.txt", BEARS))
    doc_id = upload(client, ("reports/a.txt", BEES))["results"][0]["document"]["doc_id"]
    replaced = client.put(f"/api/documents/{doc_id}", files={"files": ("a.txt", "Newer honey.")})
    assert (replaced.status_code, replaced.json()["name"]) == (200, "reports/a.txt")
    assert len(client.get("/api/documents").json()["documents"]) == 2


ESCAPES = [
    "../../escape.txt", "a/../../escape.txt", "/etc/escape.txt", "..\\..\\escape.txt", "C:\\escape.txt",
    "./../escape.txt", "a/..\u200b/escape.txt", "a/%2e%2e/escape.txt", "a\0/../escape.txt",
    "\u2025/escape.txt", "a/" * 2000 + "escape.txt", "originals/incoming-1/../escape.txt", "~/escape.txt",
]  # fmt: skip


def test_no_name_of_an_upload_leads_out_of_the_folder_of_originals(client, companion, tmp_path):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for number, name in enumerate(ESCAPES):
        content = f"Honey number {number}.".encode()
        quoted = name.replace("\\", "\\\\").encode()
        start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + quoted + b'"\r\n\r\n'
        body = start + content + b"\r\n--x--\r\n"
        answer = client.post("/api/documents", content=body, headers=headers).json()
        document = answer["results"][0]["document"]
        assert document["name"].endswith("escape.txt"), name
        assert not document["name"].startswith("/"), name
        assert ".." not in document["name"].split("/"), name
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        kept = [path for path in files if path.read_bytes() == content]
        assert kept == [companion.library.original(LOCAL_OWNER, document["doc_id"])], name
        assert kept[0].parent == companion.settings.originals_dir
