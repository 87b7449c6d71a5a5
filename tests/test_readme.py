"""The README is true: its settings, its commands, its routes and the files it points at.

Reads README, Makefile, Settings and the routes. It does not know what any of them does.
"""

import re
from enum import Enum
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from companion.api.app import create_api
from companion.app import build
from companion.config import Settings
from tests.fakes import FakeEmbedder

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLES = sorted((REPOSITORY / "data" / "sample").iterdir())
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def shown_default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "the user's data folder"
    if field.default in (None, ""):
        return "–"
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table_row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | `COMPANION_{name.upper()}` | {shown_default(field)} | {field.description} |"


def words_of_make(text: str) -> set[str]:
    """Targets in commands: `make word` in backticks or at the start of a line."""
    return set(re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_readme_lists_each_setting_with_its_variable_default_and_meaning(name):
    assert table_row(name, Settings.model_fields[name]) in README.splitlines()


def test_the_readme_lists_no_setting_that_does_not_exist():
    listed = re.findall(r"^\| `([a-z_]+)` \| `COMPANION_", README, flags=re.MULTILINE)
    assert listed == list(Settings.model_fields)


def test_each_make_word_of_the_readme_and_the_guide_is_a_target():
    guide = "\n".join(path.read_text(encoding="utf-8") for path in SAMPLES)
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    words = words_of_make(README) | words_of_make(guide.replace('"', "`"))
    assert {"start", "test"} <= words <= targets


def test_each_target_is_explained_in_the_readme():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    assert targets <= words_of_make(README)


def test_the_torch_version_in_the_readme_is_the_pinned_one():
    pinned = re.search(r"^torch==\S+", (REPOSITORY / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert pinned
    assert set(re.findall(r"torch==[\d.]+", README)) == {pinned.group()}


def test_each_requirement_is_an_exact_version():
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    loose = [line for line in requirements if not re.match(r"[\w.-]+==[\w.]+(\s|$)", line)]
    assert not loose


def test_the_files_and_images_that_the_readme_links_to_exist():
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    ours = [link.partition("#")[0] for link in links if not re.match(r"https?://|#", link)]
    assert "CHANGELOG.md" in ours
    assert any(link.endswith(".png") for link in ours)
    missing = [link for link in ours if not (REPOSITORY / link).is_file()]
    assert not missing


def test_the_files_that_the_readme_names_exist():
    plan = README.partition("## The floor plan")[2].partition("```\n")[2].partition("```")[0]
    named = re.findall(r"^(?:[├└]── )?([\w/]+(?:\.py|/))", plan, flags=re.MULTILINE)
    assert "storage/" in named
    folders = (REPOSITORY, REPOSITORY / "companion")
    missing = [name for name in named if not any((folder / name).exists() for folder in folders)]
    assert not missing


def routes_of_the_table():
    """(method, path) of each row."""
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/api/[^`]*)` \|", README, flags=re.MULTILINE)
    return {(method, path) for methods, path in rows for method in methods.split(", ")}


@pytest.fixture
def routes(tmp_path):
    """(method, path) of each route in the specification."""
    companion = build(Settings(data_dir=tmp_path, offline=True), engines=[], light=FakeEmbedder())
    try:
        paths = create_api(companion).openapi()["paths"]
    finally:
        companion.close()
    return {(method.upper(), f"/api{path}") for path, methods in paths.items() for method in methods}


def test_each_route_stands_in_the_readme(routes):
    assert sorted(routes - routes_of_the_table()) == []


def test_the_readme_lists_no_route_that_does_not_exist(routes):
    assert sorted(routes_of_the_table() - routes) == []
