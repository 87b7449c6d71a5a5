"""The recipe of an embedder: what a sentence-transformers folder says about its model.

Knows the folder's own files, under old names of keys and new ones. It does not know what runs the
model, or where its weights come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companion.domain import EmbedderIdentity
from companion.errors import EmbedderError

POOLINGS = ("mean", "cls", "lasttoken")
LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Their position table starts after the padding token, so it holds fewer tokens than rows.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a sentence-transformers folder turns the last hidden state into a vector."""

    dimension: int
    max_tokens: int
    """Special tokens included."""
    pooling: str
    """One of `POOLINGS`."""
    query_prompt: str
    passage_prompt: str


def read_recipe(folder: Path) -> Recipe:
    """What the folder's own files say, old key names and new ones. Raises EmbedderError."""
    try:
        return _read_recipe(folder)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EmbedderError(
            f"The files of the embedder {folder.name} do not fit together: choose another."
        ) from error


def _read_recipe(folder: Path) -> Recipe:
    modules = _read_json(folder / "modules.json")
    places = {str(m["type"]).rpartition(".")[2]: folder / m["path"] for m in modules}
    unknown = [kind for kind in places if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown or len(places) != len(modules) or not {"Transformer", "Pooling"} <= places.keys():
        what = f"a {unknown[0]} layer" if unknown else "an unusual order of layers"
        raise EmbedderError(f"The embedder {folder.name} has {what}, which is not supported: choose another.")
    pooling = _read_json(places["Pooling"] / "config.json")
    prompts = _read_json(folder / "config_sentence_transformers.json", missing={}).get("prompts") or {}
    recipe = Recipe(
        dimension=int(pooling.get("embedding_dimension") or pooling["word_embedding_dimension"]),
        max_tokens=_max_tokens(places["Transformer"]),
        pooling=_pooling(pooling, folder.name),
        query_prompt=_prompt(prompts, "query"),
        passage_prompt=_prompt(prompts, "document", "passage", "corpus"),
    )
    if not pooling.get("include_prompt", True) and (recipe.query_prompt or recipe.passage_prompt):
        raise EmbedderError(
            f"The embedder {folder.name} leaves its prompts out of pooling, which is not supported."
        )
    return recipe


def identify(recipe: Recipe, name: str, weights: str, chunker_version: int) -> EmbedderIdentity:
    """The identity of these weights. Rows are always brought to length 1, whatever the folder says."""
    return EmbedderIdentity(
        name=name,
        weight_hash=weights,
        dimension=recipe.dimension,
        max_tokens=recipe.max_tokens,
        pooling=recipe.pooling,
        normalize=True,
        query_prompt=recipe.query_prompt,
        passage_prompt=recipe.passage_prompt,
        chunker_version=chunker_version,
    )


def _pooling(config: Mapping[str, Any], name: str) -> str:
    modes = config.get("pooling_mode") or [mode for key, mode in LEGACY_POOLING.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise EmbedderError(
            f"The embedder {name} pools by {' and '.join(modes) or 'nothing'}: "
            f"choose one with {', '.join(POOLINGS)}."
        )
    return str(modes[0])


def _prompt(prompts: Mapping[str, Any], *names: str) -> str:
    prompt = next((text for name in names if (text := prompts.get(name))), "")
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt that is no text: {prompt!r}")
    return prompt


def _max_tokens(folder: Path) -> int:
    """The smallest of the limits that the folder names; a limit may be missing or absurd (1e30)."""
    config = _read_json(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in OFFSET_POSITIONS:
        positions -= 2
    chosen = _read_json(folder / "sentence_bert_config.json", missing={}).get("max_seq_length")
    if not chosen:
        chosen = _read_json(folder / "tokenizer_config.json", missing={}).get("model_max_length")
    limits = [int(limit) for limit in (chosen, positions) if limit and limit > 0]
    return min([*limits, 8192])


def _read_json(path: Path, missing: Any = None) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise EmbedderError(
            f"The embedder in {path.parent} is incomplete: {path.name} is missing."
        ) from error
    except (OSError, ValueError) as error:
        raise EmbedderError(f"The file {path} cannot be read: fetch the embedder again.") from error
