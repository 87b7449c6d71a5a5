"""Every state of the app on the page: its sentence, its action that works, and a picture of it."""

import asyncio
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from companion.app import build
from companion.config import Settings
from companion.domain import LOCAL_OWNER
from companion.errors import DiskFull, StreamBroken
from companion.inference.late_embedder import LateEmbedder
from tests.browser import DESKTOP, PHONE, chromium, expect, free_port, heard, require_chromium, serving
from tests.desk import Desk, ask, upload
from tests.fakes import MODEL, THINKER, TINY, FakeEmbedder, ScriptedEngine
from tests.test_states import AwayEngine, SlowStart, fill, small_disk, wait_for

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]


class Place(Desk):
    """A desk whose states can be brought about."""

    def __init__(self, url, companion, ollama, tiny, browser):
        super().__init__(url, companion, ollama, browser)
        self.tiny = tiny

    def does(self, work):
        """Playwright has this thread's event loop; the app has one of its own."""
        return asyncio.run_coroutine_threadsafe(work, self.companion.runs.loop()).result(60)

    def look_at_engines(self):
        """At once, not only when the list of models is five seconds old."""
        self.does(self.companion.catalog.models(refresh=True))


@contextmanager
def served(folder, browser, *, light=None, port=None, **more):
    settings = Settings(data_dir=folder, port=port or free_port(), **more)
    ollama = AwayEngine(models=[MODEL, THINKER])
    ollama.here = True
    tiny = ScriptedEngine(models=[TINY], name="builtin")
    companion = build(settings, engines=[ollama, tiny], light=light or FakeEmbedder())
    with serving(companion, settings) as url:
        yield Place(url, companion, ollama, tiny, browser)


@pytest.fixture(scope="module")
def browser():
    require_chromium()
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def house(tmp_path_factory, browser):
    with served(tmp_path_factory.mktemp("states"), browser) as desk:
        wait_for(lambda: desk.companion.health().state == "ready")
        yield desk


@pytest.fixture
def desk(house):
    house.tidy()
    house.ollama.here = True
    house.look_at_engines()
    yield house
    house.leave()


@pytest.fixture
def picture(request):
    """Look at what a page shows on both sizes; with `--pictures FOLDER` it is kept, too."""
    folder = request.config.getoption("--pictures")

    def take(page, name, shows):
        for size, viewport in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(viewport)
            for each in shows:
                expect(each).to_be_visible()
                each.scroll_into_view_if_needed()
                expect(each).to_be_in_viewport()
            if folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
                page.screenshot(path=Path(folder) / f"{name}-{size}.png", animations="disabled")
        page.set_viewport_size(DESKTOP)

    return take


def notice(page, code, sentence, action):
    """The notice of a state, and the button or link of its action."""
    bar = page.locator(f".lc-notice[data-code={code}]")
    expect(bar).to_contain_text(sentence)
    return bar, bar.locator(".lc-remedy", has_text=action)


def open_tab(page):
    return page.locator("#lc-tabs [role=tab][aria-selected=true]")


# --- documents ------------------------------------------------------------------------------


def test_a_first_run_says_welcome_and_leads_to_the_documents(desk, picture):
    page = desk.sit_down()
    bar, add = notice(page, "first_run", "ask the sample library something", "Add documents")
    picture(page, "first-run", [bar, add, page.locator(".lc-example").first])
    add.click()
    expect(open_tab(page)).to_have_text("Documents")
    expect(page.locator("#lc-dropzone input[type=file]")).to_be_focused()


