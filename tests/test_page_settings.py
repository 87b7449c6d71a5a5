"""Models and settings on the page, in a real browser, with a server that speaks Ollama's protocol."""

import re

import pytest

from companion.app import build
from companion.config import Settings
from companion.inference.ollama import Ollama
from tests.browser import DESKTOP, PHONE, chromium, expect, free_port, require_chromium, serving
from tests.desk import Desk, answered, ask
from tests.fakes import TINY, FakeEmbedder, ScriptedEngine
from tests.ollama_server import OllamaServer, ServedModel

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

CHATTY = ServedModel(
    "llama3.2:3b", ("completion", "vision"), 131_072, size=2_000_000_000, parameter_size="3.2B"
)
CLOUD = ServedModel(
    "gpt-oss:120b-cloud", ("completion", "thinking"), 131_072, remote_host="https://example.invalid"
)
VECTORS = ServedModel("nomic-embed-text:latest", ("embedding",), 2048, size=274_000_000)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A desk whose models lie in a server of Ollama's protocol."""
    require_chromium()
    with OllamaServer(models=[CHATTY, CLOUD, VECTORS]) as ollama:
        settings = Settings(data_dir=tmp_path_factory.mktemp("data"), port=free_port())
        engine = Ollama(ollama.url, silence_timeout_s=60, load_timeout_s=60)
        tiny = ScriptedEngine(models=[TINY], name="builtin")
        companion = build(settings, engines=[engine, tiny], light=FakeEmbedder())
        with serving(companion, settings) as url, chromium() as browser:
            yield Desk(url, companion, ollama, browser)


@pytest.fixture
def desk(place):
    preferences = place.companion.settings
    place.companion.store.settings.save(
        {"model_name": CHATTY.name, "top_k": 5, "cot_iterations": 2, "embed_light": preferences.embed_light}
    )
    yield place
    place.leave()


def settings_of(page):
    page.get_by_role("tab", name="Settings").click()
    return page.locator("#lc-setpane")


def models_of(page):
    page.get_by_role("tab", name="Settings").click()
    page.locator("#lc-setnav").get_by_role("button", name="Models").click()
    return page.locator("#lc-modelpane")


def model(page, name):
    return page.locator(f".lc-model[data-name='{name}']")


def sideways(page):
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_each_model_says_what_it_is_and_can_be_loaded_and_unloaded(desk):
    page = desk.sit_down()
    models_of(page)
    row = model(page, CHATTY.name)
    for fact in (
        "2.0 GB on disk",
        "3.2B parameters",
        "Q4_K_M",
        "131,072 tokens",
        "chats, sees images",
        "Ollama",
    ):
        expect(row).to_contain_text(fact)
    expect(model(page, VECTORS.name)).to_contain_text("makes vectors for search")
    expect(model(page, VECTORS.name).get_by_role("button")).to_have_count(0)
    expect(model(page, TINY.name)).to_contain_text("built in")
    row.get_by_role("button", name=f"Load {CHATTY.name}", exact=True).click()
    expect(row).to_contain_text("Takes 2.0 GB of memory, none of it on a graphics card")
    assert CHATTY.name in desk.ollama.loaded
    row.get_by_role("button", name="Unload").click()
    expect(row.get_by_role("button", name=f"Load {CHATTY.name}", exact=True)).to_be_visible()
    assert CHATTY.name not in desk.ollama.loaded
    assert desk.watch.errors == []
    assert desk.watch.strangers == []


