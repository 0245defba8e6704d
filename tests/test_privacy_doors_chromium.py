"""The three pages in a real browser: every control is used and its effect is waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doorsworld import CANARY, END, START, Folder
from wattveil.privacy.web.app import create_app
from wattveil.privacy.web.doors import Doors, Rates
from wattveil.web.server import serving
from webdemo import Page, page

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("doors"))


@pytest.fixture(scope="module")
def url(folder: Folder) -> Iterator[str]:
    doors = Doors(folder.state, rates=Rates(*[(10**6, 10**6)] * 4))
    with serving(lambda over: create_app(doors, HOST), HOST, 0) as (host, port):
        yield f"http://{host}:{port}/"
    doors.close()


@pytest.fixture(scope="module")
def browser(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page(tmp_path_factory.mktemp("browser")) as window:
        yield window


def log_in(browser: Page, url: str, folder: Folder, who: str) -> None:
    browser.driver.delete_all_cookies()
    browser.driver.get(url)
    browser.find("[name=who]").send_keys(who)
    browser.find("[name=token]").send_keys(folder.tokens[who])
    browser.click("button.first")
    browser.until("the page", lambda: "Log out" in browser.driver.page_source)


def fill(browser: Page, css: str, value: str) -> None:
    field = browser.find(css)
    field.clear()
    field.send_keys(value)


def quiet(browser: Page) -> None:
    """Nothing of the page was refused by its own policy, and no script failed."""
    severe = [
        row["message"] for row in browser.driver.get_log("browser") if row["level"] == "SEVERE"
    ]
    assert severe == []


def test_wrong_key_does_not_log_in(browser: Page, url: str) -> None:
    browser.driver.get(url)
    browser.find("[name=who]").send_keys("analyst:ann")
    browser.find("[name=token]").send_keys("guess")
    browser.click("button.first")
    browser.until("the refusal", lambda: "not this person's key" in browser.driver.page_source)
    browser.driver.get_log("browser")  # the 401 is in it


def test_analyst_sees_the_error_before_the_spend_and_the_band_after(
    browser: Page, url: str, folder: Folder
) -> None:
    log_in(browser, url, folder, "analyst:ann")
    browser.until("budgets", lambda: "analyst:ann" in browser.text("budgets")
                  or "dataset:meters" in browser.text("budgets"))  # fmt: skip
    for name, value in (("start", START), ("end", END), ("clip", "1000"), ("resolution", "3600")):
        fill(browser, f"[name={name}]", value)
    browser.click("#preview")
    browser.until("the error", lambda: "Error to expect" in browser.text("answer"))
    assert "Nothing was spent" in browser.text("answer")
    assert browser.js("return document.querySelectorAll('#answer canvas').length") == 0
    browser.click("#ask button.first")
    browser.until("the plot", lambda: browser.js(
        "return document.querySelectorAll('#answer .chart[data-drawn] canvas').length"))  # fmt: skip
    data = browser.js("return JSON.parse(document.querySelector('#answer .chart').dataset.chart)")
    assert len(data) == 4 and len(data[0]) == 48
    assert all(low <= value <= high for _, low, high, value in zip(*data, strict=True))
    painted = """const c = document.querySelector('#answer canvas');
      const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      return p.some((value, i) => i % 4 === 3 && value > 0);"""
    assert browser.js(painted)
    browser.until("the spend", lambda: "0.5" in browser.text("budgets"))
    fill(browser, "[name=region]", "nowhere")
    browser.click("#ask button.first")
    browser.until("the refusal", lambda: "group_too_small" in browser.text("answer"))
    quiet(browser)


def test_officer_sets_a_budget_that_another_approves_and_verifies_the_log(
    browser: Page, url: str, folder: Folder
) -> None:
    log_in(browser, url, folder, "privacy-officer:pam")
    for part, words in (("budgets", "subject_lifetime"), ("alarms", "o alarm"), ("log", "root")):
        browser.until(part, lambda part=part, words=words: words in browser.text(part))
    fill(browser, "[name=account]", "public")
    fill(browser, "[name=limit]", "2")
    browser.click("#budget button")
    browser.until("asked", lambda: "until somebody else approves" in browser.text("budget-said"))
    browser.until("waiting", lambda: "budget-raise" in browser.text("approvals"))
    browser.click("#approvals button")
    browser.until("no", lambda: "same_person" in browser.text("approve-said"))
    browser.click("#verify")
    browser.until("the verdict", lambda: "Consistent" in browser.text("verdict"))
    quiet(browser)
    browser.click("a[href='/officer/report']")
    browser.until("report", lambda: "INDUSTRY-15-15" in browser.driver.page_source)
    assert CANARY not in browser.driver.page_source
    quiet(browser)


def test_customer_sees_own_data_and_switches_consent(
    browser: Page, url: str, folder: Folder
) -> None:
    log_in(browser, url, folder, "customer:house-3")
    browser.until("data", lambda: "2 days" in browser.text("data"))
    browser.until("the plot", lambda: browser.js(
        "return document.querySelectorAll('#data .chart[data-drawn] canvas').length"))  # fmt: skip
    first = "#consents [role=switch]"
    browser.until("consents", lambda: browser.js(f"return !!document.querySelector('{first}')"))
    for now in ("true", "false"):
        browser.click(first)
        state = f"return document.querySelector('{first}').getAttribute('aria-checked')"
        browser.until(f"consent {now}", lambda state=state, now=now: browser.js(state) == now)
    xml = browser.driver.execute_async_script(
        "const done = arguments[0]; fetch('/customer/greenbutton.xml').then(r => r.text()).then(done)"
    )
    assert "IntervalReading" in xml and CANARY not in xml
    quiet(browser)
    browser.click("#report")
    browser.until("report", lambda: "What became of your data" in browser.driver.page_source)
    quiet(browser)
