"""A person at the page, and what they do there; the fixtures `desk` and `note` are in conftest.

Knows where things are on the page. It does not know what is tested.
"""

import re
from contextlib import contextmanager

from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from tests.browser import DESKTOP, Watch, chromium, expect, free_port, require_chromium, serving
from tests.fakes import MODEL, THINKER, TINY, FakeEmbedder, ScriptedEngine, done

ANSWER = ["The app ", "keeps your files ", "on this machine [1]. ", "Nothing leaves it."]
CITATION = ".message-content a[href^='#src-']"
NOTE = "The lighthouse of Skagen was painted green in 1998.\n\nIts keeper was called Ingrid Holm."


class Desk:
    """A person in front of a browser, and the two engines that answer them."""

    def __init__(self, url, companion, ollama, browser):
        self.url = url
        self.companion = companion
        self.ollama = ollama
        self.browser = browser
        self.contexts = []
        self.watch = None

    def sit_down(self, path="/", **options):
        return self.open(self.browser_page(**options), path)

    def browser_page(self, *, viewport=DESKTOP, **options):
        """An empty page of a browser of its own."""
        context = self.browser.new_context(viewport=viewport, **options)
        self.contexts.append(context)
        self.watch = Watch(context, self.url)
        return context.new_page()

    def open(self, page, path="/"):
        page.goto(self.url + path)
        expect(page.locator("#lc-box textarea")).to_be_visible()
        # The first view has come from the server when the list of chats stands.
        expect(page.locator(".lc-sessions")).to_be_attached()
        return page

    def says(self, *pieces, **usage):
        self.ollama.scripts = [[*pieces, done(**usage)]]

    def tidy(self):
        """As on the first day, whatever the test before left."""
        for session in self.companion.sessions.list(LOCAL_OWNER):
            self.companion.sessions.delete(LOCAL_OWNER, session.session_id)
        for document in self.companion.library.documents(LOCAL_OWNER):
            if document.owner == LOCAL_OWNER:
                self.companion.library.delete(LOCAL_OWNER, document.doc_id)
        preferences = self.companion.settings
        self.companion.store.settings.save(
            {
                "model_name": MODEL.name,
                "thinking_mode": "rag",
                "top_k": preferences.top_k,
                "cot_iterations": 2,
            }
        )
        self.ollama.scripts = []
        self.ollama.cancelled.clear()
        self.ollama.offered = [MODEL, THINKER]

    def leave(self):
        for context in self.contexts:
            context.close()
        self.contexts.clear()


@contextmanager
def at_a_desk(folder, **parts):
    """A server on a free port, ready, and a browser in front of it. `parts`: more for `build`."""
    require_chromium()
    # Bags of words are less alike than what the real embedder makes of the same texts.
    settings = Settings(data_dir=folder, port=free_port(), offline=True, least_similarity=0)
    ollama = ScriptedEngine(models=[MODEL, THINKER])
    tiny = ScriptedEngine(models=[TINY], name="builtin")
    companion = build(settings, engines=[ollama, tiny], light=FakeEmbedder(), **parts)
    with serving(companion, settings) as url, chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator(".lc-pill.is-ready")).to_be_visible(timeout=60_000)
        page.close()
        yield Desk(url, companion, ollama, browser)


def ask(page, text):
    page.locator("#lc-box textarea").fill(text)
    page.keyboard.press("Enter")


def answered(page):
    expect(page.locator(".lc-copy").last).to_be_visible()
    expect(page.locator("#lc-box .submit-button")).to_be_visible()


def upload(page, *files):
    page.get_by_role("tab", name="Documents").click()
    page.locator("#lc-dropzone input[type=file]").set_input_files([str(file) for file in files])


def row(page, file):
    return page.locator(".lc-doc", has_text=file.name)


def choose(page, dropdown, label):
    page.locator(f"{dropdown} input").click()
    page.get_by_role("option", name=re.compile(re.escape(label))).click()


def session_of(page):
    return re.search(r"session=(\w+)", page.url)[1]