def test_a_download_shows_how_far_it_is_survives_a_reload_and_can_be_cancelled(desk):
    desk.ollama.layers, desk.ollama.pull_steps, desk.ollama.delay_s = (
        [("sha256:big", 2_000_000_000)],
        400,
        0.05,
    )
    page = desk.sit_down(viewport=PHONE)
    models_of(page)
    card = page.locator(".lc-offer", has_text="gemma3:4b")
    expect(card).to_contain_text("3.3 GB")
    card.get_by_role("button").click()
    running = page.locator(".lc-pull.is-running", has_text="gemma3:4b")
    expect(running).to_contain_text(re.compile(r"\d+ % · .* of 2\.0 GB · .*/s · .* left"))
    expect(card).to_contain_text("on its way")
    assert not sideways(page)
    page.reload()
    models_of(page)
    expect(running.locator("progress")).to_be_visible()
    # Who stands on the button with the keyboard is still there after it was drawn anew.
    cancel = running.get_by_role("button", name="Cancel")
    cancel.focus()
    before = running.locator(".lc-facts").inner_text()
    expect(running.locator(".lc-facts")).not_to_have_text(before)
    expect(cancel).to_be_focused()
    assert cancel.bounding_box()["height"] >= 40
    page.keyboard.press("Enter")
    expect(page.locator(".lc-pull.is-cancelled")).to_contain_text("the next download goes on from there")
    assert "gemma3:4b" not in {served.name for served in desk.ollama.models}
    desk.ollama.delay_s = 0.0


def test_a_model_is_downloaded_by_its_name_and_a_wrong_name_says_what_to_do(desk):
    desk.ollama.layers, desk.ollama.pull_steps = [("sha256:small", 1000)], 2
    page = desk.sit_down()
    pane = models_of(page)
    field = pane.get_by_label("Name of a model")
    field.fill("tinyllama")
    page.keyboard.press("Enter")
    expect(page.locator(".lc-pull.is-done", has_text="tinyllama")).to_contain_text("Downloaded")
    desk.ollama.models[-1].name = "tinyllama:latest"
    expect(model(page, "tinyllama:latest")).to_be_visible()
    field.fill("unknown-model")
    page.keyboard.press("Enter")
    failed = page.locator(".lc-pull.is-failed", has_text="unknown-model")
    expect(failed.locator(".lc-error")).to_contain_text(re.compile(r"\w+ .*unknown-model.*\."))
    field.fill("not a name!")
    page.keyboard.press("Enter")
    expect(page.locator(".toast-wrap")).to_contain_text("write it as Ollama's library does")


def test_without_ollama_the_page_says_where_to_get_it(desk):
    desk.ollama.stop()
    try:
        page = desk.sit_down()
        models_of(page)
        link = page.locator(".lc-noollama a")
        expect(link).to_have_text("https://ollama.com/download")
        assert link.get_attribute("rel") == "noopener noreferrer"
        expect(page.locator("#lc-pullform")).not_to_be_visible()
        expect(page.locator(".lc-offer button")).to_have_count(0)
    finally:
        desk.ollama.start()


def test_cloud_models_are_listed_only_when_switched_on_and_then_marked_everywhere(desk):
    page = desk.sit_down()
    models_of(page)
    expect(model(page, CHATTY.name)).to_be_visible()
    expect(model(page, CLOUD.name)).to_have_count(0)
    page.get_by_role("button", name="Change that").click()
    switch = page.locator("#lc-set-show_cloud_models input")
    expect(switch).to_be_focused()
    expect(page.locator("#lc-set-show_cloud_models")).to_contain_text("leave this machine")
    page.keyboard.press("Space")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    models_of(page)
    expect(model(page, CLOUD.name)).to_contain_text("leaves this machine")
    expect(model(page, CLOUD.name).locator(".is-cloud")).to_be_visible()
    expect(model(page, CLOUD.name).get_by_role("button")).to_have_count(0)
    page.locator("#lc-model input").click()
    page.get_by_role("option", name="gpt-oss:120b-cloud (cloud)").click()
    page.get_by_role("tab", name="Chat").click()
    ask(page, "How do I add documents?")
    answered(page)
    expect(page.locator("#lc-chat")).to_contain_text("gpt-oss:120b-cloud (cloud)")
    desk.companion.store.settings.save({"show_cloud_models": False})
    desk.companion.catalog.show_cloud = False


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_setting_says_its_range_and_default_marks_what_is_not_saved_and_goes_back(desk, viewport):
    page = desk.sit_down(viewport=viewport)
    settings_of(page)
    field = page.locator("#lc-set-top_k")
    for fact in ("1 to 50 passages", "default: 5", "top_k"):
        expect(field.locator(".lc-foot")).to_contain_text(fact)
    expect(field.locator(".lc-unsaved")).not_to_be_visible()
    number = field.locator("input")
    number.fill("500")
    number.blur()
    expect(field.locator(".lc-error")).to_have_text("The number of passages is a whole number from 1 to 50.")
    expect(number).to_have_attribute("aria-invalid", "true")
    number.fill("7")
    expect(field.locator(".lc-error:visible")).to_have_count(0)
    expect(field.locator(".lc-unsaved")).to_be_visible()
    if viewport is DESKTOP:
        # Two ticks of the page's clock.
        for _ in range(2):
            page.wait_for_event("response", lambda answer: "run/predict" in answer.url)
    expect(number).to_have_value("7")
    expect(field.locator(".lc-unsaved")).to_be_visible()
    field.get_by_role("button", name="Reset to default").click()
    expect(number).to_have_value("5")
    expect(field.locator(".lc-unsaved")).not_to_be_visible()
    assert not sideways(page)
    assert desk.watch.errors == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
