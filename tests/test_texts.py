"""All that the page says stands in one file, which another language can say in part."""

import ast
import gc
import json
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from companion.app import build
from companion.config import Settings
from companion.domain import DocumentState, ThinkingMode
from companion.ui import texts
from companion.ui.render.index import index_layers
from tests.fakes import FakeEmbedder
from tests.sources import tree_of

UI = Path(texts.__file__).parent
ASSETS = UI / "assets"
ENGLISH = json.loads((texts.LOCALES / "en.json").read_text(encoding="utf-8"))
KEY = re.compile(r"[a-z_]+(\.[a-z_0-9]+)+")
FILE = re.compile(r".*\.(js|css|html|svg|json)")
SCRIPTS = sorted(ASSETS.glob("*.js"))
MARKUP = sorted(ASSETS.glob("*.html"))
MODULES = sorted(UI.rglob("*.py"))


def is_key(string):
    return KEY.fullmatch(string) and not FILE.fullmatch(string)


def said_by(tree):
    """The strings of a module without its docstrings; of an f-string, `\\0` stands for a value."""
    quiet = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in quiet | parts:
            yield node.value


@cache
def strings():
    return {string for path in MODULES for string in said_by(tree_of(path.read_text(encoding="utf-8")))}


def asked_by_assets():
    found = {key for path in SCRIPTS for key in re.findall(r"lcText\('([^']+)'", path.read_text())}
    return found | {key for path in MARKUP for key in re.findall(r"\{\{(\w+\.[\w.]+)\}\}", path.read_text())}


def patterns():
    """Keys that are put together, as `state.*`."""
    together = [string for string in strings() if "\0" in string and is_key(string.replace("\0", "x"))]
    return [re.compile(re.escape(string).replace("\0", r"[a-z_]+")) for string in together]


def places(entry):
    """Of each form, the names that stand for values."""
    forms = entry if isinstance(entry, dict) else {"": entry}
    return {form: set(re.findall(r"\{(\w+)\}", said)) for form, said in forms.items()}


@pytest.fixture
def german(tmp_path):
    (tmp_path / "en.json").write_text(json.dumps(ENGLISH), encoding="utf-8")
    own = {
        "chat.copy": "Kopieren", "number.group": ".", "number.point": ",",
        "count.document": {"one": "{n} Dokument", "other": "{n} Dokumente"},
    }  # fmt: skip
    (tmp_path / "de.json").write_text(json.dumps(own), encoding="utf-8")
    texts.choose("de", tmp_path)
    yield
    texts.choose("en")


def test_each_key_that_the_code_asks_for_exists():
    asked = set(filter(is_key, strings()))
    assert asked | asked_by_assets() <= set(ENGLISH)
    for pattern in patterns():
        assert any(map(pattern.fullmatch, ENGLISH)), pattern.pattern


def test_each_key_is_asked_for():
    asked, together = strings() | asked_by_assets(), patterns()
    spare = [key for key in ENGLISH if key not in asked and not any(p.fullmatch(key) for p in together)]
    assert spare == []


@pytest.mark.parametrize(
    "key",
    [f"state.{state}" for state in DocumentState]
    + [f"mode.{mode}" for mode in ThinkingMode]
    + [f"stage.{stage}" for stage in ("waiting", "reading", "embedding")]
    + [f"pill.{state}" for state in ("ready", "warming", "degraded")]
    + [f"index.search.{state}" for state in ("opening", "ready", "exact")],
)
def test_each_state_has_a_word(key):
    assert texts.text(key)


def test_scripts_are_given_values_for_what_they_say_and_no_plurals():
    for path in SCRIPTS:
        for key, given in re.findall(r"lcText\('([^']+)'(?:, \{([^}]*)\})?\)", path.read_text()):
            names = {part.split(":")[0].strip() for part in given.split(",") if part.strip()}
            assert places(ENGLISH[key]) == {"": names}, key


