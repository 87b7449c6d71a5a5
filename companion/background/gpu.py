"""How busy is the machine with the work of others? Its graphics card, else its processor.

Knows NVML, process ids, processor times and the battery. It does not know what is idle, when it
is asked, or what is done about it. What it cannot find out is None, never 0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import psutil

from companion.domain import CardLoad, MachineLoad

log = logging.getLogger(__name__)

# Codes of nvml.h. A foreign package named pynvml may lack the names.
SUCCESS = 0
UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
VERSION_MISMATCH = 18
PACKAGE_MISSING = -1

NO_CARD = "No NVIDIA card was found, so the processor is watched instead."
NO_DRIVER = "The NVIDIA driver is not loaded, so the processor is watched instead."
MEASURING = "How busy the processor is, is being measured."
SENTENCES = {
    PACKAGE_MISSING: "How busy the graphics card is cannot be asked: install requirements.txt again,"
    " the package nvidia-ml-py is missing or another one is in its place.",
    NO_PERMISSION: "The NVIDIA driver does not let this user ask how busy the graphics card is.",
    DRIVER_NOT_LOADED: "The NVIDIA driver is gone; restart the computer if it does not come back.",
    VERSION_MISMATCH: "The NVIDIA driver was updated; restart the computer so that it can be asked"
    " how busy the graphics card is.",
}
CARD_SENTENCES = {
    NOT_SUPPORTED: "{name} does not tell how busy it is.",
    NO_PERMISSION: "The NVIDIA driver does not let this user ask how busy {name} is.",
    GPU_IS_LOST: "The NVIDIA driver lost {name}; restart the computer.",
    RESET_REQUIRED: "{name} needs a reset; restart the computer.",
}
NO_ANSWER = "The NVIDIA driver does not say how busy the graphics card is (error {code})."
NO_ANSWER_OF_CARD = "The NVIDIA driver does not say how busy {name} is (error {code})."
SPLIT = "{name} is split into parts (MIG) and does not tell how busy they are."
HIDDEN = "Whose work keeps {name} busy, its driver does not tell."

SAME_AFTER_NEW_START = frozenset({NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, FUNCTION_NOT_FOUND})
"""What a new start of NVML does not change; all else might be a sleep of the machine."""


class LoadReader:
    """Reads how busy the machine is. For one thread; `close` at the end."""

    def __init__(self) -> None:
        self._cards = Cards()
        self._processor = Processor()
        self._last_notice: str | None = None

    def read(self, own: Collection[int] = (), *, elsewhere: bool = False) -> MachineLoad:
        """The load now; takes milliseconds, raises nothing.

        `own`: process ids of our children that work on the card. `elsewhere`: our work is done by a
        program that is not our child (Ollama), so nothing can be subtracted.
        """
        # Asked each time, so that it knows the last seconds whenever it is needed.
        processor = self._processor.read()
        try:
            load = _of_cards(self._cards.read(own, elsewhere=elsewhere))
        except NoCards as reason:
            load = replace(processor, notice=processor.notice or str(reason))
            if elsewhere:
                load = replace(load, others_percent=None)
        except Unanswered as error:
            load = MachineLoad("gpu", notice=error.sentence())
        self._say(load.notice)
        return replace(load, on_battery=on_battery())

    def free_on(self, card_id: str) -> int | None:
        """Bytes free on a card that was read; nothing else is asked. None if unknown."""
        return self._cards.free_on(card_id)

    def close(self) -> None:
        """Let go of the driver; may be called twice, and a later `read` starts anew."""
        self._cards.close()

    def _say(self, notice: str | None) -> None:
        if notice != self._last_notice:
            log.info("%s", notice or "How busy the machine is can be read again.")
        self._last_notice = notice


def _of_cards(cards: tuple[CardLoad, ...]) -> MachineLoad:
    """The machine is as busy as the largest card that says how busy it is."""
    known = [card for card in cards if card.percent is not None]
    notice = next((card.notice for card in cards if card.notice), None)
    if not known:
        return MachineLoad("gpu", cards=cards, notice=notice)
    # The first of equals, so that the same card is watched each time.
    watched = max(known, key=lambda card: card.memory_total or 0)
    return MachineLoad(
        "gpu",
        percent=watched.percent,
        others_percent=watched.others_percent,
        memory_free=watched.memory_free,
        memory_total=watched.memory_total,
        watched=watched.card_id,
        cards=cards,
        notice=watched.notice or notice,
    )


def on_battery() -> bool:
    """Whether the machine runs on its battery, as far as anybody knows."""
    try:
        battery = psutil.sensors_battery()
    # Not on every system, and some laptops' files say nonsense.
    except (AttributeError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError):
        return False
    return battery is not None and battery.power_plugged is False


# --- graphics cards ---------------------------------------------------------------------


class NoCards(Exception):
    """There is no NVIDIA card to be watched; the text is a sentence for the person."""


class Unanswered(Exception):
    """NVML did not answer."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def sentence(self) -> str:
        return SENTENCES.get(self.code, NO_ANSWER).format(code=self.code)

    def sentence_on(self, card: str) -> str:
        return CARD_SENTENCES.get(self.code, NO_ANSWER_OF_CARD).format(name=card, code=self.code)


