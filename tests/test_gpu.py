"""How busy the machine is: the real pynvml against a small driver library that is compiled here."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from companion.background.machine_load import on_battery
from companion.background.processor import Processor
from companion.config import REPOSITORY
from tests.waiting import until

READER = """
import dataclasses, json, sys
from companion.background.machine_load import LoadReader
reader = LoadReader()
for line in sys.stdin:
    ask = json.loads(line)
    if ask == "new":
        reader.close()
        reader = LoadReader()
    elif ask == "close":
        reader.close()
    elif isinstance(ask, str):
        print(json.dumps(reader.free_on(ask)), flush=True)
    else:
        print(json.dumps(dataclasses.asdict(reader.read(**ask))), flush=True)
"""

GIB = 1024**3
QUIET = "count 1\n0.name RTX 4090\n0.uuid GPU-a\n0.utilization 3\n0.memory 25769803776 1073741824\n"
BUSY = QUIET.replace("utilization 3", "utilization 80")


def compiled(folder, *options):
    """The library in a folder of its own, where the loader finds it under its real name."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang", "tcc"))), None)
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang or tcc) is here, and the driver's library must be built")
    folder.mkdir()
    source = Path(__file__).with_name("fake_nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", *options, "-o", target, source], check=True, timeout=60)
    return folder


