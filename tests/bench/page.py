"""How soon the first page is there, against a bare Gradio page in the same run."""

import http.client
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measures import alternate, ratios, summary

ROOT = Path(__file__).resolve().parents[2]
BARE = """
import os; os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
with gr.Blocks() as demo:
    gr.Chatbot(); gr.Textbox()
demo.launch(server_port={port}, ssr_mode=False, quiet=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
    return [
        f"first page: {summary((one for one, _ in pairs), ' s')}",
        f"first page of bare Gradio: {summary((bare for _, bare in pairs), ' s')}",
        f"first page, ratio: {ratios(pairs)}; the bar is 1.3",
    ]
