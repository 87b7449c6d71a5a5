"""`python -m tests.screenshots`: pictures of the real program for the README, into docs/images."""

import tempfile
from pathlib import Path

from companion.config import REPOSITORY
from tests.browser import DESKTOP, PHONE, chromium, expect, free_port
from tests.test_stranger import ask, serve, wait_until_ready

FOLDER = REPOSITORY / "docs" / "images"
QUESTION = "What does hybrid do?"
LOOKS = (
    ("chat", {"viewport": DESKTOP, "color_scheme": "light"}),
    ("chat-dark", {"viewport": DESKTOP, "color_scheme": "dark"}),
    ("chat-phone", {"viewport": PHONE, "color_scheme": "light", "has_touch": True}),
)
TABS = (("Documents", ".lc-doc"), ("Index & GPU", ".lc-layer"), ("Settings", "#lc-save"))


def welcome(browser, url):
    """What somebody sees who has just started the program."""
    page = browser.new_page(viewport=DESKTOP, device_scale_factor=1)
    page.goto(url)
    expect(page.locator(".lc-example").first).to_be_visible(timeout=60_000)
    page.screenshot(path=FOLDER / "welcome.png", animations="disabled")
    page.close()


def photograph(browser, url, session, name, look):
    context = browser.new_context(**look, device_scale_factor=1)
    page = context.new_page()
    page.goto(f"{url}/?session={session}")
    expect(page.locator(".lc-copy").first).to_be_visible(timeout=60_000)
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
            welcome(browser, url)
            page = browser.new_page()
            page.goto(url)
            expect(page.locator(".lc-sessions")).to_be_attached()
            ask(page, QUESTION)
            session = page.evaluate("new URLSearchParams(location.search).get('session')")
            page.close()
            for name, look in LOOKS:
                photograph(browser, url, session, name, look)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