class Cards:
    """All NVIDIA cards, by NVML, which stays open between two reads."""

    def __init__(self) -> None:
        self._nvml: ModuleType | None = None
        self._open = False
        self._stale = False
        self._seen = False
        self._samples_until: dict[str, int] = {}
        self._handles: dict[str, Any] = {}

    def read(self, own: Collection[int], *, elsewhere: bool) -> tuple[CardLoad, ...]:
        """One load per card. Raises NoCards and Unanswered."""
        try:
            return self._read_again_after_sleep(own, elsewhere)
        except Unanswered as error:
            if error.code == LIBRARY_NOT_FOUND and not self._seen:
                raise NoCards(NO_CARD) from error
            if error.code == DRIVER_NOT_LOADED and not self._seen:
                raise NoCards(NO_DRIVER) from error
            raise

    def free_on(self, card_id: str) -> int | None:
        handle = self._handles.get(card_id)
        return None if handle is None else self._with_memory(CardLoad(card_id, ""), handle).memory_free

    def close(self) -> None:
        self._handles.clear()
        if self._open:
            self._open = self._stale = False
            try:
                self._ask("nvmlShutdown")
            except Unanswered as error:
                log.debug("NVML did not end: %s", error.code)

    def _read_again_after_sleep(self, own: Collection[int], elsewhere: bool) -> tuple[CardLoad, ...]:
        """After a sleep of the machine NVML wants to be started again, and says so too late."""
        fresh = not self._open
        try:
            return self._read_all(own, elsewhere)
        except Unanswered as error:
            if fresh or error.code in SAME_AFTER_NEW_START:
                raise
            self.close()
            return self._read_all(own, elsewhere)

    def _read_all(self, own: Collection[int], elsewhere: bool) -> tuple[CardLoad, ...]:
        if not self._open:
            self._ask("nvmlInit")
            self._open = True
        count = int(self._ask("nvmlDeviceGetCount"))
        if count == 0:
            # A card that was there and is gone may still be at work for somebody.
            raise Unanswered(DRIVER_NOT_LOADED) if self._seen else NoCards(NO_CARD)
        self._seen = True
        cards = tuple(self._read_one(index, own, elsewhere) for index in range(count))
        if self._stale:
            self.close()
        return cards

    def _read_one(self, index: int, own: Collection[int], elsewhere: bool) -> CardLoad:
        name = f"card {index}"
        try:
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            name = _text(self._ask("nvmlDeviceGetName", handle))
        except Unanswered as error:
            self._start_anew_after(error)
            return CardLoad(str(index), name, notice=error.sentence_on(name))
        card = self._with_memory(CardLoad(self._id(handle, index), name), handle)
        self._handles[card.card_id] = handle
        try:
            percent = _percent(self._ask("nvmlDeviceGetUtilizationRates", handle).gpu)
        except Unanswered as error:
            self._start_anew_after(error)
            split = error.code == NOT_SUPPORTED and self._is_split(handle)
            return replace(card, notice=SPLIT.format(name=name) if split else error.sentence_on(name))
        # Asked each time, so that samples of long ago are not taken for those of now.
        samples = self._samples(handle, card.card_id)
        if not own and not elsewhere:
            return replace(card, percent=percent, others_percent=percent)
        others = None if elsewhere else self._others(handle, samples, own)
        notice = HIDDEN.format(name=name) if others is None else None
        return replace(card, percent=percent, others_percent=others, notice=notice)

    def _start_anew_after(self, error: Unanswered) -> None:
        """UNINITIALIZED is tried again at once; the rest at the next read, for the other cards' sake."""
        if error.code == UNINITIALIZED:
            raise error
        self._stale = self._stale or error.code not in SAME_AFTER_NEW_START

    def _id(self, handle: Any, index: int) -> str:
        try:
            return _text(self._ask("nvmlDeviceGetUUID", handle))
        except Unanswered:
            return str(index)

    def _with_memory(self, card: CardLoad, handle: Any) -> CardLoad:
        try:
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        except Unanswered:
            return card
        return replace(
            card,
            memory_used=int(memory.used),
            memory_free=int(memory.free),
            memory_total=int(memory.total),
        )

    def _is_split(self, handle: Any) -> bool:
        try:
            current, _ = self._ask("nvmlDeviceGetMigMode", handle)
        except Unanswered:
            return False
        return bool(current)

    def _samples(self, handle: Any, card_id: str) -> dict[int, int] | None:
        """Process id to percent of the card since the last call; None where that is not told."""
        since = self._samples_until.get(card_id, 0)
        try:
            samples = self._ask("nvmlDeviceGetProcessUtilization", handle, since)
        except Unanswered as error:
            # Nobody worked, or NVML counted no samples.
            return {} if error.code in (NOT_FOUND, SUCCESS) else None
        samples = sorted(samples, key=lambda sample: int(sample.timeStamp))
        if samples:
            self._samples_until[card_id] = int(samples[-1].timeStamp)
        # Some drivers give nonsense beyond 100 %.
        if any(sample.smUtil > 100 for sample in samples):
            return None
        return {int(sample.pid): int(sample.smUtil) for sample in samples}

    def _others(self, handle: Any, samples: dict[int, int] | None, own: Collection[int]) -> int | None:
        """Percent of the card used by others; None where they cannot be told from us.

        In a container or under WSL the driver names other process ids than ours, or none. So ours
        must be among them, or the numbers are not about the processes that we know.
        """
        if samples is None:
            return None
        known = samples.keys() | set(self._processes(handle))
        if not known.intersection(own):
            return None
        return min(100, sum(percent for pid, percent in samples.items() if pid not in own))

    def _processes(self, handle: Any) -> Iterator[int]:
        """Of everyone on the card, working or not."""
        for kind in ("Compute", "Graphics"):
            for version in ("_v3", "_v2"):
                try:
                    processes = self._ask(f"nvmlDeviceGet{kind}RunningProcesses{version}", handle)
                except Unanswered:
                    continue
                yield from (int(process.pid) for process in processes)
                break

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Call a function of pynvml. The only place where its errors are known."""
        nvml = self._nvml = self._nvml or _pynvml()
        call: Callable[..., Any] | None = getattr(nvml, function, None)
        if call is None:
            raise Unanswered(PACKAGE_MISSING if function == "nvmlInit" else FUNCTION_NOT_FOUND)
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            raise Unanswered(int(error.value)) from error


def _pynvml() -> ModuleType:
    try:
        import pynvml
    except ImportError as error:
        raise Unanswered(PACKAGE_MISSING) from error
    if not hasattr(pynvml, "NVMLError"):
        raise Unanswered(PACKAGE_MISSING)
    module: ModuleType = pynvml
    return module


def _text(value: str | bytes) -> str:
    """Old versions of pynvml give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _percent(value: int) -> int | None:
    """Beyond 100 it is not a percentage, so nothing is known."""
    return int(value) if 0 <= value <= 100 else None


