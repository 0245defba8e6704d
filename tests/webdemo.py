"""`wattveil demo --web` in a process of its own, and a headless Chromium to look at it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser")
FAST = "--link memory --bits 512 --insecure-test-key --gamma 2"
PATIENCE_S = 120.0
TRACED = "devtools.timeline,disabled-by-default-devtools.timeline"


def interruptible() -> None:
    """What a child does first: who is started in the background of a script ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def web_demo(options: str, folder: Path) -> Iterator[str]:
    """The link it prints, token and all; it is interrupted at the end and must end by that."""
    words = [sys.executable, "-m", "wattveil", "demo", "--web", "--web-port", "0"]
    log = folder / "stderr.txt"
    with (
        log.open("ab") as stderr,
        subprocess.Popen(
            [*words, *options.split()],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=interruptible,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), log.read_text()
            yield url
            assert process.poll() is None, log.read_text()
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 130, log.read_text()
    token = url.partition("token=")[2]
    assert token not in log.read_text()


def chromium() -> tuple[str, str]:
    """Browser and driver; without them CI fails, others skip."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    message = "no chromium with its driver: apt-get install chromium chromium-driver"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


class Page:
    """One browser window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.log: list[dict[str, Any]] = []  # of the browser: network and trace

    def size(self, width: int, height: int) -> None:
        """A window, or a phone's screen below 600 pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def js(self, script: str, *args: Any) -> Any:
        """The value a script returns."""
        return self.driver.execute_script(script, *args)

    def text(self, id: str) -> str:
        """An element's text, hidden or not; spaces as typed."""
        text = self.js("return document.getElementById(arguments[0]).textContent", id)
        return str(text).replace("\u00a0", " ")

    def find(self, css: str) -> Any:
        """One element."""
        return self.driver.find_element("css selector", css)

    def click(self, css: str) -> None:
        """Scroll to it and click it, as a person would."""
        element = self.find(css)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def fill(self, name: str, value: object) -> None:
        """Type into a field of the settings."""
        field = self.find(f"#settings [name={name}]")
        self.js("arguments[0].scrollIntoView({block: 'center'})", field)
        field.clear()
        field.send_keys(str(value))

    def choose(self, css: str, value: str) -> None:
        """Choose in a list."""
        from selenium.webdriver.support.ui import Select

        Select(self.find(css)).select_by_value(value)

    def until(self, what: str, done: Callable[[], Any]) -> Any:
        """Wait for it; what it gave."""
        limit = time.monotonic() + PATIENCE_S
        while not (value := done()):
            assert time.monotonic() < limit, f"{what}; events: {self.text('events')}"
            time.sleep(0.05)
        return value

    def settle(self) -> None:
        """Wait until what the page was about to draw is drawn."""
        script = (
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        )
        self.driver.execute_async_script(script)

    def errors(self) -> list[str]:
        """What the console complained of."""
        return [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")
        ]

    def records(self) -> list[dict[str, Any]]:
        """All of the browser's own records so far."""
        for entry in self.driver.get_log("performance"):
            self.log.append(json.loads(entry["message"])["message"])
        return self.log

    def requests(self) -> list[str]:
        """The addresses of all requests of the page."""
        return [
            record["params"]["request"]["url"]
            for record in self.records()
            if record["method"] == "Network.requestWillBeSent"
        ]

    def traced(self) -> list[dict[str, Any]]:
        """The trace's events on the page's main thread."""
        events = [r["params"] for r in self.records() if r["method"] == "Tracing.dataCollected"]
        main = {(e["pid"], e["tid"]) for e in events if e.get("name") == "FireAnimationFrame"}
        return [e for e in events if (e["pid"], e["tid"]) in main]

    def tasks(self) -> list[tuple[float, float]]:
        """Wall and CPU milliseconds of each task there."""
        tasks = [e for e in self.traced() if e["ph"] == "X" and e["name"].endswith("RunTask")]
        return [(e["dur"] / 1000, e.get("tdur", 0) / 1000) for e in tasks]


def waits() -> dict[int, float]:
    """By main thread of a browser's page, the milliseconds it has stood in the queue for a processor
    (Linux, schedstat); by 0, those that a hypervisor took from this machine."""
    ticks = int(Path("/proc/stat").read_text().split()[8])
    found = {0: 1000 * ticks / os.sysconf("SC_CLK_TCK")}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in (process / "cmdline").read_bytes():
                waited = int((process / "schedstat").read_text().split()[1])
                found[int(process.name)] = waited / 1e6
    return found


@contextlib.contextmanager
def page(folder: Path, *, traced: bool = False) -> Iterator[Page]:
    """A fresh browser with nothing in its profile."""
    from selenium import webdriver

    browser, driver = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    flags = (
        "headless no-sandbox disable-gpu disable-quic disable-dev-shm-usage no-first-run "
        "disable-background-networking disable-component-update disable-sync"
    )
    for flag in (*flags.split(), f"user-data-dir={folder / 'profile'}", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if traced:
        options.add_experimental_option("perfLoggingPrefs", {"traceCategories": TRACED})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Page(window)
    finally:
        window.quit()