class Machine:
    """A process of its own that sees the driver of a folder; the scenario can be changed meanwhile."""

    def __init__(self, library, scenario, *, path=()):
        self.scenario = scenario
        self.scenario.write_text(QUIET)
        self._process = subprocess.Popen(
            [sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(library),
                "FAKE_NVML": str(scenario),
                "PYTHONPATH": os.pathsep.join([*map(str, path), str(REPOSITORY), *sys.path]),
            },
        )

    def tell(self, what):
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def fresh(self, scenario):
        """A reader that has not asked anything yet, and what the driver will say."""
        self.scenario.write_text(scenario)
        self.tell("new")
        return self

    def read(self, *own, elsewhere=False):
        self.tell({"own": own, "elsewhere": elsewhere})
        return json.loads(self._process.stdout.readline())

    def free_on(self, card):
        self.tell(card)
        return json.loads(self._process.stdout.readline())

    def says(self, scenario, *own, **more):
        self.scenario.write_text(scenario)
        return self.read(*own, **more)

    def calls(self):
        return Path(f"{self.scenario}.calls").read_text().split()

    def end(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("nvml")


@pytest.fixture(scope="module")
def driver(place):
    machine = Machine(compiled(place / "driver"), place / "scenario")
    yield machine
    machine.end()


@pytest.fixture(scope="module")
def old_driver(place):
    machine = Machine(compiled(place / "old", "-DOLD", "-DNO_SAMPLES"), place / "old scenario")
    yield machine
    machine.end()


@pytest.fixture
def without_driver(tmp_path):
    """Not even where this machine has one: the loader finds a file that is no library."""
    (tmp_path / "libnvidia-ml.so.1").write_text("")
    machine = Machine(tmp_path, tmp_path / "scenario")
    yield machine
    machine.end()


def test_free_memory_of_a_card_is_asked_without_anything_else(driver):
    driver.fresh(QUIET).read()
    before = len(driver.calls())
    driver.scenario.write_text(QUIET.replace(" 1073741824", " 2147483648"))
    assert driver.free_on("GPU-a") == 22 * GIB
    assert len(driver.calls()) <= before + 1
    assert driver.free_on("GPU-of-another-machine") is None
    driver.tell("close")
    assert driver.free_on("GPU-a") is None


def test_a_quiet_card_is_read_with_its_memory(driver):
    load = driver.fresh(QUIET).read()
    assert (load["source"], load["percent"], load["others_percent"]) == ("gpu", 3, 3)
    assert (load["memory_total"], load["memory_free"]) == (24 * GIB, 23 * GIB)
    assert load["watched"] == "GPU-a"
    [card] = load["cards"]
    assert (card["name"], card["memory_used"], card["notice"]) == ("RTX 4090", GIB, None)
    assert load["notice"] is None


def test_without_work_of_ours_all_load_is_that_of_others(driver):
    assert driver.fresh(BUSY + "0.samples 7:80@1\n").read()["others_percent"] == 80


def test_our_own_work_is_subtracted(driver):
    load = driver.fresh(BUSY + "0.samples 7:75@1 99:4@1\n0.graphics 99\n0.compute 7\n").read(7)
    assert (load["percent"], load["others_percent"]) == (80, 4)


def test_others_beside_our_work_are_seen(driver):
    load = driver.fresh(BUSY + "0.samples 7:30@1 99:30@2 98:25@3\n").read(7)
    assert load["others_percent"] == 55


def test_our_child_that_only_lies_on_the_card_hides_nothing(driver):
    load = driver.fresh(BUSY + "0.samples 99:70@1\n0.compute 7\n").read(7)
    assert load["others_percent"] == 70


def test_when_nobody_worked_the_driver_finds_no_samples_and_others_are_idle(driver):
    load = driver.fresh(QUIET + "0.samples !6\n0.compute 7\n").read(7)
    assert load["others_percent"] == 0


def test_samples_of_long_ago_are_not_taken_for_now(driver):
    driver.fresh(BUSY + "0.samples 99:70@5\n").read()
    load = driver.says(BUSY + "0.samples 99:70@5 7:80@6\n", 7)
    assert load["others_percent"] == 0


@pytest.mark.parametrize(
    "processes",
    [
        "",  # WSL
        "0.samples !3\n0.compute 7\n",  # not told per process
        "0.samples !4\n0.compute 7\n",  # not told to this user
        "0.samples 40123:80@1\n0.compute 40123\n",  # Docker: process ids of another namespace
        "0.samples 7:4000000@1 99:4@1\n",  # nonsense
    ],
)
def test_where_the_driver_does_not_tell_whose_work_it_is_others_are_unknown(driver, processes):
    load = driver.fresh(BUSY + processes).read(7)
    assert (load["percent"], load["others_percent"]) == (80, None)
    assert load["notice"] == "Whose work keeps RTX 4090 busy, its driver does not tell."


def test_work_that_a_program_like_ollama_does_for_us_cannot_be_told_apart(driver):
    for own in ((), (7,)):
        load = driver.fresh(BUSY + "0.samples 7:5@1 99:4@1\n").read(*own, elsewhere=True)
        assert (load["percent"], load["others_percent"]) == (80, None)


@pytest.mark.parametrize(
    ("utilization", "sentence"),
    [
        ("!3", "RTX 4090 does not tell how busy it is."),
        ("!4", "The NVIDIA driver does not let this user ask how busy RTX 4090 is."),
        ("!15", "The NVIDIA driver lost RTX 4090; restart the computer."),
        ("!16", "RTX 4090 needs a reset; restart the computer."),
        ("!999", "The NVIDIA driver does not say how busy RTX 4090 is (error 999)."),
    ],
)
def test_a_card_that_does_not_say_how_busy_it_is_is_unknown_and_never_idle(driver, utilization, sentence):
    load = driver.fresh(QUIET.replace("utilization 3", f"utilization {utilization}")).read()
    assert (load["source"], load["percent"], load["others_percent"]) == ("gpu", None, None)
    assert load["notice"] == sentence


def test_a_utilization_beyond_100_percent_is_unknown(driver):
    load = driver.fresh(QUIET.replace("utilization 3", "utilization 4000")).read()
    assert (load["percent"], load["others_percent"]) == (None, None)


def test_a_card_that_is_split_into_parts_is_unknown_and_says_so(driver):
    load = driver.fresh(QUIET.replace("utilization 3", "utilization !3") + "0.mig 1\n").read()
    assert load["others_percent"] is None
    assert load["notice"] == "RTX 4090 is split into parts (MIG) and does not tell how busy they are."


def test_unknown_memory_is_unknown_and_the_load_still_known(driver):
    load = driver.fresh(QUIET.replace("0.memory", "0.nothing")).read()
    assert (load["memory_free"], load["others_percent"]) == (None, 3)


THREE = (
    "count 3\n"
    "0.name Small\n0.uuid GPU-s\n0.utilization 90\n0.memory 4000 0\n"
    "1.name Large\n1.uuid GPU-l\n1.utilization 2\n1.memory 24000 0\n"
    "2.name Middle\n2.uuid GPU-m\n2.utilization 50\n2.memory 8000 0\n"
)


def test_of_several_cards_the_largest_is_watched(driver):
    load = driver.fresh(THREE).read()
    assert (load["watched"], load["others_percent"]) == ("GPU-l", 2)
    assert [card["percent"] for card in load["cards"]] == [90, 2, 50]


@pytest.mark.parametrize("what", ["utilization", "handle", "name"])
def test_one_lost_card_of_three_does_not_hide_the_others(driver, what):
    lost = "\n".join(line for line in THREE.splitlines() if not line.startswith(f"0.{what}"))
    driver.fresh(f"{lost}\n0.{what} !15\n")
    for _ in range(2):
        load = driver.read()
        assert (load["watched"], load["others_percent"]) == ("GPU-l", 2)
        assert "restart the computer" in load["cards"][0]["notice"]
        assert load["notice"] == load["cards"][0]["notice"]


def test_the_next_largest_card_is_watched_when_the_largest_is_lost(driver):
    load = driver.fresh(THREE.replace("1.utilization 2", "1.utilization !15")).read()
    assert (load["watched"], load["others_percent"]) == ("GPU-m", 50)


def test_a_driver_that_slept_is_asked_again_at_once(driver):
    driver.fresh(QUIET).read()
    load = driver.says(BUSY + "asleep since noon\n")
    assert (load["others_percent"], load["notice"]) == (80, None)


def test_a_lost_card_that_comes_back_is_read_again(driver):
    driver.fresh(QUIET).read()
    assert driver.says(QUIET.replace("utilization 3", "utilization !15"))["percent"] is None
    before = driver.calls().count("init")
    assert driver.says(QUIET)["percent"] == 3
    assert driver.calls().count("init") == before + 1


def test_the_driver_is_opened_once_for_many_reads_and_closed_at_the_end(driver):
    # An answer says that what was told before has been done.
    driver.fresh(QUIET).read()
    before = driver.calls()
    for _ in range(3):
        driver.read()
    driver.tell("close")
    driver.tell("close")
    assert driver.fresh(QUIET).read()["percent"] == 3
    assert driver.calls()[len(before) :] == ["shutdown", "init"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(18, "was updated; restart the computer"), (4, "does not let this user"), (999, "error 999")],
)
def test_a_driver_that_cannot_be_started_is_unknown_until_it_can(driver, code, words):
    load = driver.fresh(f"init !{code}\n").read()
    assert (load["source"], load["percent"], load["others_percent"]) == ("gpu", None, None)
    assert words in load["notice"]
    assert driver.says(QUIET)["percent"] == 3