# --- the processor ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds of all cores since the machine started, and of each process of ours."""

    total: float
    busy: float
    own: dict[tuple[int, float], float]


class Processor:
    """The processor's load between two reads, ours subtracted: this process and its children."""

    SHORTEST_S = 0.5
    """A shorter time between two reads counts too few ticks to mean anything."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read_at = clock()
        self._before = _times()
        self._load = MachineLoad("cpu", notice=MEASURING)

    def read(self) -> MachineLoad:
        """Raises nothing. Asked again too soon, it says the same as before."""
        memory = psutil.virtual_memory()
        if self._clock() - self._read_at >= self.SHORTEST_S:
            self._read_at = self._clock()
            before, self._before = self._before, _times()
            self._load = _between(before, self._before)
        return replace(self._load, memory_free=memory.available, memory_total=memory.total)


def _between(before: _Times, after: _Times) -> MachineLoad:
    total = after.total - before.total
    if total <= 0:
        return MachineLoad("cpu", notice=MEASURING)
    busy = after.busy - before.busy
    own = sum(spent - before.own.get(process, 0.0) for process, spent in after.own.items())
    return MachineLoad("cpu", percent=_share(busy, total), others_percent=_share(busy - own, total))


def _share(part: float, whole: float) -> int:
    return round(100 * min(1.0, max(0.0, part / whole)))


def _times() -> _Times:
    now = psutil.cpu_times()
    # Linux counts a guest's time as the user's, too.
    guests = getattr(now, "guest", 0.0) + getattr(now, "guest_nice", 0.0)
    total = sum(now) - guests
    return _Times(total, total - now.idle - getattr(now, "iowait", 0.0), dict(_own_times()))


def _own_times() -> Iterator[tuple[tuple[int, float], float]]:
    """A child that ended between two reads is missing: its last seconds count as another's."""
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            spent, started = process.cpu_times(), process.create_time()
        except psutil.Error:
            continue
        yield (process.pid, started), spent.user + spent.system
