"""The words of the Makefile: what they would run, and that migrating really works.

Runs `make -n`, which starts nothing, in a copy of its own, and the command that `make migrate`
stands for.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest

from companion.config import REPOSITORY, child_environment
from companion.storage.database import MIGRATIONS


class Checkout:
    """A folder with our Makefile in which everything counts as installed."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("Makefile", "requirements.txt"):
            shutil.copy(REPOSITORY / name, folder)
        (folder / ".venv" / "bin").mkdir(parents=True)
        for path in (folder / "requirements.txt", self.touched(".venv/bin/pip")):
            os.utime(path, (1000, 1000))
        os.utime(self.touched(".venv/.installed"), (2000, 2000))

    def touched(self, name):
        (self.folder / name).touch()
        return self.folder / name

    def would_run(self, *words):
        """The commands of a target, as make would give them to the shell."""
        # A make around us must not hand us its own flags.
        environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        command = ["make", "--no-print-directory", "-n", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return Checkout(tmp_path)


def test_a_second_start_installs_nothing_and_hands_on_its_options(checkout):
    commands = checkout.would_run("start", "PORT=8123", "DATA_DIR=/x y/z")
    assert "pip install" not in commands
    assert "-m venv" not in commands
    assert re.search(r"companion_app\.py --port .?8123.? --data-dir .?/x y/z", commands), commands
    assert "companion.inference.weights" in commands


def test_a_start_without_options_gives_none(checkout):
    [started] = [line for line in checkout.would_run("start").splitlines() if "companion_app.py" in line]
    assert "--" not in started


def test_changed_requirements_are_installed_at_the_next_start(checkout):
    checkout.touched("requirements.txt")
    commands = checkout.would_run("start")
    assert "-m pip install -r requirements.txt" in commands
    assert commands.index("pip install") < commands.index("companion_app.py")


def test_a_half_made_environment_is_made_again(checkout):
    (checkout.folder / ".venv" / "bin" / "pip").unlink()
    (checkout.folder / ".venv" / ".installed").unlink()
    commands = checkout.would_run("start", f"PYTHON={sys.executable}")
    assert commands.index("-m venv --clear .venv") < commands.index("pip install -r requirements.txt")


def test_torch_can_come_from_another_index(checkout):
    checkout.touched("requirements.txt")
    commands = checkout.would_run("start", "TORCH_INDEX=http://127.0.0.1:9/cpu")
    [torch] = [line for line in commands.splitlines() if "--no-deps" in line]
    assert "http://127.0.0.1:9/cpu" in torch
    assert commands.index("--no-deps") < commands.index("-r requirements.txt")


def test_make_test_hands_on_its_arguments(checkout):
    assert "-m pytest -k search" in checkout.would_run("test", "ARGS=-k search")


def test_make_migrate_prints_the_command_for_the_folder(checkout):
    commands = checkout.would_run("migrate", "DATA_DIR=/x y/z")
    assert re.search(r"python -m companion migrate --data-dir .?/x y/z", commands), commands


def migrate(folder):
    command = [sys.executable, "-m", "companion", "migrate", "--data-dir", str(folder)]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def revision_of(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    finally:
        connection.close()


def newest_revision():
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("0*.py"))


def test_migrating_makes_a_database_of_this_version_and_may_be_done_again(tmp_path):
    folder = tmp_path / "a folder"
    for _ in range(2):
        done = migrate(folder)
        assert done.returncode == 0, done.stderr
        assert str(folder / "companion.db") in done.stdout
        assert revision_of(folder / "companion.db") == newest_revision()


def test_a_database_of_a_later_version_is_left_alone_with_one_sentence(tmp_path):
    assert migrate(tmp_path).returncode == 0
    connection = sqlite3.connect(tmp_path / "companion.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    done = migrate(tmp_path)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert revision_of(tmp_path / "companion.db") == "9999"