def test_no_sentence_is_left_in_the_code():
    plain = {string for string in strings() if re.search(r"[A-Z][a-z]+ [a-z]+", string)}
    markup = {string for string in strings() if "<" in string and "</" in string}
    bare = {string for string in markup if re.search(r"[a-z]{3}", re.sub(r"<[^>]*>", "", string))}
    assert {string for string in plain | bare if not string.startswith("There are no texts in")} == set()


@pytest.mark.parametrize("path", MARKUP, ids=lambda path: path.name)
def test_no_word_is_left_in_the_markup(path):
    markup = re.sub(r"\{\{[\w.]+\}\}", "", path.read_text(encoding="utf-8"))
    named = re.findall(r'(?:title|placeholder|aria-label)="([^"]*)"', markup)
    assert not re.search(r"\w", re.sub(r"<[^>]*>", "", markup) + "".join(named))


@pytest.mark.parametrize("path", sorted(texts.LOCALES.glob("*.json")), ids=lambda path: path.stem)
def test_a_translation_knows_the_same_keys_and_values(path):
    own = json.loads(path.read_text(encoding="utf-8"))
    assert set(own) <= set(ENGLISH)
    for key, entry in own.items():
        assert places(entry) == places(ENGLISH[key]), key


def test_what_is_counted_has_one_form_for_one_and_one_for_more():
    assert texts.text("count.document", n=1) == "1 document"
    assert texts.text("count.document", n=0) == "0 documents"
    assert texts.text("count.document", n=12345) == "12,345 documents"


@pytest.mark.usefixtures("german")
def test_a_half_translated_language_falls_back_to_english():
    assert texts.text("chat.copy") == "Kopieren"
    assert texts.text("chat.copied") == "Copied"
    assert texts.text("count.document", n=12345) == "12.345 Dokumente"
    assert texts.number(0.5, 2) == "0,50"


@pytest.mark.usefixtures("german")
def test_the_scripts_speak_the_language_of_the_page():
    said = json.loads(texts.for_scripts())
    assert said["chat.copy"] == "Kopieren"
    assert set(said) == set(ENGLISH)


def test_a_language_without_texts_is_english(tmp_path):
    assert texts.load("xx") == ENGLISH


def test_values_of_others_stay_text():
    evil = "</script><b>{name}{{x}}"
    assert texts.text("documents.deleted", name=evil) == f"{evil} is deleted."
    assert "<" not in texts.html_text("documents.deleted", name=evil)
    assert "<b>" not in texts.filled("<i>{{value}}</i>", {"value": evil})


def test_texts_cannot_end_the_script_they_stand_in(tmp_path):
    (tmp_path / "en.json").write_text(json.dumps({"a.b": "</script><b>"}))
    texts.choose("en", tmp_path)
    try:
        assert "<" not in texts.for_scripts()
        assert json.loads(texts.for_scripts())["a.b"] == "</script><b>"
    finally:
        texts._texts.pop("a.b")


@pytest.mark.filterwarnings("ignore")
def test_no_element_of_the_page_shows_a_key(tmp_path):
    from companion.ui.page import build_page

    companion = build(Settings(data_dir=tmp_path, offline=True), engines=[], light=FakeEmbedder())
    try:
        page = build_page(companion)
        shown = [shown_by(block["props"]) for block in page.get_config_file()["components"]]
        shown.append(index_layers(companion.library.status("local"), now=datetime.now(UTC)))
    finally:
        companion.close()
        # Collected later, in the middle of an import, the page makes Python 3.11's parser fail.
        page = None
        gc.collect()
    everything = "\n".join(shown)
    assert "Show earlier messages" in everything
    assert "Search chats" in everything
    assert "How many passages of your documents" in everything
    keys = [key for key in ENGLISH if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", everything)]
    assert keys == []
    assert not re.search(r"\{\{|\{\w+\}", everything)


def shown_by(props):
    return "\n".join(str(props.get(name)) for name in ("value", "label", "info", "placeholder", "choices"))
