"""Opens embedders for the two layers, and says what each would cost on this machine.

Knows which kind of embedder a name means, where its weights are, and what it runs on. It does not
know when it is opened, what is embedded, or who chose it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from companion.config import Settings
from companion.costs import EmbedderCost, LayerName, Machine, Measure, cost_of
from companion.domain import Embedder, MachineLoad
from companion.errors import EmbedderError, InvalidInput, ModelMissing
from companion.inference.deep import ChildEmbedder, DeepEmbedder, count_parameters
from companion.inference.embedder_facts import EmbedderFacts, embedder_facts, working_parameters
from companion.inference.embedders import OnnxEmbedder
from companion.inference.ollama import Ollama
from companion.inference.ollama_embedder import PREFIX as OLLAMA_PREFIX
from companion.inference.ollama_embedder import OllamaEmbedder
from companion.inference.weights import embedder_folder, embedder_here
from companion.library.chunking import CHUNKER_VERSION

if TYPE_CHECKING:
    from companion.inference.catalog import Catalog
    from companion.library.pace import Pace
    from companion.storage.embeddings import EmbeddingStore

MOST_PARAMETERS = 600_000_000
"""Of an embedder that is tried for questions; mpnet has 110 million and takes 15 to 30 ms."""


class Embedding:
    """Embedders of this machine."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        stored: EmbeddingStore,
        pace: Pace,
        load: Callable[[], MachineLoad | None],
    ) -> None:
        """`load`: how the machine was when it was looked at last; None before that."""
        self._settings = settings
        self._catalog = catalog
        self._stored = stored
        self._pace = pace
        self._load = load

    @property
    def card(self) -> bool | None:
        """Whether there is a graphics card for the deep layer; None until somebody looked."""
        load = self._load()
        return None if load is None else load.source == "gpu"

    def open_deep(self, name: str, may_fetch: bool) -> DeepEmbedder:
        """Not yet started. Raises `EmbedderError`."""
        return open_deep(name, self._settings, self._load(), may_fetch=may_fetch)

    async def cost(self, name: str, layer: LayerName) -> EmbedderCost:
        """Of choosing an embedder for a layer. Raises EmbedderError, EngineError and InvalidInput for
        one that cannot be used."""
        return await asyncio.to_thread(self._cost, await self._facts(name), layer)

    async def _facts(self, name: str) -> EmbedderFacts:
        if not name.startswith(OLLAMA_PREFIX):
            return await asyncio.to_thread(embedder_facts, name, self._settings)
        wanted = name.removeprefix(OLLAMA_PREFIX)
        try:
            model = await self._catalog.info(wanted)
        except ModelMissing as error:
            raise ModelMissing(
                f"Ollama does not have {wanted}; download it first, then choose it."
            ) from error
        if "embedding" not in model.capabilities:
            raise InvalidInput(f"{wanted} makes no vectors; choose an embedding model.")
        return EmbedderFacts(name, 0, memory=model.size, card_memory=model.size)

    def _cost(self, facts: EmbedderFacts, layer: LayerName) -> EmbedderCost:
        machine = Machine(psutil.virtual_memory().total, card=bool(self.card))
        passages, tokens = self._stored.missing_of(facts.name)
        measures = [
            Measure(name, speed, working_parameters(name, self._settings))
            for name, speed in self._pace.measured().items()
        ]
        return cost_of(facts, layer, machine, passages, tokens, measures)


def load_embedder(name: str, settings: Settings) -> Embedder:
    """An embedder that runs in this process. Raises `EmbedderError`; may take a minute at first."""
    return OnnxEmbedder.load(
        embedder_folder(name, settings),
        name=name,
        cache_dir=settings.weights_folder / "onnx",
        threads=settings.embed_threads,
        chunker_version=CHUNKER_VERSION,
    )


def open_deep(
    name: str, settings: Settings, load: MachineLoad | None, *, may_fetch: bool = True
) -> DeepEmbedder:
    """A deep embedder, not yet started, for the machine as `load` tells. Raises `EmbedderError`."""
    if name.startswith(OLLAMA_PREFIX):
        return OllamaEmbedder.open(ollama_of(settings), name, chunker_version=CHUNKER_VERSION)
    folder = embedder_here(name, settings)
    if folder is None and not may_fetch:
        raise EmbedderError(
            f"The deep embedder {name} is not downloaded yet: start indexing by hand, which fetches it."
        )
    return ChildEmbedder.open(
        folder or embedder_folder(name, settings),
        name=name,
        cache_dir=settings.weights_folder / "onnx",
        device="cuda" if load and load.source == "gpu" else "cpu",
        card=load.watched if load else None,
        threads=settings.embed_threads,
        chunker_version=CHUNKER_VERSION,
    )


def load_for_questions(name: str, settings: Settings) -> Embedder:
    """A deep embedder in this process, for questions only. Raises `EmbedderError`; fetches nothing,
    and may take a minute at first."""
    if name.startswith(OLLAMA_PREFIX):
        raise EmbedderError(f"{name} runs in Ollama, beside the chat model; choose feedback.")
    folder = embedder_here(name, settings)
    if folder is None:
        raise EmbedderError(f"{name} is not downloaded; start indexing by hand, which fetches it.")
    parameters = count_parameters(folder)
    if parameters > MOST_PARAMETERS:
        raise EmbedderError(
            f"{name} has {parameters / 1e9:.1f} billion parameters, too many for a processor to read a "
            "question quickly; choose feedback, or a smaller deep embedder."
        )
    return OnnxEmbedder.load(
        folder,
        name=name,
        cache_dir=settings.weights_folder / "onnx",
        threads=settings.embed_threads,
        chunker_version=CHUNKER_VERSION,
    )


def ollama_of(settings: Settings) -> Ollama:
    return Ollama(
        settings.ollama_url,
        silence_timeout_s=settings.silence_timeout_s,
        load_timeout_s=settings.load_timeout_s,
    )