def test_nothing_shines_through_the_bar_with_save(desk, viewport):
    page = desk.sit_down(viewport=viewport)
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#lc-save")).to_be_visible()
    covered = page.evaluate(
        """() => {
          const bar = document.getElementById('lc-saverow'), place = bar.closest('.tabitem'), bare = [];
          for (let top = 0; top < place.scrollHeight - place.clientHeight; top += 20) {
            place.scrollTop = top;
            const {x, y} = bar.getBoundingClientRect();
            for (const down of [14, 32, 50])
              if (!bar.contains(document.elementFromPoint(x + 40, y + down))) bare.push([top, down]);
          }
          return bare;
        }"""
    )
    assert covered == []


def test_what_was_typed_and_not_saved_outlives_another_chat_and_a_reload(desk):
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    settings_of(page)
    page.locator("#lc-set-top_k input").fill("7")
    page.locator("#lc-set-idle_threshold_s input").fill("3")
    page.locator("#lc-set-embed_deep input, #lc-set-embed_deep textarea").first.fill("my-embedder")
    page.locator("#lc-set-show_cloud_models input").check()
    page.get_by_role("radio", name="Thinking").check()
    page.locator("#lc-set-model_name input").click()
    page.get_by_role("option", name=TINY.name).last.click()

    def as_typed():
        expect(page.locator("#lc-set-top_k input")).to_have_value("7")
        expect(page.locator("#lc-set-idle_threshold_s input")).to_have_value("3")
        deep = page.locator("#lc-set-embed_deep input, #lc-set-embed_deep textarea").first
        expect(deep).to_have_value("my-embedder")
        expect(page.locator("#lc-set-show_cloud_models input")).to_be_checked()
        expect(page.get_by_role("radio", name="Thinking")).to_be_checked()
        expect(page.locator("#lc-set-model_name input")).to_have_value(re.compile(TINY.name))
        expect(page.locator(".lc-unsaved:visible")).to_have_count(6)

    as_typed()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".lc-welcome")).to_be_attached()
    as_typed()
    page.locator(".lc-open").first.click()
    expect(page.get_by_test_id("user").last).to_be_attached()
    as_typed()
    page.reload()
    as_typed()
    # A field that is as it was again is left alone, and what is saved is no longer typed.
    for name in ("show_cloud_models", "idle_threshold_s", "embed_deep", "thinking_mode", "model_name"):
        page.locator(f"#lc-set-{name} [data-act=reset]").click()
        expect(page.locator(f"#lc-set-{name} .lc-unsaved")).not_to_be_visible()
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.reload()
    settings_of(page)
    expect(page.locator("#lc-set-top_k input")).to_have_value("7")
    expect(page.locator(".lc-unsaved:visible")).to_have_count(0)
    assert desk.watch.errors == []