@pytest.mark.parametrize("scenario", ["init !9\n", "count 0\n"])
def test_a_machine_without_a_card_at_work_is_judged_by_its_processor(driver, scenario):
    load = driver.fresh(scenario).read()
    assert load["source"] == "cpu"
    assert load["notice"]


@pytest.mark.parametrize("scenario", ["init !9\n", "count 0\n", "count !9\n"])
def test_a_card_that_was_there_and_is_gone_is_not_replaced_by_the_processor(driver, scenario):
    driver.fresh(QUIET).read()
    load = driver.says(scenario + "asleep yes\n")
    assert (load["source"], load["others_percent"]) == ("gpu", None)
    assert load["notice"].startswith("The NVIDIA driver is gone")


def test_without_a_driver_the_processor_is_watched_and_said_so(without_driver):
    without_driver.tell("new")
    first = without_driver.read()
    assert (first["source"], first["others_percent"]) == ("cpu", None)
    assert first["notice"] == "How busy the processor is, is being measured."
    time.sleep(Processor.SHORTEST_S)
    load = without_driver.read()
    assert 0 <= load["others_percent"] <= load["percent"] <= 100
    assert load["notice"] == "No NVIDIA card was found, so the processor is watched instead."
    assert 0 < load["memory_free"] < load["memory_total"]


