"""The model hub: what it says of weights, and how they come from there.

Knows the hub's protocol, and that a machine may not reach it. It does not know where weights are kept.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import RevisionResolutionError, XetDownloadError

from companion.errors import WeightsMissing
from companion.inference.files import sha256
from companion.inference.known_weights import Weights, check, find, wants

PROBE_TIMEOUT_S = 3.0
HUB_TIMEOUT_S = 10.0
HUB_ERRORS = (OSError, ValueError, httpx2.HTTPError, RevisionResolutionError, XetDownloadError)


def ask_hub(name: str) -> tuple[int, int | None]:
    """Bytes that fetching would download, and parameters if the hub knows. Raises WeightsMissing."""
    weights = find(name)
    _require_hub(name)
    try:
        info, wanted = _hub_entry(weights)
    except HUB_ERRORS as error:
        raise _not_given(weights) from error
    size = sum(entry.size or 0 for entry in info.siblings or () if entry.rfilename in wanted)
    return size, info.safetensors.total if info.safetensors else None


def from_hub(weights: Weights, tree: Path) -> str:
    """Fill `tree`; returns the source's name. Raises WeightsMissing."""
    _require_hub(weights.name)
    try:
        revision, hashes = _hub_files(weights)
        snapshot_download(
            weights.repository,
            revision=revision,
            local_dir=tree,
            endpoint=constants.ENDPOINT,
            token=False,
            etag_timeout=HUB_TIMEOUT_S,
            allow_patterns=list(hashes),
        )
    except HUB_ERRORS as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise _not_given(weights) from error
    shutil.rmtree(tree / ".cache", ignore_errors=True)
    for file, expected in hashes.items():
        if not (tree / file).is_file() or (expected is not None and sha256(tree / file) != expected):
            raise WeightsMissing(
                f"The file {file} of {weights.repository} came damaged from the model hub: try again."
            )
    check(weights, tree)
    return f"{weights.repository}@{revision}"


def _require_hub(name: str) -> None:
    if not _hub_answers():
        raise WeightsMissing(
            f"The model hub cannot be reached, so {name} could not be fetched: connect and try again."
        )


def _not_given(weights: Weights) -> WeightsMissing:
    return WeightsMissing(f"The model hub did not give {weights.repository}: check the name and try again.")


def _hub_answers() -> bool:
    """A machine without the hub finds out here in seconds, not in minutes of retries."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        return (
            httpx2.head(constants.ENDPOINT, timeout=PROBE_TIMEOUT_S, follow_redirects=True).status_code < 400
        )
    except (httpx2.HTTPError, httpx2.InvalidURL):
        return False


def _hub_files(weights: Weights) -> tuple[str, dict[str, str | None]]:
    """The commit, and the wanted files with the sha256 that the hub knows (large ones only)."""
    info, wanted = _hub_entry(weights)
    if info.sha is None:
        raise ValueError("the hub names no commit")
    return info.sha, wanted


def _hub_entry(weights: Weights) -> tuple[ModelInfo, dict[str, str | None]]:
    api = HfApi(endpoint=constants.ENDPOINT, token=False)
    info = api.model_info(
        weights.repository, revision=weights.revision, files_metadata=True, timeout=HUB_TIMEOUT_S
    )
    siblings = {sibling.rfilename: sibling.lfs for sibling in info.siblings or ()}
    wanted = {
        file: lfs.sha256 if lfs is not None else None
        for file, lfs in siblings.items()
        if wants(weights, file)
    }
    if not weights.is_file and (
        "modules.json" not in wanted or not any(f.endswith(".safetensors") for f in wanted)
    ):
        raise WeightsMissing(
            f"{weights.repository} is no sentence-transformers model with safetensors: choose another."
        )
    return info, wanted
