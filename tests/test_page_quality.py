"""Quality in a real browser: the judgement, the figures, what was missed, and the one button."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from companion.domain import LOCAL_OWNER, Figures, Measurement
from companion.quality import study
from tests.browser import PHONE, expect
from tests.desk import at_a_desk
from tests.fakes import MODEL, FakeDeep, FakeLoad, Gate, done

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

BAD = ("serious", "critical")
APART = """() => {
  const tabs = '#lc-tabs > .tab-wrapper .tab-container:not(.visually-hidden) button';
  const boxes = [...document.querySelectorAll(`${tabs}, #lc-header > *`)]
    .map(e => e.getBoundingClientRect()).filter(box => box.width && box.height);
  const meet = (a, b, low, high) => a[low] < b[high] - 1 && b[low] < a[high] - 1;
  const over = (a, b) => meet(a, b, 'left', 'right') && meet(a, b, 'top', 'bottom');
  return !boxes.some((a, i) => boxes.some((b, j) => i < j && over(a, b)));
}"""
NARROW = "() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"
SHOWN = 30_000
"""Milliseconds until a change that nobody clicked is on the page."""
LOOKS = (
    {},
    {"color_scheme": "dark"},
    {"viewport": PHONE, "has_touch": True},
    {"viewport": PHONE, "has_touch": True, "color_scheme": "dark"},
)


@pytest.fixture(scope="module")
def load():
    return FakeLoad()


@pytest.fixture(scope="module")
def server(tmp_path_factory, load):
    deep = FakeDeep("all-mpnet-base-v2")
    folder = tmp_path_factory.mktemp("data")
    with at_a_desk(folder, deep=lambda name, may_fetch: deep, reader=load) as desk:
        yield desk


@pytest.fixture
def desk(server, load, monkeypatch):
    """Nobody finds spare time, unless a test gives some."""
    monkeypatch.setattr(study, "LOOK_S", 0.2)
    server.tidy()
    load.percent = 90
    server.ollama.offered = []
    forget(server.companion)
    yield server
    server.leave()


def forget(companion):
    database = companion.store.quality._database
    with database.writing() as connection:
        for table in ("quality_questions", "quality_measurements"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def notes(desk, count=6):
    """Documents of one's own, each with a question."""
    quality = desk.companion.store.quality
    for number in range(count):
        said = (
            f"The keeper of lighthouse {number} polishes its lens with soft leather every morning at dawn. "
        )
        desk.companion.library.add(LOCAL_OWNER, f"lighthouse-{number}.md", (said * 4).encode())
    for number, passage in enumerate(quality.candidates(LOCAL_OWNER, 1, count)):
        maker = None if number % 3 == 0 else "llama3.2:3b"
        quality.add(passage, f"Who looks after the lamp of tower {number}?", maker)
    return quality.questions(LOCAL_OWNER, count)


