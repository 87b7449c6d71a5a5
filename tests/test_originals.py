"""The file as it was given can be had back, and is never opened as a page."""

import pytest

from companion.library import originals
from tests.doors import opened
from tests.fakes import ScriptedEngine

PAGE = b"<html><script>alert(1)</script><p>A page of somebody else.</p></html>"


@pytest.fixture
def door(tmp_path):
    with opened(tmp_path, ScriptedEngine()) as (companion, client):
        yield companion, client


def added(client, name, content):
    answer = client.post("/api/documents", files=[("files", (name, content))])
    return answer.json()["results"][0]["document"]["doc_id"]


def test_the_file_comes_back_as_it_was_given_and_is_only_saved(door):
    _, client = door
    doc_id = added(client, 'Grüße "x".html', PAGE)
    answer = client.get(f"/api/documents/{doc_id}/original")
    assert answer.status_code == 200
    assert answer.content == PAGE
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "%C3%BC" in answer.headers["content-disposition"]


def test_folders_are_not_part_of_the_name_it_is_saved_under(door):
    companion, client = door
    document = companion.library.add("local", "reports/2024/a.txt", b"Words of 2024.")
    answer = client.get(f"/api/documents/{document.doc_id}/original")
    assert answer.headers["content-disposition"] == 'attachment; filename="a.txt"'


def test_what_is_not_there_or_not_ones_own_is_not_found(door):
    companion, client = door
    other = companion.library.add("somebody", "secret.txt", b"Words of somebody else.")
    deleted = added(client, "a.txt", b"Words.")
    client.delete(f"/api/documents/{deleted}")
    for doc_id in (other.doc_id, deleted, "nothing", "..%2F..%2Fetc%2Fpasswd"):
        answer = client.get(f"/api/documents/{doc_id}/original")
        assert answer.status_code == 404
    kept = added(client, "b.txt", b"Other words.")
    companion.library.original("local", kept).unlink()
    answer = client.get(f"/api/documents/{kept}/original")
    assert answer.status_code == 404
    assert "add it again" in answer.json()["error"]["message"]


def test_a_file_that_cannot_be_kept_is_refused_with_the_reason(door):
    companion, client = door
    companion.settings.originals_dir.write_text("no folder")
    answer = client.post("/api/documents", files=[("files", ("a.txt", b"Words."))])
    assert answer.status_code == 422
    assert "a.txt could not be kept" in answer.json()["results"][0]["error"]["message"]


def test_a_file_is_on_the_disk_under_its_name_before_the_row_that_names_it(door, monkeypatch):
    companion, _ = door
    flushed = []

    def look(folder):
        rows = len(companion.store.documents.list("local"))
        flushed.append((sorted(path.name[-4:] for path in folder.iterdir()), rows))

    monkeypatch.setattr(originals, "flush", look)
    companion.library.accept("local", "a.txt", b"Words.")
    companion.library.accept("local", "a.txt", b"Other words.")
    assert flushed == [([".txt"], 0), ([".txt", ".txt"], 1)]
