"""How the app starts when something is missing: it works with what there is, and says what is not."""

import threading
from pathlib import Path

import pytest

from companion.app import build
from companion.config import Settings
from companion.doctor import findings
from companion.doctor.examine import look_at_database, look_at_folder
from companion.domain import LOCAL_OWNER
from companion.errors import FolderLocked
from companion.inference.late_embedder import LateEmbedder
from tests.fakes import FakeEmbedder, ScriptedEngine
from tests.waiting import until


def ready(companion):
    companion.start()
    until(lambda: companion.health().state != "warming", seconds=90)
    return companion.health()


@pytest.fixture
def started(tmp_path):
    running = []

    def start(**more):
        light = more.pop("light", None)
        settings = Settings(data_dir=tmp_path, offline=True, **more)
        companion = build(settings, engines=[ScriptedEngine()], light=light)
        running.append(companion)
        return companion

    yield start
    for companion in running:
        companion.close()


def test_everything_there_is_ready_and_the_samples_are_found(started):
    companion = started(light=FakeEmbedder())
    assert ready(companion).state == "ready"
    assert companion.library.search(LOCAL_OWNER, "How do I add documents?").hits
    assert companion.library.status(LOCAL_OWNER).index == "ready"


def test_without_weights_words_are_searched_and_it_says_why(started, tmp_path):
    companion = started(weights_dir=tmp_path / "nothing")
    health = ready(companion)
    assert health.state == "degraded"
    assert "all-MiniLM-L6-v2" in health.reasons[0]
    result = companion.library.search(LOCAL_OWNER, "How do I add documents?")
    assert "add documents" in result.hits[0].passage.text
    assert "words" in result.notices[0]


@pytest.mark.weights
def test_an_embedder_that_cannot_be_loaded_leaves_the_usual_one_in_force(started, light_folder):
    companion = started(embed_light=str(light_folder), weights_dir=light_folder.parent)
    companion.store.settings.save({"embed_light": "no-such-embedder"})
    health = ready(companion)
    assert health.state == "degraded"
    assert "no-such-embedder" in health.reasons[0]
    assert companion.library.status(LOCAL_OWNER).index == "ready"


def test_a_second_copy_on_the_same_folder_is_refused(started):
    started(light=FakeEmbedder())
    with pytest.raises(FolderLocked, match="Another copy"):
        started(light=FakeEmbedder())


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "empty"])
def test_files_of_a_lost_database_are_set_aside_and_not_swept(started, tmp_path, lose):
    companion = started(light=FakeEmbedder())
    document = companion.library.add(LOCAL_OWNER, "bees.txt", b"Bees make honey.")
    original = companion.library.original(LOCAL_OWNER, document.doc_id).name
    companion.close()
    lose(tmp_path / "companion.db")
    assert look_at_database(tmp_path / "companion.db", tmp_path / "originals").state == "error"
    again = started(light=FakeEmbedder())
    assert ready(again).state == "ready"
    (aside,) = tmp_path.glob("originals.before-*")
    assert (aside / original).read_bytes() == b"Bees make honey."
    finding = findings.leftovers(look_at_folder(tmp_path, in_use=True))
    assert finding.state == "warning"
    assert str(aside) in finding.sentence
    again.close()
    started(light=FakeEmbedder()).close()
    assert list(tmp_path.glob("originals.before-*")) == [aside]


def test_closing_in_the_middle_of_the_start_does_not_wait_for_it(started):
    loading, proceed, loaded = threading.Event(), threading.Event(), []

    def load():
        loading.set()
        proceed.wait(60)
        loaded.append(FakeEmbedder())
        return loaded[0]

    companion = started(light=LateEmbedder(load))
    companion.start()
    assert loading.wait(60)
    companion.close()
    assert loaded == []
    proceed.set()
