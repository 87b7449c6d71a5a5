"""Where an embedder runs: on the card that is watched, else on the processor."""

import pytest

from companion.config import Settings
from companion.domain import MachineLoad
from companion.embedding import Embedding
from companion.errors import EmbedderError
from companion.inference.catalog import Catalog
from companion.library.pace import Pace
from companion.storage.store import Store
from tests.fakes import ScriptedEngine


@pytest.fixture
def embedding(tmp_path):
    store = Store.open(tmp_path / "companion.db")
    settings = Settings(data_dir=tmp_path, weights_dir=tmp_path / "weights", offline=True)
    embedding = Embedding(
        settings,
        Catalog([ScriptedEngine()]),
        store.embeddings,
        Pace(store.settings),
        lambda: embedding.machine,
    )
    embedding.machine = None
    yield embedding
    store.close()


@pytest.mark.weights
@pytest.mark.parametrize(
    ("machine", "device"),
    [
        (None, "cpu"),
        (MachineLoad("cpu", 10), "cpu"),
        (MachineLoad("gpu", 10, watched="GPU-a"), "cuda"),
        (MachineLoad("gpu", notice="The card does not tell how busy it is."), "cuda"),
    ],
)
def test_a_deep_embedder_runs_on_the_card_if_there_is_one(embedding, tiny_folder, machine, device):
    embedding.machine = machine
    assert embedding.open_deep(str(tiny_folder), may_fetch=False).device == device


def test_until_somebody_looked_nobody_says_that_there_is_no_card(embedding):
    assert embedding.card is None
    embedding.machine = MachineLoad("cpu", 10)
    assert embedding.card is False
    embedding.machine = MachineLoad("gpu", 10, watched="GPU-a")
    assert embedding.card is True


def test_weights_that_are_not_here_are_fetched_only_when_a_person_asks(embedding):
    with pytest.raises(EmbedderError, match="start indexing by hand, which fetches it"):
        embedding.open_deep("all-mpnet-base-v2", may_fetch=False)