def test_an_old_driver_tells_who_is_on_the_card_and_not_who_works(old_driver):
    load = old_driver.fresh(BUSY + "0.samples 7:80@1\n0.compute 7\n").read(7)
    assert (load["percent"], load["others_percent"]) == (80, None)
    assert old_driver.says(QUIET)["others_percent"] == 3


def test_processes_are_found_by_the_older_names_of_the_driver(place, tmp_path):
    machine = Machine(compiled(place / "older", "-DOLD"), tmp_path / "scenario")
    try:
        load = machine.fresh(BUSY + "0.samples 99:70@1\n0.compute 7 8 9\n").read(8)
    finally:
        machine.end()
    assert load["others_percent"] == 70


@pytest.mark.parametrize(
    "source", ["", "class NVMLError(Exception): pass\n", "raise ImportError('not for this Python')\n"]
)
def test_another_package_in_the_place_of_pynvml_is_unknown_and_said(driver, tmp_path, source):
    (tmp_path / "pynvml.py").write_text(source)
    machine = Machine(driver.scenario.parent / "driver", tmp_path / "scenario", path=[tmp_path])
    try:
        load = machine.fresh(QUIET).read()
    finally:
        machine.end()
    assert (load["source"], load["others_percent"]) == ("gpu", None)
    assert "nvidia-ml-py" in load["notice"]


# --- the processor ----------------------------------------------------------------------

BURN = "while True: pass"


def looked_beside(process):
    """What the processor says after another's work, and the least share of it that was the other's."""
    whole = sum(psutil.cpu_times())
    processor, before = Processor(), sum(process.cpu_times()[:2])
    until(lambda: sum(process.cpu_times()[:2]) - before > 0.8)
    spent = sum(process.cpu_times()[:2]) - before
    load = processor.read()
    return load, 100 * spent / (sum(psutil.cpu_times()) - whole)


def test_the_work_of_our_own_children_is_subtracted_from_the_processors_load():
    child = subprocess.Popen([sys.executable, "-c", BURN])
    try:
        load, share = looked_beside(psutil.Process(child.pid))
    finally:
        child.kill()
        child.wait()
    assert load.percent - load.others_percent >= share - 6


def test_the_work_of_others_is_not_subtracted_from_the_processors_load():
    """The shell ends at once, so that its child is nobody's."""
    command = f'"{sys.executable}" -c "$0" >/dev/null 2>&1 & echo $!'
    started = subprocess.run(["sh", "-c", command, BURN], capture_output=True, text=True, check=True)
    other = psutil.Process(int(started.stdout))
    try:
        load, share = looked_beside(other)
    finally:
        other.kill()
    assert load.others_percent >= share - 6


def test_two_looks_at_the_processor_in_quick_succession_say_the_same():
    processor = Processor()
    time.sleep(processor.SHORTEST_S)
    first = processor.read()
    assert processor.read().others_percent == first.others_percent is not None


# --- the battery ------------------------------------------------------------------------


@pytest.fixture
def battery(tmp_path, monkeypatch):
    """The real psutil, reading the files of a made-up battery."""
    linux = pytest.importorskip("psutil._pslinux", reason="the battery's files are those of Linux")
    monkeypatch.setattr(linux, "POWER_SUPPLY_PATH", str(tmp_path))

    def put(**files):
        (tmp_path / "BAT0").mkdir()
        for name, content in files.items():
            (tmp_path / "BAT0" / name).write_text(content)

    return put


@pytest.mark.parametrize(
    ("status", "expected"), [("Discharging", True), ("Charging", False), ("Full", False), ("Unknown", False)]
)
def test_a_machine_on_its_battery_is_told_from_one_at_the_mains(battery, status, expected):
    battery(status=status, energy_now="50", energy_full="100", power_now="5", capacity="50")
    assert on_battery() is expected


def test_a_machine_without_a_battery_is_not_on_battery(battery):
    assert not on_battery()


def test_a_battery_whose_files_say_nonsense_is_not_taken_for_one(battery):
    battery(status="?", energy_now="nan", energy_full="x", capacity="")
    assert not on_battery()
