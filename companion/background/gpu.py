"""How busy are the graphics cards with the work of others?

Knows NVML and process ids. It does not know what is idle, when it is asked, or what is done about it.
What it cannot find out is None, never 0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

from companion.domain import CardLoad

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