def measured(desk, items, *, found=1, without=2, questions=100, ago=timedelta(), deep=True):
    """A measurement in which the deep layer has the first ones at `found`, and the rest misses."""
    ranks = {}
    for number, item in enumerate(items):
        missed = number >= len(items) - 2
        each = {"lexical": 8 if missed else 3, "light": None if missed else 2, "hybrid": 9 if missed else 2}
        each |= {"feedback": 7 if missed else without}
        ranks[item.question_id] = each | ({"deep": 12 if missed else found} if deep else {})
    names = ("lexical", "light", "hybrid", "feedback", *(["deep"] if deep else []))
    figures = {
        name: Figures(0.62 + 0.06 * place, 0.5 + 0.07 * place, 0.55 + 0.07 * place)
        for place, name in enumerate(names)
    }
    layers = ("all-mpnet-base-v2", 40) if deep else (None, 0)
    facts = (questions, questions // 2, len(items), 40, "all-MiniLM-L6-v2", *layers)
    then = datetime.now(UTC) - ago
    desk.companion.store.quality.save(Measurement(LOCAL_OWNER, then, "s", *facts, figures, ranks))


def quality(desk, **options):
    page = desk.sit_down(**options)
    page.get_by_role("tab", name="Quality").click()
    expect(page.locator("#lc-qualityline")).to_be_visible()
    return page


def fill(desk):
    items = notes(desk)
    measured(desk, items, ago=timedelta(days=1), found=3, deep=False)
    measured(desk, items, found=1, without=6)
    return items


def picture(page, request, name):
    """Saved where somebody wants to look at it."""
    if folder := request.config.getoption("--pictures"):
        page.screenshot(path=f"{folder}/quality-{name}.png", animations="disabled")


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "phone", "dark phone"])
def test_it_says_what_the_deep_layer_is_worth_in_words_a_picture_and_a_table(desk, look, request):
    from axe_playwright_python.sync_playwright import Axe

    fill(desk)
    page = quality(desk, **look)
    expect(page.locator("#lc-qualityline")).to_contain_text("too few to tell what the deep layer brings")
    board = page.locator("#lc-quality .lc-work")
    expect(board).to_contain_text("So small a difference may be chance.")
    expect(board).to_contain_text("made by llama3.2:3b · 2 without a model")
    expect(page.get_by_role("img", name=re.compile("^Found: Words 62 %.*With deep 86 %$"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^How high: "))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("With deep"))).to_contain_text("86 %")
    expect(page.locator("#lc-past")).to_contain_text("100")
    assert page.evaluate(NARROW)
    picture(page, request, request.node.callspec.id)
    page.locator(".lc-missed summary").click()
    page.locator("#lc-past").scroll_into_view_if_needed()
    picture(page, request, f"{request.node.callspec.id}-below")
    found = Axe().run(page).response["violations"]
    bad = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in BAD]
    assert bad == []
    assert desk.watch.errors == []
    assert desk.watch.strangers == []


def test_what_was_missed_opens_the_passage_that_was_meant_and_what_came_instead(desk, request):
    items = fill(desk)
    page = quality(desk)
    page.locator(".lc-missed summary").click()
    rows = page.locator(".lc-missed li button")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(items[-2].question)
    expect(rows.first).to_contain_text("at place 12")
    rows.first.focus()
    page.keyboard.press("Enter")
    meant = page.locator(".lc-card.is-hit")
    expect(meant).to_contain_text(items[-2].document_name)
    expect(meant).to_contain_text("meant, at place 12")
    expect(page.locator(".lc-card", has_text="came at place 1")).to_be_visible()
    expect(page.locator(".lc-sources h2")).to_have_text(items[-2].question)
    picture(page, request, "miss")
    page.keyboard.press("Escape")
    expect(rows.first).to_be_focused()
    assert desk.watch.errors == []


def test_before_the_first_questions_one_button_makes_and_measures_them(desk, request):
    said = "The keeper of the lighthouse polishes its lens with soft leather every morning at dawn. "
    for number in range(3):
        text = said.replace("lens", f"lens{number}x") * 3
        desk.companion.library.add(LOCAL_OWNER, f"{number}.md", text.encode())
    page = quality(desk, viewport=PHONE, has_touch=True)
    expect(page.locator("#lc-qualityline")).to_contain_text("How well does the search find")
    expect(page.locator("#lc-quality button")).to_have_count(1)
    picture(page, request, "empty")
    page.get_by_role("button", name="Measure now").click()
    expect(page.locator("#lc-qualityline")).to_contain_text("there is no deep layer yet", timeout=SHOWN)
    expect(page.locator("#lc-quality")).to_contain_text("that flatters the search by words")
    expect(page.locator("#lc-quality")).to_contain_text("3 questions from 3 documents of 3")
    assert desk.watch.errors == []


def test_how_far_the_questions_are_is_said_while_they_are_made(desk, request):
    gate = Gate()
    desk.ollama.offered = [MODEL]
    desk.ollama.scripts = [["Who is it that works there at night?", done()], [gate, "Who?", done()]]
    notes(desk, count=3)
    forget(desk.companion)
    page = quality(desk)
    page.get_by_role("button", name="Measure now").click()
    try:
        expect(page.locator("#lc-quality")).to_contain_text("Making questions: 1 of 3", timeout=SHOWN)
        expect(page.get_by_role("button", name="Measure now")).to_be_disabled()
        picture(page, request, "making")
        desk.companion.touch()
        # What is there is measured; the rest waits for the next idle time.
        expect(page.locator("#lc-qualityline")).to_contain_text("there is no deep layer yet", timeout=SHOWN)
        expect(page.locator("#lc-quality")).to_contain_text("1 question from 1 document of 3")
    finally:
        gate.open.set()


def test_when_it_is_switched_off_the_setting_is_one_click_away(desk):
    desk.companion.store.settings.save({"quality_questions": 0})
    try:
        page = quality(desk)
        expect(page.locator("#lc-qualityline")).to_have_text("The search is not measured")
        page.get_by_role("button", name="Set how many").click()
        expect(page.locator("#lc-set-quality_questions input")).to_be_focused()
    finally:
        desk.companion.store.settings.save({"quality_questions": 100})


@pytest.mark.parametrize("width", [1500, 1280, 1268, 1000, 821, 390, 360])
def test_all_tabs_are_there_and_apart_from_the_header_at_any_width(desk, width):
    page = desk.sit_down(viewport={"width": width, "height": 800})
    expect(page.get_by_role("tab", name="Quality")).to_be_visible()
    expect(page.get_by_role("tab", name="Settings")).to_be_visible()
    assert page.evaluate(NARROW)
    assert page.evaluate(APART)
