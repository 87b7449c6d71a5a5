"""Scripts and styles of the page: each is used, each can be read by a browser, none holds anything dead."""

import re
import shutil
import subprocess

import pytest

from companion.ui.here import ASSETS
from companion.ui.page import STYLES

FILES = sorted(path for path in ASSETS.iterdir() if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
SHEETS = [path for path in FILES if path.suffix == ".css"]
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ASSETS.parent.rglob("*.py")))
READ = CODE + "\n".join(path.read_text(encoding="utf-8") for path in FILES if path.suffix in (".js", ".html"))
WIDEST = 230


def style(path):
    """Without comments, and without what stands in quotes."""
    bare = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"'[^'\n]*'", "''", bare)


def look():
    return "\n".join(map(style, SHEETS))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_is_used(path):
    assert f'"{path.name}"' in CODE or f"'{path.name}'" in CODE or path.stem in STYLES


def test_each_style_sheet_is_part_of_the_look():
    assert sorted(STYLES) == [path.stem for path in SHEETS]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_each_script_parses(path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing; the page's tests in the browser run the scripts")
    checked = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", SHEETS, ids=lambda path: path.name)
def test_each_style_sheet_is_whole(path):
    depth = 0
    for mark in re.findall(r"[{}]", style(path)):
        depth += 1 if mark == "{" else -1
        assert 0 <= depth <= 2
    assert depth == 0
    for body in re.findall(r"\{([^{}]*)\}", style(path)):
        for declaration in filter(str.strip, body.split(";")):
            assert re.fullmatch(r"\s*(--)?[a-z-]+\s*:\s*[^:]+", declaration), declaration


@pytest.mark.parametrize("path", SCRIPTS + SHEETS, ids=lambda path: path.name)
def test_lines_can_be_read(path):
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= WIDEST


def test_each_colour_and_measure_is_defined_and_used():
    defined = set(re.findall(r"(--lc-[\w-]+)\s*:", look()))
    assert defined == set(re.findall(r"var\((--lc-[\w-]+)", look()))


def test_no_rule_is_for_something_that_the_page_does_not_have():
    named = set(re.findall(r"[.#](lc-[\w-]+)", look()))
    assert [name for name in sorted(named) if not re.search(rf"\b{name}(?![\w-])", READ)] == []


def test_each_icon_that_is_used_is_drawn():
    drawn = set(re.findall(r'<symbol id="lc-i-(\w+)"', READ))
    asked = set(re.findall(r'"#lc-i-(\w+)"', READ)) | set(re.findall(r'\bicon\("(\w+)"\)', CODE))
    asked |= set(re.findall(r'\bact\("\w+", "(\w+)"', CODE))
    assert asked <= drawn
