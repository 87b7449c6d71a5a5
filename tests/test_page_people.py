"""Several people at the page, in real browsers: signing in, being two at once, visiting a demo."""

import asyncio

import pytest

from tests.browser import PHONE, Watch, chromium, expect
from tests.desk import answered, ask, row, upload
from tests.fakes import done
from tests.house import PASSWORDS, house
from tests.waiting import until

pytestmark = [
    pytest.mark.browser,
    # The server runs in this process, and its warnings are Gradio's, pandas's and uvicorn's own.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    with house(tmp_path_factory.mktemp("lan"), host="0.0.0.0") as found:
        until(lambda: found.companion.health().state == "ready")
        yield found


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with house(tmp_path_factory.mktemp("demo"), demo=True, demo_questions=2, demo_documents=2) as found:
        until(lambda: found.companion.health().state == "ready")
        yield found


@pytest.fixture
def arrive(browser):
    """An empty browser of somebody's own, in front of an address."""
    contexts = []

    def come(url, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page_watch = Watch(context, url.partition("/?")[0])
        page = context.new_page()
        page.watch = page_watch
        page.goto(url)
        return page

    yield come
    for context in contexts:
        context.close()


def sign_in(page, name, password=None):
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password or PASSWORDS[name])
    page.get_by_role("button", name="Sign in").click()


def inside(page):
    expect(page.locator("#lc-box textarea")).to_be_visible()
    expect(page.locator(".lc-sessions")).to_be_attached()
    return page


def open_settings(page):
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#lc-set-top_k input")).to_be_visible()


def test_a_person_signs_in_sees_who_they_are_and_signs_out(lan, arrive):
    page = arrive(lan.url + "/?session=abc")
    expect(page).to_have_url(lan.url + "/login")
    sign_in(page, "ada", "wrong password")
    expect(page.get_by_role("alert")).to_have_text("This name and this password do not belong together.")
    expect(page.get_by_label("Name")).to_have_value("ada")
    expect(page.get_by_label("Password")).to_have_value("")
    sign_in(page, "ada")
    inside(page)
    expect(page.locator(".lc-account b")).to_have_text("ada")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(lan.url + "/login")
    page.goto(lan.url)
    expect(page).to_have_url(lan.url + "/login")
    assert page.watch.strangers == []


def test_the_login_fits_a_phone_and_is_usable_by_all(lan, arrive):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for scheme in ("light", "dark"):
        page = arrive(lan.url, viewport=PHONE, color_scheme=scheme)
        expect(page.get_by_label("Name")).to_be_focused()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(page)
        assert [each["id"] for each in found.response["violations"]] == []


def test_two_people_at_once_see_each_their_own(lan, arrive, note):
    ada, bob = (arrive(lan.url) for _ in range(2))
    for page, name in ((ada, "ada"), (bob, "bob")):
        sign_in(page, name)
        inside(page)
    before = ada.locator(".lc-session").count()
    upload(ada, note)
    expect(row(ada, note)).to_contain_text("Searchable", timeout=30_000)
    lan.ollama.scripts = [["The lighthouse ", "is green [1].", done()] for _ in range(9)]
    ada.get_by_role("tab", name="Chat").click()
    ask(ada, "What colour is the lighthouse of Skagen?")
    answered(ada)
    expect(ada.locator(".lc-session")).to_have_count(before + 1)
    bob.get_by_role("tab", name="Documents").click()
    expect(bob.locator(".lc-doc", has_text="user-guide.md").first).to_be_visible()
    expect(row(bob, note)).to_have_count(0)
    expect(bob.locator(".lc-session")).to_have_count(0)
    bob.goto(f"{lan.url}/?session={ada.url.partition('session=')[2]}")
    inside(bob)
    expect(bob.get_by_text("This chat does not exist any more.").first).to_be_visible()
    expect(bob.locator("#lc-chat")).not_to_contain_text("lighthouse")
    assert ada.watch.errors == bob.watch.errors == []


def test_what_concerns_the_machine_is_shown_to_admins_only(lan, arrive):
    ada, bob = (arrive(lan.url) for _ in range(2))
    for page, name in ((ada, "ada"), (bob, "bob")):
        sign_in(page, name)
        open_settings(inside(page))
    expect(ada.locator("#lc-set-embed_deep input, #lc-set-embed_deep textarea").first).to_be_visible()
    expect(ada.locator(".lc-adminonly").first).not_to_be_visible()
    expect(bob.locator("#lc-set-embed_deep")).not_to_be_visible()
    expect(bob.locator(".lc-adminonly").first).to_contain_text("for admins")
    bob.locator("#lc-set-top_k input").fill("7")
    bob.locator("#lc-save").click()
    expect(bob.locator("#lc-saved")).to_contain_text("Saved")
    assert lan.companion.sessions.preferences(lan.owner("bob")).top_k == 7
    assert lan.companion.sessions.preferences().top_k == 5


def test_an_open_page_whose_login_ended_goes_to_the_login(lan, arrive):
    page = arrive(lan.url)
    sign_in(page, "bob")
    inside(page)
    lan.companion.people.set_password("bob", PASSWORDS["bob"])
    expect(page).to_have_url(lan.url + "/login", timeout=20_000)


def cut(house):
    """Every connection, as a proxy does, or a laptop that slept."""
    for connection in list(house.demo.server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)


def open_chat_of(page, house, name, title):
    """A chat that is there, opened; with half a question and a setting that is not saved."""
    create = house.companion.sessions.create(house.owner(name), title)
    session = asyncio.run_coroutine_threadsafe(create, house.companion.runs.loop()).result(60)
    page.goto(f"{house.url}/?session={session.session_id}")
    inside(page)
    expect(page.locator(".lc-session.is-current")).to_contain_text(title)
    open_settings(page)
    page.locator("#lc-set-system_prompt textarea").fill("Answer as my lawyer.")
    expect(page.locator("#lc-set-system_prompt .lc-unsaved")).to_be_visible()
    page.get_by_role("tab", name="Chat").click()
    page.locator("#lc-box textarea").fill("Half a question")
    return session.session_id


def keeps_what_was_typed(page):
    expect(page.locator("#lc-box textarea")).to_have_value("Half a question")
    open_settings(page)
    expect(page.locator("#lc-set-system_prompt textarea")).to_have_value("Answer as my lawyer.")
    page.get_by_role("tab", name="Chat").click()


def shows_nothing_typed(page):
    expect(page.locator("#lc-set-system_prompt textarea")).to_have_value("")
    expect(page.locator("#lc-box textarea")).to_have_value("")
    assert "Half a question" not in page.evaluate("JSON.stringify(sessionStorage)")


def test_a_page_whose_connection_breaks_comes_back_to_its_chat_and_to_what_was_typed(lan, arrive):
    page = arrive(lan.url)
    sign_in(page, "ada")
    inside(page)
    key = open_chat_of(page, lan, "ada", "Kept over a broken line")
    page.wait_for_function("lcServer.pulse")
    page.evaluate("window.before = true")
    cut(lan)
    page.wait_for_function("!window.before")
    inside(page)
    expect(page.locator(".lc-session.is-current")).to_contain_text("Kept over a broken line")
    keeps_what_was_typed(page)
    expect(page).to_have_url(f"{lan.url}/?session={key}")
    lan.ollama.scripts = [["And its answer.", done()] for _ in range(9)]
    page.locator("#lc-box textarea").press("Enter")
    answered(page)
    expect(page.locator("#lc-chat")).to_contain_text("And its answer.")


def test_a_page_that_may_be_about_to_go_waits_before_it_comes_back(lan, arrive):
    page = arrive(lan.url)
    sign_in(page, "ada")
    inside(page)
    page.wait_for_function("lcServer.pulse")
    # As a browser that breaks off everything before it knows whether what comes is a download.
    page.evaluate("window.before = true; dispatchEvent(new Event('beforeunload'))")
    cut(lan)
    page.wait_for_function("lcServer.broken")
    expect(page.locator("#lc-lost")).to_have_count(0)
    page.wait_for_function("!window.before")
    inside(page)


def test_after_a_new_login_a_person_is_back_in_their_chat_with_what_they_typed(lan, arrive):
    page = arrive(lan.url)
    sign_in(page, "bob")
    inside(page)
    key = open_chat_of(page, lan, "bob", "Kept over a login")
    lan.companion.people.set_password("bob", PASSWORDS["bob"])
    expect(page).to_have_url(lan.url + "/login")
    sign_in(page, "bob")
    expect(page).to_have_url(f"{lan.url}/?session={key}")
    inside(page)
    expect(page.locator(".lc-session.is-current")).to_contain_text("Kept over a login")
    keeps_what_was_typed(page)


def test_a_login_that_ended_while_the_line_was_broken_is_asked_for_anew(lan, arrive):
    page = arrive(lan.url)
    sign_in(page, "bob")
    inside(page)
    page.evaluate("lcServer.lost = true")
    lan.companion.people.set_password("bob", PASSWORDS["bob"])
    page.evaluate("void lcServer.look()")
    expect(page).to_have_url(lan.url + "/login")


@pytest.mark.parametrize("leaving", ["by signing out", "with the login"])
def test_who_comes_next_in_the_same_tab_gets_nothing_that_another_typed(lan, arrive, leaving):
    page = arrive(lan.url)
    sign_in(page, "bob")
    inside(page)
    open_chat_of(page, lan, "bob", "Nobody else's")
    if leaving == "by signing out":
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(lan.url + "/login")
        assert page.evaluate("sessionStorage.length") == 0
    else:
        lan.companion.people.set_password("bob", PASSWORDS["bob"])
    expect(page).to_have_url(lan.url + "/login")
    sign_in(page, "ada")
    inside(page)
    expect(page.locator(".lc-account b")).to_have_text("ada")
    expect(page).to_have_url(lan.url + "/")
    open_settings(page)
    shows_nothing_typed(page)


def test_a_visitor_of_a_demo_is_known_again_and_nobody_else(demo, arrive, note):
    one = inside(arrive(demo.url))
    expect(one.locator(".lc-account")).to_contain_text("A demo")
    upload(one, note)
    expect(row(one, note)).to_contain_text("Searchable", timeout=30_000)
    demo.ollama.scripts = [["Green [1].", done()] for _ in range(9)]
    one.get_by_role("tab", name="Chat").click()
    ask(one, "What colour is the lighthouse of Skagen?")
    answered(one)
    one.reload()
    inside(one)
    expect(one.locator("#lc-chat")).to_contain_text("Green")
    one.locator("#lc-chatmenu summary").click()
    with one.expect_download() as download:
        one.get_by_role("link", name="Download as Markdown").click()
    assert "Green" in download.value.path().read_text(encoding="utf-8")
    two = inside(arrive(demo.url))
    expect(two.locator(".lc-session")).to_have_count(0)
    two.get_by_role("tab", name="Documents").click()
    expect(two.locator(".lc-doc", has_text="user-guide.md").first).to_be_visible()
    expect(row(two, note)).to_have_count(0)
    # A reload in the middle of a stream is an error to Gradio, so only the other page is asked.
    assert two.watch.errors == []
    assert one.watch.strangers == []


def test_a_visitor_who_asked_enough_gets_no_answer_and_keeps_what_was_typed(demo, arrive):
    page = inside(arrive(demo.url))
    demo.ollama.scripts = [["Yes.", done()] for _ in range(20)]
    for number in (1, 2):
        ask(page, "Is the user guide a document?")
        expect(page.locator(".lc-copy")).to_have_count(number, timeout=30_000)
        expect(page.locator("#lc-box .submit-button")).to_be_visible()
    ask(page, "And is there more of it?")
    expect(page.get_by_role("alert")).to_contain_text("This demo answers 2 questions an hour")
    expect(page.locator(".lc-copy")).to_have_count(2)
    expect(page.locator("#lc-box textarea")).to_have_value("And is there more of it?")


def test_a_visitor_with_too_many_documents_or_too_long_a_question_is_told_the_limit(demo, arrive, tmp_path):
    page = inside(arrive(demo.url))
    files = [tmp_path / f"note-{number}.txt" for number in range(3)]
    for number, file in enumerate(files):
        file.write_text(f"Owls of wood {number} hunt voles.", encoding="utf-8")
    upload(page, *files)
    expect(page.locator("body")).to_contain_text(
        "This demo takes 2 documents; delete one, and add this one again.", timeout=30_000
    )
    page.get_by_role("tab", name="Chat").click()
    ask(page, "word " * 20_001)
    expect(page.get_by_role("alert").last).to_contain_text("The question is longer than 100,000 characters")
    expect(page.locator(".lc-copy")).to_have_count(0)