def test_an_empty_library_says_where_answers_come_from_and_can_be_waved_aside_in_a_tab(desk, picture):
    desk.does(desk.companion.sessions.create(LOCAL_OWNER, "Before"))
    page = desk.sit_down()
    bar, add = notice(page, "empty_library", "answered from the sample library", "Add documents")
    picture(page, "empty-library", [bar, add])
    bar.get_by_role("button", name="Dismiss").click()
    expect(bar).not_to_be_visible()
    desk.open(page)
    expect(bar).to_be_attached()
    expect(bar).not_to_be_visible()
    page.locator(".lc-pill").click()
    expect(page.get_by_role("dialog")).to_contain_text("answered from the sample library")
    expect(notice(desk.open(page.context.new_page()), "empty_library", "answered", "Add")[0]).to_be_visible()


def test_a_file_that_could_not_be_read_is_shown_where_it_says_why(desk, picture, tmp_path):
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 not really")
    page = desk.sit_down()
    upload(page, broken)
    expect(page.locator(".lc-doc .is-failed").first).to_be_visible()
    page.reload()
    bar, show = notice(page, "failed_documents", "1 document could not be read", "Show them")
    page.locator("#lc-tabs [data-tab-id=chat]").click()
    picture(page, "failed-file", [bar, show])
    show.click()
    expect(open_tab(page)).to_have_text("Documents")
    expect(page.locator(".lc-docname:focus")).to_contain_text("broken")


def test_a_question_that_nothing_was_found_for_says_what_to_do(desk, picture):
    page = desk.sit_down()
    ask(page, "Xylographer quokka zeppelins?")
    said = page.locator("#lc-chat").get_by_text("I found nothing about this in your documents")
    expect(said).to_contain_text("ask in other words, or add a document")
    picture(page, "nothing-found", [said, page.locator("#lc-box textarea")])


def test_documents_in_other_languages_lead_to_the_choice_of_a_light_embedder(desk, picture):
    for n in range(3):
        text = f"Der Turm Nummer {n} ist grün und steht auf der Insel."
        desk.companion.library.add(LOCAL_OWNER, f"{n}.txt", text.encode())
    page = desk.sit_down()
    bar, choose = notice(page, "english_embedder", "made for English", "Choose another")
    picture(page, "english-embedder", [bar, choose])
    choose.click()
    field = page.locator("#lc-set-embed_light textarea, #lc-set-embed_light input").first
    expect(field).to_be_focused()
    page.locator("#lc-set-embed_light .lc-chip", has_text="50 languages").click()
    expect(field).to_have_value("paraphrase-multilingual-MiniLM-L12-v2")


# --- models ---------------------------------------------------------------------------------


def test_without_ollama_it_says_who_answers_and_links_to_ollama(desk, picture):
    desk.ollama.here = False
    desk.look_at_engines()
    page = desk.sit_down()
    bar, link = notice(page, "no_ollama", f"built-in model {TINY.name} answers", "Get Ollama")
    assert link.get_attribute("href") == "https://ollama.com/download"
    expect(link).to_contain_text("ollama.com/download")
    picture(page, "no-ollama", [bar, link])


def test_ollama_without_models_leads_to_where_one_is_pulled(desk, picture):
    desk.ollama.offered = []
    desk.look_at_engines()
    page = desk.sit_down()
    bar, pull = notice(page, "ollama_without_models", f"{TINY.name} answers", "Pull a model")
    picture(page, "ollama-without-models", [bar, pull])
    pull.click()
    expect(page.locator(".lc-pullform input")).to_be_focused()


def test_a_model_that_vanished_is_named_and_another_can_be_chosen(desk, picture):
    desk.does(desk.companion.sessions.create(LOCAL_OWNER, "Thinking", model_name=THINKER.name))
    key = desk.companion.sessions.list(LOCAL_OWNER)[0].session_id
    desk.ollama.offered = [MODEL]
    desk.look_at_engines()
    page = desk.sit_down(f"/?session={key}")
    bar, choose = notice(page, "model_vanished", f"The model {THINKER.name} is no longer", "Choose a model")
    picture(page, "model-vanished", [bar, choose])
    choose.click()
    page.get_by_role("option", name=MODEL.name).click()
    expect(bar).not_to_be_visible()


