"""Deep layers: two for each owner at most, and none that nobody used for a month."""

import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from companion.domain import LOCAL_OWNER, SessionConfig, ThinkingMode
from companion.library.vectors import collection_name
from tests.fakes import FakeDeep
from tests.test_deepening import NOTES, House

ME = LOCAL_OWNER


class Home(House):
    def __init__(self, folder):
        super().__init__(folder)
        self.database = folder / "companion.db"

    def finish(self, name):
        """Deepen the library with an embedder; returns its id."""
        self.choose(name)
        self.until(lambda: self.deep_layer() == self.deep.identity.embedder_id)
        return self.deep_layer()

    def leave(self, embedder_id, days):
        """Have another layer take this one's place so many days ago."""
        left = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
        with sqlite3.connect(self.database) as connection:
            connection.execute("UPDATE layers SET left_at = ? WHERE embedder_id = ?", (left, embedder_id))
        connection.close()

    def talk(self, embed_deep):
        """A conversation that is set to a deep embedder, active at this moment."""
        config = SessionConfig(uuid.uuid4().hex, "", ThinkingMode.RAG, 5, "light", embed_deep, 600)
        return self.store.sessions.create(ME, config.session_id, config).session_id

    def vectors(self, embedder_id):
        return self.store.layers.coverage(embedder_id, ME)[1]

    def indexed(self, embedder_id):
        known = [each.name for each in self.library._index._client.list_collections()]
        return collection_name(embedder_id, ME) in known


@pytest.fixture
def house(tmp_path):
    house = Home(tmp_path)
    yield house
    house.close()


def test_a_third_deep_layer_takes_the_place_of_the_one_that_answers_no_more(house):
    house.add(*NOTES[:5])
    first, second = house.finish("deep-bag"), house.finish("other")
    assert house.vectors(first) == house.vectors(second) == 5
    house.choose("third")
    house.deep.held.set()
    house.until(lambda: house.deep.running)
    assert house.deep_layer() == second, "it answers until the third is whole"
    assert house.vectors(first) == 0
    house.deep.held.clear()
    third = house.finish("third")
    assert house.vectors(second) == house.vectors(third) == 5
    assert not house.indexed(first)
    assert house.indexed(second)
    assert house.indexed(third)
    assert house.library.search(ME, "lighthouse").hits


def test_a_layer_that_was_left_a_month_ago_goes_though_nothing_new_is_to_be_done(house):
    house.add(*NOTES[:5])
    first, second = house.finish("deep-bag"), house.finish("other")
    house.leave(first, days=29)
    house.pass_time(2 * 3600)
    assert house.vectors(first) == 5
    house.leave(first, days=31)
    house.pass_time(2 * 3600)
    assert house.vectors(first) == 0
    assert not house.indexed(first)
    assert house.vectors(second) == 5
    assert [layer.embedder for layer in house.library.deep_layers(ME)] == ["other"]


def test_a_conversation_that_uses_a_layer_keeps_it(house):
    house.add(*NOTES[:5])
    first = house.finish("deep-bag")
    house.finish("other")
    house.leave(first, days=31)
    session_id = house.talk("deep-bag")
    house.library.layers.drop_unused("deep", {house.deep_layer()})
    assert house.vectors(first) == 5
    house.store.sessions.delete(ME, session_id)
    house.library.layers.drop_unused("deep", {house.deep_layer()})
    assert house.vectors(first) == 0


def test_a_model_that_serves_both_layers_loses_the_deep_one_only(house):
    both = FakeDeep()
    both.identity = house.light.identity
    house.embedders["deep-bag"] = both
    house.add(*NOTES[:5])
    house.finish("deep-bag")
    house.finish("other")
    house.leave(both.identity.embedder_id, days=31)
    house.library.layers.drop_unused("deep", {house.deep_layer()})
    assert [layer.embedder for layer in house.library.deep_layers(ME)] == ["other"]
    assert house.library.status(ME).embedded == 5
    assert house.library.search(ME, "lighthouse").hits
