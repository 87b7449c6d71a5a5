"""What a stranger does first: the real program, the real embedder, the real built-in model."""

import json
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from companion.config import REPOSITORY, child_environment
from tests.browser import DESKTOP, Watch, chromium, free_port, require_chromium

pytestmark = [pytest.mark.browser, pytest.mark.weights]

PATIENCE_MS = 120_000


def serve(folder, port, *, ollama):
    environment = {**child_environment(), "OLLAMA_HOST": ollama}
    command = [sys.executable, "companion_app.py", "--port", str(port), "--data-dir", str(folder)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)


def wait_until_ready(url):
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        try:
            with urlopen(f"{url}/api/health", timeout=5) as answer:
                if json.load(answer)["state"] == "ready":
                    return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail("the app was not ready within two minutes")


@pytest.fixture(scope="module")
def page_of_a_stranger(tmp_path_factory, light_folder, builtin_gguf):
    """The program as the README starts it, on a fresh data folder, without Ollama."""
    require_chromium()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = serve(tmp_path_factory.mktemp("stranger"), port, ollama=f"127.0.0.1:{free_port()}")
    try:
        wait_until_ready(url)
        with chromium() as browser:
            context = browser.new_context(viewport=DESKTOP)
            watch = Watch(context, url)
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            expect(page.locator("#lc-box textarea")).to_be_visible()
            yield page, watch
        assert process.poll() is None, "the program is still there"
    finally:
        process.terminate()
        assert process.wait(timeout=15) == 0


def ask(page, text):
    before = page.locator(".lc-copy").count()
    page.locator("#lc-box textarea").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".lc-copy")).to_have_count(before + 1, timeout=PATIENCE_MS)


def choose_mode(page, label):
    page.locator("#lc-mode input").click()
    page.get_by_role("option", name=label).click()


def test_the_sample_library_answers_with_citations_that_open(page_of_a_stranger):
    page, watch = page_of_a_stranger
    ask(page, "How do I add documents?")
    answer = page.get_by_test_id("bot").last
    expect(answer).to_contain_text("Documents", timeout=PATIENCE_MS)
    page.locator(".message-content a[href^='#src-']").last.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("document", ignore_case=True)
    assert watch.strangers == []
    assert watch.errors == []


def test_ones_own_pdf_is_read_and_answers(page_of_a_stranger, shared):
    page, watch = page_of_a_stranger
    page.get_by_role("tab", name="Documents").click()
    pdf = shared / "documents" / "good" / "tracemonkey.pdf"
    page.locator("#lc-dropzone input[type=file]").set_input_files(str(pdf))
    expect(page.locator(".lc-doc", has_text="tracemonkey.pdf")).to_contain_text(
        "Searchable", timeout=PATIENCE_MS
    )
    page.get_by_role("tab", name="Chat").click()
    ask(page, "What does a trace tree record?")
    page.locator(".message-content a[href^='#src-']").last.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("tracemonkey.pdf")
    expect(page.locator(".lc-card.is-hit")).to_contain_text("page", ignore_case=True)
    assert watch.strangers == []
