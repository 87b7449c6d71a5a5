"""Schemathesis sends to every route of both doors what nobody thought of, and holds the answers
against the specification: no server error, no undocumented status, type or shape.

A real server, store and library; only models are scripted. COMPANION_SCHEMATHESIS_EXAMPLES makes it
look longer.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest

from companion.api.examples import MODEL as SHOWN
from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from tests.fakes import MODEL, THINKER, FakeEmbedder, ScriptedEngine
from tests.served import served

EXAMPLES = os.environ.get("COMPANION_SCHEMATHESIS_EXAMPLES", "3")
# Looks at the whole machine, which takes its time, and has no input.
SLOW = "/health/doctor"
# What fits the schema may still be refused: a model that is not there, a file that is no document.
NOT_ASKED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    companion = build(
        Settings(data_dir=tmp_path_factory.mktemp("data"), offline=True, max_upload_mb=1),
        engines=[ScriptedEngine(models=(replace(MODEL, name=SHOWN), THINKER))],
        light=FakeEmbedder(),
    )
    companion.library.add(LOCAL_OWNER, "guide.md", b"# Guide\n\nPress the blue button to add documents.")
    with served(companion) as url:
        yield url
    companion.close()


def strict(address):
    """A specification without the answer that would allow every status."""
    specification = httpx.get(f"{address}/openapi.json", trust_env=False).json()
    for methods in specification["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("default", None)
    return json.dumps(specification)


# Less than a minute on a machine of its own.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("door", ["/api", "/v1"])
def test_every_answer_keeps_to_the_specification(url, tmp_path, door):
    (tmp_path / "specification.json").write_text(strict(url + door))
    looking = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", "specification.json", "--url", url + door,
            "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--generation-deterministic",
            "--exclude-path", SLOW, "--exclude-checks", NOT_ASKED, "--suppress-health-check", "all",
            "--continue-on-failure", "--max-failures", "50", "--no-color",
            "--request-timeout", "120",
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )  # fmt: skip
    assert looking.returncode == 0, looking.stdout[-8000:] + looking.stderr[-2000:]
    assert "passed" in looking.stdout
