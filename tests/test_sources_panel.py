"""What a citation opens after its document has changed."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from companion.api.doors import doors
from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.ui.sources_panel import SourcesPanel
from tests.fakes import FakeEmbedder, ScriptedEngine, done

SUBJECTS = ("bees", "ships", "owls", "lamps", "rivers")
TEXT = "\n\n".join(
    f"The {subject} of chapter {n} are counted here. " + f"Much is told of {subject} and their ways. " * 70
    for n, subject in enumerate(SUBJECTS)
)


@pytest.fixture
def companion(tmp_path):
    built = build(
        Settings(data_dir=tmp_path / "data", offline=True),
        engines=[ScriptedEngine(["The rivers of chapter 4 are counted here [1].", done()])],
        light=FakeEmbedder(),
    )
    yield built
    built.close()


def test_a_citation_of_a_changed_passage_opens_what_became_of_it(companion):
    """In a plain text all passages have the same place; the first one was opened, whatever was cited."""
    client = TestClient(Starlette(routes=doors(companion)), base_url="http://127.0.0.1:7860")
    added = client.post("/api/documents", files={"files": ("book.txt", TEXT.encode())}).json()
    doc_id = added["results"][0]["document"]["doc_id"]
    session_id = client.post("/api/sessions", json={"thinking_mode": "rag", "top_k": 1}).json()["session_id"]
    question = {"content": "Which rivers are counted in chapter 4?"}
    answer = client.post(f"/api/sessions/{session_id}/messages", json=question).json()
    changed = TEXT.replace("rivers of chapter 4 are", "rivers of chapter 4 were")
    assert client.put(f"/api/documents/{doc_id}", files={"files": ("book.txt", changed.encode())}).is_success
    shown = SourcesPanel(companion).panel(LOCAL_OWNER, session_id, f"{answer['message_id']}-1")
    assert "changed since" in shown
    assert "rivers of chapter 4 were counted here" in shown
    assert "bees of chapter 0" not in shown
