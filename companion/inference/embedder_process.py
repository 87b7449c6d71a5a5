"""A child in which torch lives: embeds texts for its parent, and exports an embedder to ONNX.

Knows torch, sentence-transformers and ONNX. It does not know documents or the store: it returns
bytes on stdout and writes nothing but the export; it may be killed at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import psutil

from companion.child import follow_parent, refuse_network
from companion.errors import EmbedderError, EmbedderHindered
from companion.inference.embedders import OnnxEmbedder
from companion.inference.export import (
    EXPORT_FORMAT,
    MODEL_FILE,
    SIDECAR_FILE,
    TOKENIZER_FILE,
    exported,
)
from companion.inference.files import put_in_place, sha256
from companion.inference.frames import ERROR, HINDERED, READY, ROWS, write_frame
from companion.inference.recipe import identify, read_recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from companion.domain import EmbedderIdentity, Vectors

OPSET = 17
SAME_COSINE = 0.9999
LONGEST_CHECK_TOKENS = 700

CARD_TOKENS = 16_384
"""Of one batch on a graphics card, padding included."""
CARD_ROWS = 256
FULL_CARD = "The graphics card has too little free memory for the embedder {name}: choose a smaller one."

SENTENCES = (
    "",
    "yes",
    "What is hybrid mode?",
    "How do I add documents to the library, and who can read them afterwards?",
    "UPPER CASE, lower case; numbers 3.14159 and 1,000,000 — and a dash.",
    "Grüße aus Köln: naïve café, 東京タワー, Ελληνικά, 🙂 emoji.",
    "def embed(texts: list[str]) -> None: ...",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "A passage is a piece of a document of about five hundred tokens; search and citation work on it. " * 4,
    "Rain fell on the harbour while the last ferry waited for nobody in particular.\n\n" * 8,
)


def export(folder: Path, target: Path, weights: str) -> None:
    """Write the folder `target`: model, tokenizer and sidecar, whole or not at all.

    Raises EmbedderError when the model cannot be exported or its vectors differ.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        # Fused attention does not go into an ONNX graph.
        model = _open(folder, "cpu", attn_implementation="eager", dtype="float32")
        recipe = read_recipe(folder)
        # Where the two read different limits, ours is the smaller one and the model follows it.
        model.max_seq_length = recipe.max_tokens
        _write_model(model, partial / MODEL_FILE)
        _write_tokenizer(model, partial / TOKENIZER_FILE)
        embedder = OnnxEmbedder(partial, identify(recipe, folder.name, weights, 0), threads=None)
        cosine = compare(model, embedder)
        _write_sidecar(partial, {"weight_hash": weights, "cosine": cosine, "recipe": asdict(recipe)})
        put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def compare(model: SentenceTransformer, embedder: OnnxEmbedder) -> float:
    """Smallest cosine between both, over texts of all lengths. Raises EmbedderError below .9999."""
    identity = embedder.identity
    length = min(identity.max_tokens, LONGEST_CHECK_TOKENS)
    texts = [*SENTENCES, "word " * (length // 2), "one two three four five. " * (length // 4)]
    pairs = (
        (embedder.embed_passages(texts), identity.passage_prompt, texts),
        (np.stack([embedder.embed_query(text) for text in texts]), identity.query_prompt, texts),
    )
    worst = 1.0
    for ours, prompt, inputs in pairs:
        theirs = model.encode(inputs, prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        if ours.shape != theirs.shape:
            raise EmbedderError(f"The embedder {identity.name} gives another dimension than its folder says.")
        worst = min(worst, float((ours * theirs).sum(axis=1).min()))
    # Written so that a NaN fails, too.
    if not worst >= SAME_COSINE:
        raise EmbedderError(
            f"The embedder {identity.name} gives other vectors here (cosine {worst:.4f}): choose another."
        )
    return worst


# --- serving ----------------------------------------------------------------------------


class TorchEmbedder:
    """An embedder on torch, in half precision on a graphics card."""

    def __init__(self, folder: Path, identity: EmbedderIdentity, device: str) -> None:
        """`device` in torch's words. Raises EmbedderError when it is full or the model no good."""
        from torch import OutOfMemoryError

        self.identity = identity
        try:
            self._model = _open(folder, device, dtype="float32" if device == "cpu" else "float16")
        except OutOfMemoryError as error:
            raise EmbedderHindered(FULL_CARD.format(name=identity.name)) from error
        self._model.max_seq_length = identity.max_tokens

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension), float32, rows of length 1; a text too long is cut."""
        from torch import OutOfMemoryError

        prompt = self.identity.passage_prompt
        ids = self._model.tokenizer([prompt + text for text in texts], verbose=False)["input_ids"]
        rows = max(1, CARD_TOKENS // min(max(map(len, ids)), self.identity.max_tokens))
        try:
            pooled = self._model.encode(
                texts, prompt=prompt, batch_size=min(CARD_ROWS, rows), show_progress_bar=False
            )
        except OutOfMemoryError as error:
            raise EmbedderHindered(FULL_CARD.format(name=self.identity.name)) from error
        # Half precision is too coarse for the length.
        vectors = np.asarray(pooled, np.float32)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def serve(chosen: argparse.Namespace, answers: BinaryIO) -> None:
    """Answer each line on stdin, a JSON list of texts, with a frame of float32 rows, until it ends.

    The first frame says where it runs. Raises EmbedderError when the embedder cannot be opened.
    """
    embedder, device = _open_to_serve(chosen)
    write_frame(answers, READY, device.encode())
    for line in sys.stdin.buffer:
        try:
            write_frame(answers, ROWS, embedder.embed_passages(json.loads(line)).tobytes())
        except EmbedderError as error:
            _refuse(answers, error)


def _refuse(answers: BinaryIO, error: EmbedderError) -> None:
    kind = HINDERED if isinstance(error, EmbedderHindered) else ERROR
    write_frame(answers, kind, error.message.encode())


def _open_to_serve(chosen: argparse.Namespace) -> tuple[OnnxEmbedder | TorchEmbedder, str]:
    """The embedder, and the device it runs on: the processor where torch knows no such card."""
    identity = identify(read_recipe(chosen.folder), chosen.folder.name, chosen.weight_hash, 0)
    if chosen.device != "cpu" and _has_card(chosen.device):
        return TorchEmbedder(chosen.folder, identity, chosen.device), chosen.device
    home = exported(chosen.folder, chosen.weight_hash, chosen.cache_dir)
    return OnnxEmbedder(home, identity, threads=chosen.threads), "cpu"


def _has_card(device: str) -> bool:
    import torch

    kind, _, number = device.partition(":")
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cuda" and int(number or 0) < torch.cuda.device_count()


def _step_back() -> None:
    """The disk is everybody else's first; and where memory ends, this process goes, not the app."""
    with suppress(AttributeError, OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


# --- opening and exporting --------------------------------------------------------------


def _open(folder: Path, device: str, **options: object) -> SentenceTransformer:
    """`options` of the transformer. Raises EmbedderError."""
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, **options},
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        raise EmbedderError(f"The embedder {folder.name} cannot be opened: {_first_line(error)}") from error


def _write_model(model: SentenceTransformer, path: Path) -> None:
    """The transformer alone, to its last hidden state; batch and sequence stay open."""
    import torch

    transformer = cast(torch.nn.Module, model[0].auto_model).eval()
    # Two texts of different length: a mask of ones only would be traced away.
    example = model.tokenizer(["one", "one two three four"], padding=True, return_tensors="pt")
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in example]

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.transformer(**dict(zip(names, inputs, strict=True)))[0]
            return output

    try:
        torch.onnx.export(
            LastHiddenState(),
            tuple(example[name] for name in names),
            str(path),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in (*names, "last_hidden_state")},
            opset_version=OPSET,
            dynamo=False,
        )
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise EmbedderError(f"This kind of model cannot be exported: {_first_line(error)}") from error