def test_with_nobody_to_answer_the_app_is_limited_and_that_cannot_be_waved_aside(desk, picture):
    desk.ollama.here, desk.tiny.offered = False, []
    try:
        desk.look_at_engines()
        page = desk.sit_down()
        bar, link = notice(page, "no_model", "No model can answer", "Get Ollama")
        picture(page, "no-model", [bar, link, page.locator(".lc-pill.is-degraded")])
        expect(bar.locator(".lc-putoff")).to_have_count(0)
    finally:
        desk.tiny.offered = [TINY]


def test_an_engine_that_breaks_in_the_middle_leaves_what_was_said_and_offers_another_try(desk, picture):
    broken = StreamBroken("Ollama ended in the middle of the answer; try again.")
    desk.ollama.scripts = [["The first half of it. ", broken]]
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    failed = page.locator("#lc-chat .lc-note.is-failed").first
    expect(failed).to_be_visible()
    expect(page.locator("#lc-chat")).to_contain_text("The first half of it.")
    expect(page.locator("#lc-chat")).to_contain_text("try again")
    again = page.locator("#lc-chat .bot-row .is-again").last
    picture(page, "engine-error", [failed, again])
    desk.says("Now it is whole.")
    again.click()
    expect(page.locator("#lc-chat")).to_contain_text("Now it is whole.")


# --- the machine ----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_without_a_gpu_the_index_says_what_is_watched_and_nobody_is_disturbed(desk, picture):
    page = desk.sit_down()
    page.get_by_role("tab", name="Index & GPU").click()
    said = page.locator("#lc-gpu").get_by_text("the processor is watched instead")
    when = page.locator("#lc-gpu").get_by_role("button", name="Set when deepening begins")
    expect(page.locator("#lc-banner .lc-notice[data-code=no_gpu]")).to_have_count(0)
    picture(page, "no-gpu", [said, when])
    when.click()
    expect(page.locator("#lc-set-idle_threshold_s input")).to_be_focused()


def test_warming_up_says_what_is_loaded_and_a_failure_can_be_tried_again(tmp_path, browser, picture):
    slow = SlowStart()
    slow.error = "The weights are not there; go online once."
    with served(tmp_path / "data", browser, light=LateEmbedder(slow.load, patience_s=0.1)) as desk:
        page = desk.sit_down()
        bar, meanwhile = notice(page, "warming", "The embedder is being loaded", "Ask meanwhile")
        picture(page, "warming-up", [bar, meanwhile, page.locator(".lc-pill.is-warming")])
        meanwhile.click()
        expect(page.locator("#lc-box textarea")).to_be_focused()
        slow.proceed.set()
        bar, again = notice(page, "embedder_missing", slow.error, "Try again")
        picture(page, "embedder-missing", [bar, again])
        slow.error = None
        again.click()
        expect(page.locator(".lc-pill.is-ready")).to_be_visible()
        expect(bar).to_have_count(0)
        desk.leave()


def write_on(store):
    """The log of the database may have some room of its own left."""
    for number in range(200):
        store.settings.save({"filler": "x" * 4000 * number})


def test_a_full_disk_is_the_first_thing_said_and_leads_to_what_can_go(tmp_path, browser, picture):
    with small_disk(tmp_path / "disk", 40) as disk, ExitStack() as stack:
        desk = stack.enter_context(served(disk / "data", browser, min_free_mb=1))
        wait_for(lambda: desk.companion.health().state == "ready")
        page = desk.sit_down()
        page.evaluate("""() => document.querySelector('#lc-tabs [data-tab-id=documents]').click()""")
        desk.companion.library.add(LOCAL_OWNER, "guide.md", b"# Guide\n\nPress the blue button.\n")
        ballast = fill(disk)
        with pytest.raises(DiskFull):
            write_on(desk.companion.store)
        # It comes back in the tab that was left.
        page.reload()
        bar, free = notice(page, "disk_full", "The disk is full", "Free disk space")
        expect(bar.locator(".lc-putoff")).to_have_count(0)
        picture(page, "disk-full", [bar, free, page.locator(".lc-pill.is-degraded")])
        free.click()
        expect(page.locator("#lc-doclist [data-act=delete]").first).to_be_focused()
        ballast.unlink()
        expect(bar).to_have_count(0)
        desk.leave()


