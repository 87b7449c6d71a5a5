"""From a word of the engine until it is visible in Chromium, with sixty messages on the page."""

import asyncio
import tempfile
import time
from pathlib import Path

from companion.domain import LOCAL_OWNER, EngineDone, Token, Usage
from tests.bench.measures import percentile, summary
from tests.browser import expect
from tests.desk import Desk, answered, ask, at_a_desk, session_of

SHOWN = 60
WORDS = 120
EVERY_S = 0.1
WARM = 10
"""Words that are not counted: the page has just been given its messages."""
BAR_MS = 150
QUESTION = "How are the messages of a conversation shown while the next one is being written?"
ANSWER = (
    "The answer of a model, with **some** formatting, `code` and a list.\n\n- one\n- two\n\n" + "Words. " * 70
)

SEEN = """() => {
  window.seen = {};
  let newest = -1;
  const look = () => {
    const said = document.querySelector('#lc-chat').textContent.match(/w\\d+w/g) ?? [];
    const number = Math.max(-1, ...said.slice(-3).map(word => +word.slice(1, -1)));
    if (number <= newest) return;
    newest = number;
    // When the next frame begins, this change is in it.
    requestAnimationFrame(() => { window.seen[number] = performance.timeOrigin + performance.now(); });
  };
  new MutationObserver(look).observe(document.querySelector('#lc-chat'),
    {childList: true, subtree: true, characterData: true});
}"""


class Clockwork:
    """Says a numbered word every tenth of a second, and remembers when."""

    def __init__(self) -> None:
        self.said: dict[int, float] = {}

    async def stream(self, request):
        for number in range(WORDS):
            self.said[number] = time.time() * 1000
            yield Token(f"w{number}w is a word of the answer, ")
            await asyncio.sleep(EVERY_S)
        yield EngineDone("stop", Usage())


def fill(desk: Desk, session_id: str) -> None:
    sessions = desk.companion.store.sessions
    for number in range(SHOWN // 2):
        sessions.add_message(LOCAL_OWNER, session_id, "user", f"{QUESTION} ({number})")
        sessions.add_message(LOCAL_OWNER, session_id, "assistant", ANSWER if number % 2 else "Yes.")


def measured(desk: Desk) -> list[float]:
    """Milliseconds of each word that was seen as the newest one."""
    page = desk.sit_down()
    desk.says("Hello.")
    ask(page, "Hello?")
    answered(page)
    fill(desk, session_of(page))
    clockwork = Clockwork()
    stream, desk.ollama.stream = desk.ollama.stream, clockwork.stream
    try:
        page.reload()
        expect(page.locator("#lc-log .message-row").last).to_be_visible()
        page.evaluate(SEEN)
        ask(page, "And now?")
        page.get_by_role("button", name="Show earlier").click()
        page.wait_for_function(f"document.querySelectorAll('#lc-log .message-row').length >= {SHOWN}")
        page.wait_for_function(f"{WORDS - 1} in window.seen", timeout=60_000)
        seen = page.evaluate("window.seen")
    finally:
        desk.ollama.stream = stream
    return [at - clockwork.said[int(number)] for number, at in seen.items() if int(number) >= WARM]


def run() -> list[str]:
    with at_a_desk(Path(tempfile.mkdtemp())) as desk:
        desk.tidy()
        found = measured(desk)
        desk.leave()
    return [
        f"from word to sight with {SHOWN} messages shown: {summary(found, ' ms')}, "
        f"p95 {percentile(found, 0.95):.0f} ms of {len(found)} words; the bar is {BAR_MS} ms",
    ]
