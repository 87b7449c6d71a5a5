"""`python -m tests.screenshots`: pictures of the real program for the README, into docs/images.

Its documents are our own, so that everything in the pictures can be looked up. The deep embedder and the
measurement run as they would for anybody; on two cores it takes some minutes.
"""

import json
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

from companion.config import REPOSITORY
from tests.browser import DESKTOP, PHONE, chromium, expect, free_port
from tests.test_stranger import ask, serve, wait_until_ready
from tests.waiting import until

FOLDER = REPOSITORY / "docs" / "images"
DOCUMENTS = [REPOSITORY / "docs" / f"{name}.md" for name in ("operations", "security", "rest", "evaluate")]
QUESTION = "Where does the app keep my data?"
PATIENCE_S = 900
LOOKS = (
    ("chat", {"viewport": DESKTOP, "color_scheme": "light"}),
    ("chat-dark", {"viewport": DESKTOP, "color_scheme": "dark"}),
    ("chat-phone", {"viewport": PHONE, "color_scheme": "light", "has_touch": True}),
)
TABS = (
    ("Documents", ".lc-doc .is-deep"),
    ("Index & GPU", ".lc-runs"),
    ("Quality", "#lc-figures .lc-bars"),
    ("Settings", "#lc-save"),
)


def asked(url, method="GET"):
    with urlopen(Request(url, method=method), timeout=60) as answer:
        return json.load(answer)


def furnish(browser, url):
    """Documents, read by both embedders, and measured; gives the address of a chat about them."""
    page = browser.new_page()
    page.goto(url)
    page.get_by_role("tab", name="Documents").click()
    page.locator("#lc-dropzone input[type=file]").set_input_files(DOCUMENTS)
    expect(page.locator(".lc-doc [data-act=delete]")).to_have_count(len(DOCUMENTS), timeout=120_000)
    expect(page.locator(".lc-state.is-reading")).to_have_count(0, timeout=120_000)
    page.get_by_role("tab", name="Chat").click()
    ask(page, QUESTION)
    session = page.evaluate("new URLSearchParams(location.search).get('session')")
    page.close()
    asked(f"{url}/api/embeddings/index", "POST")
    until(lambda: asked(f"{url}/api/embeddings/status")["why"] == "done", PATIENCE_S, pause_s=2)
    asked(f"{url}/api/quality", "POST")
    until(lambda: asked(f"{url}/api/quality")["latest"], PATIENCE_S, pause_s=2)
    return f"{url}/?session={session}"


def photograph(browser, address, name, look):
    context = browser.new_context(**look, device_scale_factor=1)
    page = context.new_page()
    page.goto(address)
    expect(page.locator(".lc-copy").first).to_be_visible(timeout=60_000)
    # What they say of Ollama was said in the first picture.
    page.get_by_role("button", name="Dismiss").click()
    if look["viewport"] == DESKTOP:
        page.locator(".message-content a[href^='#src-']").last.click()
        expect(page.locator(".lc-card.is-hit")).to_be_visible()
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    if name == "chat":
        page.keyboard.press("Escape")
        for tab, mark in TABS:
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(mark).first).to_be_visible()
            page.screenshot(path=FOLDER / f"{tab.split()[0].lower()}.png", animations="disabled")
    context.close()


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = serve(Path(tempfile.mkdtemp()), port, ollama=f"127.0.0.1:{free_port()}")
    try:
        wait_until_ready(url)
        with chromium() as browser:
            address = furnish(browser, url)
            for name, look in LOOKS:
                photograph(browser, address, name, look)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
