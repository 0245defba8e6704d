"""The live page in a real browser: every control is used and its effect is waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from soak.scale import scale
from webdemo import FAST, PATIENCE_S, Page, page, waits, web_demo

LONGEST_MS, FRAME_MS, USABLE_S = 50, 33, 10
KEEP = """
const id = arguments[0]; window.kept_ = "";
new MutationObserver(() => { window.kept_ += document.getElementById(id)?.textContent; })
  .observe(document.getElementById("roles"), {childList: true});
"""
WATCH = """
window.long_ = [];
new PerformanceObserver(list => list.getEntries().forEach(e => long_.push(e.duration)))
  .observe({type: 'longtask', buffered: true});
window.frames_ = []; let last = 0;
requestAnimationFrame(function tick(now) {
  if (last) frames_.push(now - last); last = now; requestAnimationFrame(tick); });
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with web_demo(f"{FAST} --meters 6 --web-pace 0.3", tmp_path_factory.mktemp("demo")) as url:
        yield url


@pytest.fixture(scope="module")
def browser(demo: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with page(tmp_path_factory.mktemp("browser")) as window:
        window.driver.get(demo)
        window.until(
            "controls", lambda: not window.js("return document.getElementById('locked').disabled")
        )
        window.until("a total", lambda: "Wh ±" in window.text("total-text"))
        yield window


def event(window: Page, words: str) -> None:
    window.until(words, lambda: words in window.text("events"))


def state(window: Page, number: int) -> str:
    row = "return document.querySelectorAll('#meters tbody tr')[arguments[0]].cells[2].textContent"
    return str(window.js(row, number - 1))


def test_the_token_is_used_and_not_left_in_the_address(browser: Page, demo: str) -> None:
    assert "token=" in demo and "token" not in browser.driver.current_url
    assert not any("token" in url for url in browser.requests())


def test_every_part_shows_something_of_the_running_fleet(browser: Page) -> None:
    browser.until("the thief", lambda: len(browser.text("e-thief")) > 40)
    assert "bytes, and 2 slots like it" in browser.text("e-cloud")
    assert browser.text("e-true").endswith(" Wh")
    browser.until("the law", lambda: "scale Δ/ε = 11,500 Wh" in browser.text("noise-text"))
    assert "of 48 a day" in browser.text("spent-text")
    assert browser.js("return document.querySelectorAll('.chart canvas').length") == 2
    cells = browser.js(
        "return [...document.querySelectorAll('#meters tbody tr')]"
        ".map(tr => [...tr.cells].map(td => td.textContent))"
    )
    assert len(cells) == 6
    assert (
        cells[0][0] == "1: home-0001" and cells[0][1] == "○ simulated" and cells[0][6] == "memory"
    )


def test_what_each_coalition_learns(browser: Page) -> None:
    browser.until(
        "the thief's view", lambda: "a thief with the private key" in browser.text("learns")
    )
    assert "uniform" in browser.text("learns")
    for name, words in (("cloud", "which slot counts"), ("center", "the mask u is missing"),
                        ("dealer", "boundary of trust")):  # fmt: skip
        browser.click(f"#who [name={name}]")
        browser.until(words, lambda words=words: words in browser.text("learns"))
    assert "this meter's noise (true reading" in browser.text("learns")
    for name in ("cloud", "center", "dealer"):
        browser.click(f"#who [name={name}]")


@pytest.mark.parametrize("kind", ["forged", "replayed", "garbage"])
def test_a_false_frame_is_refused_by_name(browser: Page, kind: str) -> None:
    reason = {"garbage": "malformed"}.get(kind, kind)
    browser.choose("#controls [name=kind]", kind)
    browser.choose("#meter", "2")
    browser.click("[data-hx-post='/do/forge']")
    event(browser, f"{kind} frame in the name of meter 2: refused ({reason})")
    browser.until("the counter", lambda: f"{reason} 1" in browser.text("role-cloud"))


def test_a_meter_is_unplugged_and_plugged_in(browser: Page) -> None:
    browser.choose("#meter", "3")
    browser.click("[data-hx-post='/do/unplug']")
    browser.until("unplugged", lambda: "unplugged" in state(browser, 3))
    browser.until("a total over five", lambda: "5 meters" in browser.text("total-text"))
    browser.click("[data-hx-post='/do/plug']")
    browser.until("a total over six", lambda: "6 meters" in browser.text("total-text"))


def test_another_meters_report_is_shown(browser: Page) -> None:
    browser.choose("#meter", "4")
    browser.click("#controls button[data-hx-post='/do/watch']")
    browser.until("its report", lambda: "home-0004" in browser.text("eyes-of"))


@pytest.mark.parametrize("role", ["center", "dealer", "cloud"])
def test_a_killed_role_comes_back_and_totals_go_on(browser: Page, role: str) -> None:
    browser.choose("#controls [name=role]", role)
    browser.js(KEEP, f"role-{role}")  # it is away for 4 s only
    browser.click("[data-hx-post='/do/kill'] button")
    browser.until("down", lambda: "✖ down" in browser.js("return window.kept_"))
    browser.until("up", lambda: "✔ up" in browser.text(f"role-{role}"))
    event(browser, f"{role} is back")
    before = browser.text("when")
    browser.until("another period", lambda: browser.text("when") != before)
    browser.until(
        "a total",
        lambda: "6 meters" in browser.text("total-text") and "Wh ±" in browser.text("total-text"),
    )


def test_theme_and_pause(browser: Page) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(3):
        browser.click("#theme")
        seen.add((browser.find("#theme b").text, browser.js(colour)))
    assert {name for name, _ in seen} == {"system", "light", "dark"} and len(
        {c for _, c in seen}
    ) == 2
    browser.click("#pause")
    browser.settle()
    before = browser.text("when")
    time.sleep(1.5)  # periods go on at one in 0.3 s
    assert browser.text("when") == before
    browser.click("#pause")
    browser.until("going on", lambda: browser.text("when") != before)


def test_wrong_settings_are_refused_with_a_sentence(browser: Page) -> None:
    for name, value, words in (("gamma", "300", "gamma: 1 to 255"), ("epsilon", "-1", "epsilon"),
                               ("meters", "1", "meters: 2 to 500"), ("budget", "x", "budget: ")):  # fmt: skip
        field = browser.find(f"#settings [name={name}]")
        kept = field.get_attribute("value")
        browser.fill(name, value)
        browser.click("#settings button")
        browser.until(words, lambda words=words: words in browser.text("said"))
        browser.fill(name, kept)


def test_new_settings_make_a_new_fleet(browser: Page) -> None:
    browser.choose("#settings [name=suite]", "compact")
    for name, value in {"gamma": 3, "epsilon": "0.5", "meters": 8, "budget": "1"}.items():
        browser.fill(name, value)
    browser.click("#settings button")
    browser.until(
        "the fleet",
        lambda: "8 meters, a total needs 6; suite compact, γ 3" in browser.text("about"),
    )
    assert "ε 0.5 a period" in browser.text("about")
    browser.until(
        "its meters",
        lambda: browser.js("return document.querySelectorAll('#meters tbody tr').length") == 8,
    )
    event(browser, "no total, over_limit")  # after two periods of the day
    browser.until("the spend", lambda: "1 of 1 a day" in browser.text("spent-text"))


@pytest.mark.parametrize("width", [360, 1920])
def test_it_fits_and_is_labelled(browser: Page, width: int) -> None:
    browser.size(width, 800)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    unnamed = browser.js("""
      return [...document.querySelectorAll('button, input, select, [role=img], progress, section, details')]
        .filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel
          || document.getElementById(e.getAttribute('aria-labelledby'))))
        .map(e => e.outerHTML.slice(0, 80))""")
    assert unnamed == []
    small = browser.js("""
      return [...document.querySelectorAll('button, select, input:not([type=checkbox]), label.tick')]
        .filter(e => e.offsetHeight && e.offsetHeight < 40).map(e => e.outerHTML.slice(0, 80))""")
    assert small == []
    assert browser.js("return document.documentElement.lang") == "en"
    assert browser.js("return new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
                      " === document.querySelectorAll('[id]').length")  # fmt: skip


def test_it_works_by_keyboard(browser: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.js("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(40):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            browser.js("const e = document.activeElement; return e.id || e.name || e.textContent")
        )
    wanted = {
        "theme",
        "pause",
        "cloud",
        "meter",
        "kind",
        "role",
        "suite",
        "gamma",
        "budget",
        "New fleet",
    }
    assert wanted <= set(reached)
    ring = browser.js("document.getElementById('pause').focus({focusVisible: true});"
                      " return getComputedStyle(document.getElementById('pause')).outlineStyle")  # fmt: skip
    assert ring == "solid"


def test_nothing_leaves_the_machine_and_the_console_is_clean(browser: Page, demo: str) -> None:
    """After all of the above. What was refused with 422 is an error to the browser, not to us."""
    ours = urlsplit(demo).netloc
    pages = [
        url for url in browser.requests() if not url.startswith(("chrome:", "data:", "about:"))
    ]
    assert pages and {urlsplit(url).netloc for url in pages} == {ours}
    assert [error for error in browser.errors() if "422" not in error] == []


def test_read_only_without_the_token(demo: str, tmp_path: Path) -> None:
    with page(tmp_path) as window:
        window.driver.get(demo.partition("#")[0])
        window.until("live", lambda: "live" in window.text("link"))
        assert window.js("return document.getElementById('locked').disabled")
        answer = "return (await fetch('/do/kill', {method: 'POST', body: 'role=cloud'})).status"
        assert window.js(answer) == 403
        assert "Read-only" in window.find("#readonly").text


def test_fifty_meters_a_second_leave_the_page_smooth(tmp_path: Path) -> None:
    """No task has more than 50 ms of CPU time. By the clock, which runs on while a busy machine has
    the processor elsewhere, what the browser itself reports as long is no longer than 50 ms and what
    the kernel says its thread has waited for a processor."""
    options = f"{FAST} --suite compact --meters 50 --web-pace 0.3"
    with web_demo(options, tmp_path) as url, page(tmp_path, traced=True) as window:
        before = waits()
        window.driver.get(url)
        rows = "return document.querySelectorAll('#meters tbody tr').length"
        window.until("fifty meters", lambda: window.js(rows) == 50)
        number = "return parseInt(document.getElementById('when').textContent)"
        first = window.until("a period", lambda: window.js(number))
        began = time.monotonic()
        window.js(WATCH)
        window.until("five periods", lambda: window.js(number) >= first + 5)
        seconds = (time.monotonic() - began) / (window.js(number) - first)
        frames = sorted(window.js("return frames_"))
        long, after = window.js("return long_"), waits()
        window.driver.get("about:blank")  # ends the trace of it
        tasks, threads = window.tasks(), {event["tid"] for event in window.traced()}
    longest, wall = max(cpu for _, cpu in tasks), max(wall for wall, _ in tasks)
    waited = sum(after[thread] - before.get(thread, 0.0) for thread in {0, *threads})
    print(f"50 meters every {seconds:.2f} s: longest task {longest:.1f} ms of CPU, {wall:.1f} ms by the "
          f"clock; {len(long)} long tasks {long}, {waited:.1f} ms waited; "
          f"median frame {frames[len(frames) // 2]:.1f} ms of {len(frames)}")  # fmt: skip
    assert len(tasks) > 100 and longest <= LONGEST_MS
    assert sum(task - LONGEST_MS for task in long) <= waited + scale(2000, 0)
    assert frames[len(frames) // 2] <= scale(
        1000, FRAME_MS
    )  # by the clock: of a machine of its own


def test_usable_soon_after_the_roles_start(tmp_path: Path) -> None:
    """The default fleet: twelve MicroPython meters behind serial ports, in all a key's 2048 bits."""
    with page(tmp_path) as window, web_demo("", tmp_path) as url:
        window.driver.get(url)
        enabled = "return !document.getElementById('locked').disabled"
        rows = "return document.querySelectorAll('#meters tbody tr').length"
        window.until(
            "meters start",
            lambda: "starting meters" in window.text("phase") or window.js(rows) == 12,
        )
        began = time.monotonic()  # the roles were up a moment before
        window.until("controls and meters", lambda: window.js(enabled) and window.js(rows) == 12)
        taken = time.monotonic() - began
        print(f"usable {taken:.1f} s after the roles' start")
        assert "emulated" in window.text("meters")
    assert taken <= scale(PATIENCE_S, USABLE_S)