# --- the server, and its pages --------------------------------------------------------------


def test_a_page_outlives_its_server_and_what_was_typed_is_still_there(tmp_path, browser, picture):
    port = free_port()
    with served(tmp_path / "data", browser, port=port) as desk:
        session = desk.does(desk.companion.sessions.create(LOCAL_OWNER, "Kept over a restart"))
        page = desk.sit_down(f"/?session={session.session_id}")
        page.locator("#lc-box textarea").press_sequentially("Half a question")
    lost = page.locator("#lc-lost")
    expect(lost).to_contain_text("reconnecting… What you typed is kept.")
    picture(page, "reconnecting", [lost, lost.get_by_role("button", name="Try now")])
    expect(page.locator(".toast-body:visible")).to_have_count(0)
    with served(tmp_path / "data", browser, port=port) as again:
        expect(lost).to_have_count(0)
        expect(page.locator(".lc-session.is-current")).to_contain_text("Kept over a restart")
        expect(page.locator("#lc-box textarea")).to_have_value("Half a question")
        again.says("And its answer.")
        again.companion.store.settings.save({"thinking_mode": "cot"})
        page.locator("#lc-box textarea").press("Enter")
        expect(page.get_by_test_id("user")).to_contain_text("Half a question")
        desk.leave()


def test_a_page_does_not_come_back_to_a_server_that_is_about_to_end(tmp_path, browser):
    port, looks = free_port(), []
    with served(tmp_path / "data", browser, port=port) as desk:
        page = desk.sit_down()
        page.wait_for_function("lcServer.pulse")
        page.evaluate("window.before = true")
        page.on("response", lambda answer: looks.append(answer.url.endswith("api/health") and answer.ok))
        desk.companion.before_close(lambda: heard(page, lambda: looks.count(True) > 1))
    expect(page.locator("#lc-lost")).to_be_visible()
    assert page.evaluate("window.before")
    with served(tmp_path / "data", browser, port=port):
        expect(page.locator("#lc-lost")).to_have_count(0)
        expect(page.locator(".lc-sessions")).to_be_attached()
        desk.leave()


def test_a_server_that_started_anew_between_two_signs_of_life_is_noticed(tmp_path, browser):
    port = free_port()
    with served(tmp_path / "data", browser, port=port) as desk:
        page = desk.sit_down()
        page.locator("#lc-box textarea").press_sequentially("Typed before")
        # As a page that slept through it all: it hears of nothing while the server is away.
        page.evaluate("lcServer.start = window.before = 'an earlier start'")
        page.wait_for_function("!window.before")
        expect(page.locator("#lc-box textarea")).to_have_value("Typed before")
        desk.leave()


def test_the_sixth_page_says_that_there_are_five_and_comes_in_when_one_goes(desk, picture):
    page = desk.sit_down()
    pages = [page] + [desk.open(page.context.new_page()) for _ in range(4)]
    sixth = page.context.new_page()
    sixth.goto(desk.url, wait_until="commit")
    sentence = sixth.get_by_text("Five pages of this app are open already")
    picture(sixth, "sixth-page", [sentence, sixth.get_by_role("button", name="Try again")])
    bar, close = notice(pages[-1], "many_pages", "5 pages of this app are open", "Close a page")
    picture(pages[-1], "five-pages", [bar, close])
    close.click()
    expect(sixth.locator("#lc-box textarea")).to_be_visible()
    expect(sixth.locator(".lc-sessions")).to_be_attached()