def _write_tokenizer(model: SentenceTransformer, path: Path) -> None:
    """As sentence-transformers uses it, which may be more than the folder's file says."""
    tokenizer = model.tokenizer
    if tokenizer.pad_token is not None:
        tokenizer.backend_tokenizer.enable_padding(
            pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
        )
    tokenizer.backend_tokenizer.save(str(path))


def _write_sidecar(folder: Path, facts: dict[str, object]) -> None:
    hashes = {file: sha256(folder / file) for file in (MODEL_FILE, TOKENIZER_FILE)}
    sidecar = {"format": EXPORT_FORMAT, "files": hashes, **facts}
    (folder / SIDECAR_FILE).write_text(json.dumps(sidecar, indent=1), encoding="utf-8")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _claim_stdout() -> BinaryIO:
    """Keep stdout for the answer: what libraries print goes to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """`… export` is started by `embedders.py`, `… serve` by `deep.py`."""
    chosen = _parser().parse_args(arguments)
    follow_parent()
    refuse_network()
    warnings.simplefilter("ignore")
    with _claim_stdout() as answer:
        verb = _export_and_tell if chosen.verb == "export" else _serve_and_tell
        return verb(chosen, answer)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m companion.inference.embedder_process", description=__doc__
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    exporting = verbs.add_parser("export")
    exporting.add_argument("folder", type=Path)
    exporting.add_argument("target", type=Path)
    exporting.add_argument("weight_hash")
    serving = verbs.add_parser("serve")
    serving.add_argument("folder", type=Path)
    serving.add_argument("weight_hash")
    serving.add_argument("cache_dir", type=Path)
    serving.add_argument("--device", default="cpu", help="cpu: ONNX Runtime; cuda:0 or mps: torch")
    serving.add_argument("--threads", type=int)
    return parser


def _export_and_tell(chosen: argparse.Namespace, answer: BinaryIO) -> int:
    try:
        export(chosen.folder, chosen.target, chosen.weight_hash)
    except EmbedderError as error:
        answer.write(json.dumps({"error": error.message}).encode())
        return 1
    answer.write(b"{}")
    return 0


def _serve_and_tell(chosen: argparse.Namespace, answers: BinaryIO) -> int:
    _step_back()
    try:
        serve(chosen, answers)
    except EmbedderError as error:
        _refuse(answers, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
