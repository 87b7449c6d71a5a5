"""The REST guide is true: each of its commands and programs is run, against a real server with a
scripted model.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from companion.app import build
from companion.config import REPOSITORY, Settings
from tests.fakes import MODEL, FakeEmbedder, ScriptedEngine
from tests.served import served

GUIDE = (REPOSITORY / "docs" / "rest.md").read_text(encoding="utf-8")
HERE = "http://127.0.0.1:7860"
REPORT = "# Report\n\nThe notice period is three months."


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    companion = build(
        Settings(data_dir=tmp_path_factory.mktemp("data"), offline=True),
        engines=[ScriptedEngine(models=[replace(MODEL, name="llama3.2:latest")])],
        light=FakeEmbedder(),
    )
    with served(companion) as url:
        yield url
    companion.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("report", "notes", "later", "corrected"):
        (folder / f"{name}.md").write_text(f"{REPORT} This is the file {name}.")
    return folder


@pytest.fixture(scope="module")
def environment(url):
    """What the guide's variables stand for."""
    with httpx.Client(base_url=f"{url}/api", trust_env=False, timeout=60) as client:
        session_id = client.post("/sessions").json()["session_id"]
        answer = client.post("/documents", files={"files": ("first.md", REPORT)}).json()
        document = answer["results"][0]["document"]
        passage = client.get(f"/documents/{document['doc_id']}").json()["passages"][0]
        asked = client.post(
            f"/sessions/{session_id}/messages",
            json={"content": "What is the notice period?"},
            headers={"Accept": "text/event-stream"},
        )
    return {
        **os.environ,
        "NO_PROXY": "*",
        "api": f"{url}/api",
        "v1": f"{url}/v1",
        "json": "Content-Type: application/json",
        "id": session_id,
        "doc": document["doc_id"],
        "chunk": passage["chunk_id"],
        "last": re.findall(r"^id: (\S+)", asked.text, flags=re.MULTILINE)[0],
    }


def test_the_guide_has_commands_for_both_doors():
    assert len(COMMANDS) > 25
    assert any("$v1/chat/completions" in command for command in COMMANDS)


# In their order: some build on what others did.
def test_each_command_of_the_guide_does_what_it_should(environment, folder):
    if not shutil.which("curl") or not shutil.which("bash"):
        pytest.skip("curl or bash is missing, so the guide's commands cannot be run")
    # The one that goes on after an event must come before the next question takes its place.
    commands = sorted(COMMANDS, key=lambda command: "$last" not in command)
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("program", blocks("python"))
def test_each_program_of_the_guide_runs(url, environment, program):
    assert HERE in program
    done = subprocess.run(
        [sys.executable, "-c", program.replace(HERE, url)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "I do not know." in done.stdout
    assert re.search(r"^1 \w+\.md$", done.stdout, flags=re.MULTILINE)
