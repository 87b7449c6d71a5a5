"""How soon the first page is there, against a bare Gradio page in the same run; how soon somebody can
use it; and how soon the first answer with a citation is there.
"""

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from tests.bench.measures import alternate, ratios, summary
from tests.browser import DESKTOP, chromium, free_port
from tests.test_stranger import serve, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
VISITS = 7
USABLE_S = 1.2
ANSWERS = 3
ANSWER_S = 60
CITATION = re.compile(r"\[\d+\]")
QUESTION = "How do I add documents?"
BARE = """
import os; os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
with gr.Blocks() as demo:
    gr.Chatbot(); gr.Textbox()
demo.launch(server_port={port}, ssr_mode=False, quiet=True)
"""


# The list of chats comes with the first view from the server: from then on a question is sent at once.
USABLE = """() => {
  const shown = selector => document.querySelector(selector)?.checkVisibility();
  const look = () => {
    if (shown('.lc-sessions') && shown('#lc-box textarea')) window.usable = performance.now();
    else requestAnimationFrame(look);
  };
  look();
}"""


def until_served(command: list[str], port: int) -> float:
    """Seconds from the start of the process to the first page."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < 60:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/")
                if connection.getresponse().status == 200:
                    return time.perf_counter() - started
            except OSError:
                time.sleep(0.01)
        raise SystemExit("no page within a minute")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def running(folder: Path):
    """The program as `make start` starts it, without Ollama; its address."""
    port = free_port()
    process = serve(folder, port, ollama=f"127.0.0.1:{free_port()}")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def until_usable(url: str, browser) -> float:
    """Seconds from the start of a navigation, in a browser that has never seen the page."""
    context = browser.new_context(viewport=DESKTOP)
    context.add_init_script(f"({USABLE})()")
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_function("window.usable", timeout=30_000)
    taken = page.evaluate("window.usable")
    context.close()
    return taken / 1000


def usable_after() -> list[float]:
    with running(Path(tempfile.mkdtemp())) as url, chromium() as browser:
        wait_until_ready(url)
        until_usable(url, browser)
        return [until_usable(url, browser) for _ in range(VISITS)]


def until_cited() -> float:
    """Seconds from the first command of `make start` on an installed clone, on a new data folder."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "companion.inference.weights"], cwd=ROOT, check=True)
    with running(Path(tempfile.mkdtemp())) as url:
        while time.perf_counter() - started < 2 * ANSWER_S:
            if CITATION.search(asked(url)["content"]):
                return time.perf_counter() - started
    raise SystemExit("no answer with a citation")


def asked(url: str) -> dict:
    """An answer over REST; an empty one as long as nobody serves."""
    try:
        session = posted(f"{url}/api/sessions", {})["session_id"]
        return posted(f"{url}/api/sessions/{session}/messages", {"content": QUESTION})
    except OSError:
        time.sleep(0.05)
        return {"content": ""}


def posted(url: str, body: dict) -> dict:
    request = Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=ANSWER_S) as answer:
        return json.load(answer)


def run() -> list[str]:
    folder = Path(tempfile.mkdtemp())

    def ours() -> float:
        port = free_port()
        return until_served(
            [sys.executable, "companion_app.py", "--port", str(port), "--data-dir", str(folder)], port
        )

    def bare() -> float:
        port = free_port()
        return until_served([sys.executable, "-c", BARE.format(port=port)], port)

    pairs = alternate(ours, bare, 5)
    usable, cited = usable_after(), [until_cited() for _ in range(ANSWERS)]
    return [
        f"first page: {summary((one for one, _ in pairs), ' s')}",
        f"first page of bare Gradio: {summary((bare for _, bare in pairs), ' s')}",
        f"first page, ratio: {ratios(pairs)}; the bar is 1.3",
        f"page usable, from navigation: {summary(usable, ' s')} of {VISITS}; the bar is {USABLE_S} s",
        f"first cited answer, from `make start`: {summary(cited, ' s')}; the bar is {ANSWER_S} s",
    ]
