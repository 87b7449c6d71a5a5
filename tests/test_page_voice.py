"""Temperature and system prompt on the page, in a real browser."""

import re

import pytest

from tests.browser import expect
from tests.desk import answered, ask

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


def test_the_voice_of_a_chat_is_set_checked_saved_and_reset(desk, request):
    page = desk.sit_down()
    ask(page, "How do I add documents?")
    answered(page)
    page.get_by_role("tab", name="Settings").click()
    heat, prompt = page.locator("#lc-set-temperature"), page.locator("#lc-set-system_prompt")
    expect(heat.locator(".lc-foot")).to_contain_text("0 to 2 on the models’ scale")
    expect(heat.locator(".lc-foot")).to_contain_text("default: 0.2")
    expect(prompt.locator(".lc-foot")).to_contain_text("at most 4,000 characters")
    expect(prompt.locator(".lc-foot")).to_contain_text("default: nothing")
    number, words = heat.locator("input"), prompt.locator("textarea")
    number.fill("2.5")
    number.blur()
    expect(heat.locator(".lc-error")).to_have_text("The temperature is a number from 0 to 2.")
    number.fill("0.7")
    expect(heat.locator(".lc-error:visible")).to_have_count(0)
    words.fill("x" * 4001)
    page.locator("#lc-save").click()
    expect(prompt.locator(".lc-error")).to_contain_text("at most 4,000 characters, and this one has 4,001")
    words.fill("Be brief.\nBe kind.")
    if folder := request.config.getoption("--pictures"):
        prompt.scroll_into_view_if_needed()
        page.screenshot(path=f"{folder}/voice.png")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    page.reload()
    page.get_by_role("tab", name="Settings").click()
    expect(number).to_have_value("0.7")
    expect(words).to_have_value("Be brief.\nBe kind.")
    expect(page.locator(".lc-unsaved:visible")).to_have_count(0)
    [session] = desk.companion.sessions.list("local")
    config = desk.companion.sessions.config("local", session.session_id)
    assert (config.temperature, config.system_prompt) == (0.7, "Be brief.\nBe kind.")
    for field in (heat, prompt):
        field.get_by_role("button", name="Reset to default").click()
    expect(number).to_have_value("0.2")
    expect(words).to_have_value("")
    page.locator("#lc-save").click()
    expect(page.locator("#lc-saved")).to_contain_text("Saved")
    config = desk.companion.sessions.config("local", session.session_id)
    assert (config.temperature, config.system_prompt) == (0.2, "")
    assert re.search("nothing", prompt.locator(".lc-foot").inner_text())
    assert desk.watch.errors == []
