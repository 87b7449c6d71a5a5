"""What an embedder asks of a machine, before it is chosen: its download, memory and work.

Knows a few that can be suggested, the weights that are here, and what the model hub tells. It does
not know how an embedder runs, how large the library is, or how fast this machine is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from companion.config import Settings
from companion.errors import EmbedderError
from companion.inference import weights
from companion.inference.deep import CARD_CONTEXT_BYTES, PROCESS_BYTES, count_parameters
from companion.inference.hub import ask_hub
from companion.inference.known_weights import find
from companion.inference.recipe import read_recipe


@dataclass(frozen=True, slots=True)
class Suggested:
    """An embedder worth a try. Sizes are about right; what is here is measured."""

    name: str
    size: int
    """Bytes to download."""
    parameters: int
    working: int
    """Parameters that every token passes: all but the table of words."""
    dimension: int
    tokens: int
    """That it reads at once; a longer passage is read in windows."""
    languages: int
    """About; 1: English."""
    light: bool = False
    """Quick enough to embed a document while the person waits."""


# No e5: their folders do not name their prompts. BGE-M3 has no safetensors, Ollama has it all the same.
SUGGESTED = (
    Suggested("all-MiniLM-L6-v2", 91_000_000, 22_700_000, 11_000_000, 384, 256, 1, light=True),
    Suggested(
        "paraphrase-multilingual-MiniLM-L12-v2", 480_000_000, 117_700_000, 21_600_000, 384, 128, 50, True
    ),
    Suggested("all-mpnet-base-v2", 438_000_000, 109_500_000, 86_000_000, 768, 384, 1),
    Suggested("Qwen/Qwen3-Embedding-0.6B", 1_200_000_000, 596_000_000, 440_000_000, 1024, 8192, 100),
    Suggested(
        "Snowflake/snowflake-arctic-embed-l-v2.0", 2_270_000_000, 568_000_000, 303_000_000, 1024, 8192, 74
    ),
    Suggested("ollama:bge-m3", 1_200_000_000, 568_000_000, 303_000_000, 1024, 2048, 100),
    Suggested("ollama:qwen3-embedding:4b", 2_500_000_000, 4_000_000_000, 3_600_000_000, 2560, 2048, 100),
    Suggested("ollama:qwen3-embedding:8b", 4_700_000_000, 7_600_000_000, 6_900_000_000, 4096, 2048, 100),
)


@dataclass(frozen=True, slots=True)
class EmbedderFacts:
    """One embedder, as far as it is known."""

    name: str
    download: int | None
    """Bytes that are still to come; 0: it is here. None: nobody tells."""
    working: int | None = None
    """Parameters that every token passes."""
    memory: int | None = None
    """Bytes it needs on a processor while it works, about."""
    card_memory: int | None = None
    """Bytes it needs on a graphics card."""


def suggested(name: str) -> Suggested | None:
    bare = name.removeprefix("sentence-transformers/")
    return next((each for each in SUGGESTED if each.name == bare), None)


def english_only(name: str) -> bool:
    """Whether an embedder is known to read nothing but English."""
    known = suggested(name)
    return known is not None and known.languages == 1


def embedder_facts(name: str, settings: Settings) -> EmbedderFacts:
    """Of a folder, or of a name; may ask the model hub. Raises EmbedderError for what cannot be used."""
    folder = weights.embedder_here(name, settings)
    if folder is not None:
        return _of_folder(name, folder)
    if settings.offline:
        raise weights.not_here(name)
    known = suggested(name)
    if known is not None and find(name).packages:
        return _facts(name, known.size, known.parameters, known.working)
    size, parameters = ask_hub(name)
    return _facts(name, size, parameters, known.working if known else parameters)


def working_parameters(name: str, settings: Settings) -> int | None:
    """Of an embedder that is here; None if it is not, or not readable."""
    try:
        folder = weights.embedder_here(name, settings)
        return _of_folder(name, folder).working if folder else None
    except EmbedderError:
        return None


def _of_folder(name: str, folder: Path) -> EmbedderFacts:
    read_recipe(folder)
    parameters = count_parameters(folder)
    if not parameters:
        raise EmbedderError(f"The embedder in {folder} has no weights as safetensors: choose another.")
    return _facts(name, 0, parameters, max(parameters - _words(folder), 1))


def _facts(name: str, download: int, parameters: int | None, working: int | None) -> EmbedderFacts:
    if not parameters:
        return EmbedderFacts(name, download)
    memory, card_memory = 4 * parameters + PROCESS_BYTES, 2 * parameters + CARD_CONTEXT_BYTES
    return EmbedderFacts(name, download, working, memory, card_memory)


def _words(folder: Path) -> int:
    """Numbers in the table of words: looked up, not computed with."""
    for place in (folder, folder / "0_Transformer"):
        try:
            config = json.loads((place / "config.json").read_text(encoding="utf-8"))
            return int(config["vocab_size"]) * int(config["hidden_size"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return 0
