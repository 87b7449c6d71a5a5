"""The index in a real browser: what deep work does and why, its two buttons, and its history."""

import re

import pytest

from companion.domain import LOCAL_OWNER, RunOutcome, Why
from tests.browser import PHONE, expect
from tests.desk import at_a_desk
from tests.fakes import FakeDeep, FakeLoad
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]

NARROW = "() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth"


class SlowDeep(FakeDeep):
    """Waits after `most` passages until it is let go on."""

    most = None

    def embed_passages(self, texts):
        if self.most is not None and sum(map(len, self.batches)) >= self.most:
            self.held.set()
        return super().embed_passages(texts)

    def go_on(self):
        self.most = None
        self.held.clear()


@pytest.fixture(scope="module")
def deep():
    return SlowDeep("all-mpnet-base-v2")


@pytest.fixture(scope="module")
def load():
    return FakeLoad()


@pytest.fixture(scope="module")
def server(tmp_path_factory, deep, load):
    with at_a_desk(tmp_path_factory.mktemp("data"), deep=lambda name, may_fetch: deep, reader=load) as desk:
        yield desk


@pytest.fixture
def desk(server, deep, load):
    """No documents of one's own, a quiet machine, and nothing left to do."""
    server.tidy()
    deep.go_on()
    load.percent, load.source, load.on_battery = 3, "gpu", False
    finish(server.companion)
    yield server
    server.leave()


def finish(companion):
    """All that there is becomes deep."""
    deepening, runs = companion.work.deepening, companion.store.index_runs
    deepening.press("start")
    until(lambda: is_finished(companion.library.layers, deepening.status(), runs.latest(1)))


def is_finished(layers, status, runs):
    left = status.embedder_id is None or layers.waiting(status.embedder_id)
    return not left and status.reason.why is Why.DONE and all(run.ended_at for run in runs)


def papers(desk, count=3, paragraphs=40):
    """Adds documents of many passages."""
    for number in range(count):
        said = (f"Paper {number}, part {part}: " + f"word{part} " * 120 for part in range(paragraphs))
        desk.companion.library.add(LOCAL_OWNER, f"paper-{number}.md", "\n\n".join(said).encode())


def index(desk, **options):
    page = desk.sit_down(**options)
    page.get_by_role("tab", name="Index & GPU").click()
    expect(page.locator("#lc-workline")).to_be_visible()
    return page


def says(page, words):
    expect(page.locator("#lc-workline")).to_contain_text(words)


def button(page, name):
    return page.locator("#lc-work").get_by_role("button", name=name, exact=True)


def test_it_says_what_it_waits_for_as_the_machine_changes(desk, load):
    papers(desk, count=1)
    page = index(desk)
    says(page, re.compile(r"All is quiet: deepening starts in \d+ min"))
    expect(page.locator(".lc-work")).to_contain_text("all-mpnet-base-v2")
    expect(button(page, "Start now")).to_be_visible()
    expect(button(page, "Stop")).to_be_visible()
    expect(page.locator(".lc-indexing")).to_have_count(0)
    expect(page.locator(".lc-layer")).to_have_count(2)
    pictures = page.get_by_role("img", name=re.compile("Graphics card: now 3 %|Progress|Graphics memory"))
    expect(pictures).to_have_count(3)
    load.percent = 43
    says(page, "The graphics card is busy: 43 %")
    load.source, load.on_battery = "cpu", True
    says(page, "Off: on battery")
    expect(page.locator("#lc-gpu")).to_contain_text("No NVIDIA card: the processor is watched instead.")
    expect(button(page, "Start now")).to_have_count(0)
    assert desk.watch.errors == []
    assert desk.watch.strangers == []


def test_start_now_works_at_once_and_every_tab_shows_it_until_stop(desk, deep):
    papers(desk)
    deep.most = sum(map(len, deep.batches)) + 20
    page = index(desk)
    button(page, "Start now").focus()
    page.keyboard.press("Enter")
    says(page, re.compile(r"Deepening \d+ of \d+ passages"))
    # Whoever pressed with the keyboard stands on the button that took its place.
    expect(button(page, "Stop")).to_be_focused()
    expect(page.locator(".lc-runs tbody tr").first).to_contain_text("Still running")
    page.get_by_role("tab", name="Chat").click()
    indicator = page.get_by_role("button", name=re.compile(r"Indexing in progress… \d+ %"))
    expect(indicator).to_be_visible()
    indicator.click()
    expect(page.locator("#lc-workline")).to_be_focused()
    button(page, "Stop").click()
    says(page, "Stopped by you")
    expect(page.locator(".lc-indexing")).to_have_count(0)
    expect(page.locator(".lc-runs tbody tr").first).to_contain_text("You stopped it")
    assert not deep.running
    deep.go_on()
    button(page, "Start now").click()
    says(page, "The whole library is deep")
    expect(page.locator(".lc-layer", has_text="all-mpnet-base-v2").locator(".is-force")).to_be_visible()
    expect(page.locator(".lc-runs tbody tr").first).to_contain_text("All was done")
    expect(page.locator("#lc-work button")).to_have_count(0)
    assert desk.watch.errors == []


def ticked(page):
    """The page has asked what is new, and was told."""
    with page.expect_response(lambda answer: "run/predict" in answer.url):
        pass


def test_the_pictures_are_drawn_only_while_somebody_sees_them(desk, load):
    page = index(desk)
    card = page.locator("#lc-gpu .lc-cardrow")
    expect(card).to_contain_text("3 % busy")
    before = card.text_content()
    page.get_by_role("tab", name="Chat").click()
    load.percent = 51
    for _ in range(2):
        ticked(page)
    assert card.text_content() == before
    page.get_by_role("tab", name="Index & GPU").click()
    expect(card).to_contain_text("51 % busy")


def test_the_history_and_what_was_left_out_fit_on_a_phone(desk, deep):
    papers(desk, count=2)
    finish(desk.companion)
    runs, embedder_id = desk.companion.store.index_runs, deep.identity.embedder_id
    problem = "The deep embedder could not be started: there is too little memory on the card."
    for outcome, passages, reason in (
        (RunOutcome.STOPPED, 1412, "active"), (RunOutcome.FAILED, 0, problem), (RunOutcome.BROKEN, 0, ""),
    ):  # fmt: skip
        runs.end(runs.begin(embedder_id), outcome, passages, reason)
    paper = desk.companion.library.documents(LOCAL_OWNER)[0]
    desk.companion.store.layers.note_trouble(paper.doc_id, embedder_id, "It crashed twice.", set_aside=True)
    for options in (
        {"viewport": PHONE, "has_touch": True},
        {"color_scheme": "dark", "reduced_motion": "reduce"},
    ):
        page = index(desk, **options)
        rows = page.locator(".lc-runs tbody tr")
        expect(rows.nth(0)).to_contain_text("The app ended in the middle of it")
        expect(rows.nth(1).locator(".is-failed")).to_have_text(problem)
        expect(rows.nth(2)).to_contain_text("You came back")
        expect(rows.nth(2)).to_contain_text("1,412")
        expect(page.locator(".lc-aside")).to_contain_text(f"{paper.name}It crashed twice.")
        assert page.evaluate(NARROW)
        small = page.locator("#lc-indexpane button").evaluate_all(
            "all => all.filter(b => b.getBoundingClientRect().height < 40).map(b => b.textContent)"
        )
        assert small == [] or "viewport" not in options
        assert desk.watch.errors == []