def test_a_tab_saves_what_was_changed_in_it_and_undoes_nothing_of_another_one(desk):
    first = desk.sit_down()
    settings_of(first)
    second = desk.open(first.context.new_page())
    settings_of(second)
    expect(second.locator("#lc-set-top_k input")).to_have_value("5")
    first.locator("#lc-set-top_k input").fill("9")
    first.locator("#lc-set-cot_iterations input").fill("3")
    first.locator("#lc-save").click()
    expect(first.locator("#lc-saved")).to_contain_text("Saved")
    second.locator("#lc-set-gpu_idle_percent input").fill("20")
    second.locator("#lc-save").click()
    expect(second.locator("#lc-saved")).to_contain_text("Saved")
    expect(second.locator("#lc-set-top_k input")).to_have_value("9")
    expect(second.locator("#lc-set-cot_iterations input")).to_have_value("3")
    saved = desk.companion.sessions.preferences()
    assert (saved.top_k, saved.cot_iterations, saved.gpu_idle_percent) == (9, 3, 20)
    expect(second.locator(".lc-unsaved:visible")).to_have_count(0)


def test_the_first_field_that_cannot_be_saved_gets_the_focus(desk):
    page = desk.sit_down()
    settings_of(page)
    page.locator("#lc-set-idle_threshold_s input").fill("3")
    page.locator("#lc-set-cot_iterations input").fill("9")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Not saved")
    expect(page.locator("#lc-set-cot_iterations input")).to_be_focused()
    expect(page.locator("#lc-set-cot_iterations .lc-error")).to_have_count(1)
    expect(page.locator("#lc-set-idle_threshold_s .lc-error")).to_contain_text("from 10 to 86400")


def test_another_embedder_says_what_it_costs_before_it_is_saved(desk, tiny_folder):
    desk.companion.store.settings.save({"embedding_pace": {str(tiny_folder): 100.0}})
    page = desk.sit_down()
    settings_of(page)
    embedder = page.locator("#lc-set-embed_light textarea, #lc-set-embed_light input").first
    page.locator("#lc-set-embed_light .lc-chip", has_text="multilingual").click()
    expect(embedder).to_have_value("paraphrase-multilingual-MiniLM-L12-v2")
    embedder.fill(str(tiny_folder))
    page.locator("#lc-save").click()
    box = page.locator(".lc-confirm")
    expect(box).to_be_focused()
    for fact in ("none, it is here", "while it works", "to embed, about", "goes on answering"):
        expect(box).to_contain_text(fact)
    assert desk.companion.sessions.preferences().embed_light != str(tiny_folder)
    page.get_by_role("button", name="Keep what it is").click()
    expect(box).to_have_count(0)
    expect(page.locator("#lc-set-embed_light .lc-unsaved")).to_be_visible()
    page.locator("#lc-save").click()
    page.get_by_role("button", name="Change and save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    assert desk.companion.sessions.preferences().embed_light == str(tiny_folder)
    embedder.fill("/nowhere/at/all")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-set-embed_light .lc-error")).to_contain_text("neither the name of a model nor")
    expect(embedder).to_be_focused()


def test_what_counts_as_found_and_who_reads_questions_is_set_on_the_page(desk):
    page = desk.sit_down()
    settings_of(page)
    page.locator("#lc-set-least_similarity input").fill("20")
    page.locator("#lc-set-deep_query").get_by_label("Directly, too").check()
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.reload()
    settings_of(page)
    expect(page.locator("#lc-set-least_similarity input")).to_have_value("20")
    expect(page.locator("#lc-set-deep_query").get_by_label("Directly, too")).to_be_checked()
    preferences = desk.companion.sessions.preferences()
    assert (preferences.least_similarity, preferences.deep_query) == (20, "direct")
    desk.companion.store.settings.save({"least_similarity": 35, "deep_query": "feedback"})
