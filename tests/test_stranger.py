"""What a stranger does first: the real program, the real embedder, the real built-in model."""

import json
import re
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from companion.config import REPOSITORY, child_environment
from tests.browser import DESKTOP, Watch, chromium, expect, free_port, heard, require_chromium

pytestmark = [pytest.mark.browser, pytest.mark.weights]

PATIENCE_MS = 120_000


def serve(folder, port, *, ollama):
    environment = {**child_environment(), "OLLAMA_HOST": ollama}
    command = [sys.executable, "companion_app.py", "--port", str(port), "--data-dir", str(folder)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)


def wait_until_ready(url, process=None):
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        if process and process.poll() is not None:
            pytest.fail(f"the program ended with {process.returncode} before it was ready")
        try:
            with urlopen(f"{url}/api/health", timeout=60) as answer:
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
        wait_until_ready(url, process)
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
        ended_with = process.wait(60)
    assert ended_with == 0


def send(page, text):
    page.locator("#lc-box textarea").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("user").last).to_contain_text(text)


def ask(page, text):
    before = page.locator(".lc-copy").count()
    send(page, text)
    expect(page.locator(".lc-copy")).to_have_count(before + 1, timeout=PATIENCE_MS)


def choose_mode(page, label):
    page.locator("#lc-mode input").click()
    page.get_by_role("option", name=label).click()
    expect(page.locator("#lc-mode input")).to_have_value(label)


def new_chat(page):
    page.get_by_role("tab", name="Chat").click()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_visible()


def begin_a_story(page):
    """A free answer of many seconds: without documents nothing binds the model."""
    new_chat(page)
    choose_mode(page, re.compile("Thinking"))
    send(page, "Tell me a long story about a lighthouse and its keeper.")


def said(page):
    """The prose of the answer by now: its lines without the clock, the buttons and the headings."""
    answers = page.get_by_test_id("bot")
    lines = "\n".join(answers.all_inner_texts()[-1:]).splitlines()
    return "\n".join(line for line in lines if len(line) > 20)


def more_than(page, before):
    """Wait until there is more of the answer, and give what stands there."""
    return heard(page, lambda: len(text := said(page)) > len(before) and text)


def open_settings(page):
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#lc-set-top_k input")).to_be_visible()


def test_the_sample_library_answers_with_citations_that_open(page_of_a_stranger):
    page, watch = page_of_a_stranger
    ask(page, "How do I add documents?")
    answer = page.get_by_test_id("bot").last
    expect(answer).to_contain_text("Documents", timeout=PATIENCE_MS)
    page.locator(".message-content a[href^='#src-']").last.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("document", ignore_case=True)
    assert watch.strangers == []
    assert watch.errors == []


def test_a_question_about_the_app_is_answered_from_its_guide(page_of_a_stranger):
    """Before the first document of one's own: from then on the samples are not searched."""
    page, watch = page_of_a_stranger
    new_chat(page)
    ask(page, "What does hybrid do?")
    page.locator(".message-content a[href^='#src-']").first.click()
    expect(page.locator(".lc-card.is-hit")).to_contain_text("thinking-modes.md")
    expect(page.locator(".lc-card.is-hit")).to_contain_text("hybrid", ignore_case=True)
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


def test_an_answer_is_seen_growing_and_goes_on_over_a_reload(page_of_a_stranger):
    page, _ = page_of_a_stranger
    begin_a_story(page)
    expect(page.locator("#lc-box .stop-button")).to_be_visible()
    seen = more_than(page, "")
    for _ in range(3):
        seen = more_than(page, seen)
    expect(page.locator("#lc-box .stop-button")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("user")).to_contain_text("lighthouse")
    expect(page.locator("#lc-box .stop-button")).to_be_visible()
    expect(page.locator("#lc-chat")).to_contain_text(" ".join(seen.split()[:5]))
    expect(page.locator(".lc-copy")).to_have_count(1, timeout=PATIENCE_MS)
    expect(page.locator("#lc-chat")).not_to_contain_text("You stopped this answer.")
    assert said(page)


def test_stop_keeps_what_was_said_and_marks_it(page_of_a_stranger):
    page, _ = page_of_a_stranger
    begin_a_story(page)
    more_than(page, more_than(page, ""))
    page.locator("#lc-box .stop-button").click()
    expect(page.locator("#lc-chat")).to_contain_text("You stopped this answer.")
    kept = said(page)
    page.reload()
    expect(page.locator("#lc-chat")).to_contain_text("You stopped this answer.")
    assert said(page).split() == kept.split()
    expect(page.locator("#lc-box .submit-button")).to_be_visible()


def test_the_mode_of_a_chat_is_kept_over_a_reload(page_of_a_stranger):
    page, _ = page_of_a_stranger
    new_chat(page)
    choose_mode(page, re.compile("Documents"))
    ask(page, "How do I add documents?")
    page.reload()
    expect(page.locator("#lc-mode input")).to_have_value(re.compile("Documents"))


def test_settings_are_kept_and_an_invalid_one_says_why_beside_its_field(page_of_a_stranger):
    page, _ = page_of_a_stranger
    new_chat(page)
    open_settings(page)
    page.locator("#lc-set-top_k input").fill("7")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.reload()
    open_settings(page)
    expect(page.locator("#lc-set-top_k input")).to_have_value("7")
    page.locator("#lc-set-top_k input").fill("0")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-set-top_k .lc-error")).to_contain_text("from 1 to 50")
    expect(page.locator("#lc-saved")).to_contain_text("Not saved")
    # In this tab what was typed stays; another one shows what is stored.
    other = page.context.new_page()
    other.goto(page.url)
    open_settings(other)
    expect(other.locator("#lc-set-top_k input")).to_have_value("7")
