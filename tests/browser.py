"""A real server with the page on it, and a real browser in front: fixtures of the page's tests.

Knows how to start both and what a page must never do. It does not know what is tested.
"""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import until

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    # Whoever needs them asks `require_chromium` first.
    expect = sync_playwright = None
else:
    # On a busy machine Playwright's five seconds are a measurement, not patience.
    expect.set_options(timeout=30_000)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def require_chromium():
    """Skip, unless the tests in a browser are asked for: then what is missing is a failure."""
    missing = CHROMIUM if not CHROMIUM.exists() else None if sync_playwright else "playwright"
    if missing:
        reason = f"{missing} is missing, so the page cannot be tested in a browser"
        if os.environ.get("COMPANION_BROWSER") == "required":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@contextmanager
def serving(companion, settings):
    """The page and its interface on a real port, as the program serves them; gives the address."""
    with serving_page(companion, settings) as (url, _demo):
        yield url


@contextmanager
def serving_page(companion, settings):
    """As `serving`; gives the address and the page."""
    from companion import config, web
    from companion.ui.page import build_page, launch_arguments

    before = os.environ.get("GRADIO_TEMP_DIR")
    config.place_uploads(settings)
    demo = build_page(companion)
    web.launch(demo, companion, settings, **launch_arguments(settings.mode))
    try:
        companion.start()
        yield web.url_of(settings), demo
    finally:
        companion.close()
        demo.server.force_exit = True
        demo.close(verbose=False)
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


@contextmanager
def chromium():
    require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def heard(page, condition):
    """What `condition` gives as soon as that counts as true, while Playwright's own events go on coming."""
    return until(condition, pause=lambda: page.wait_for_timeout(20))


class Watch:
    """What a page did that it should not: errors on the console, requests to other hosts."""

    def __init__(self, context, url):
        self.errors = []
        self.strangers = []
        context.on("page", lambda page: self._join(page, url))

    def _join(self, page, url):
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._see(request.url, url))

    def _note(self, kind, text):
        # Gradio tries to set a <base>; our policy refuses every one of them.
        if kind == "error" and "base URI" not in text:
            self.errors.append(text)

    def _see(self, address, url):
        if not address.startswith((url, "data:", "blob:")):
            self.strangers.append(address)
