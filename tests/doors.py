"""A whole companion with its HTTP door, in this process: only models and the embedder are stand-ins."""

from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.testclient import TestClient

from companion.api.doors import doors
from companion.app import build
from companion.config import Settings
from tests.fakes import FakeEmbedder


@contextmanager
def opened(folder, engine, **settings):
    """(companion, client) over a data folder."""
    companion = build(
        Settings(data_dir=folder / "data", offline=True, **settings), engines=[engine], light=FakeEmbedder()
    )
    outside = Starlette(routes=doors(companion))
    try:
        yield companion, TestClient(outside, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)
    finally:
        companion.close()
