"""How busy is the machine with the work of others? Its graphics card, else its processor.

Knows which of them counts, and the battery. It does not know what is idle, when it is asked, or what is
done about it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

import psutil

from companion.background.gpu import Cards, NoCards, Unanswered
from companion.background.processor import Processor
from companion.domain import CardLoad, MachineLoad

log = logging.getLogger(__name__)


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
