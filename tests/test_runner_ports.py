"""Meters' ports that come and go under a running role."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from plainworld import SUITES, World
from wattveil.links import LinkDown
from wattveil.links.serial import open_serial
from wattveil.runners import loop
from wattveil.runners.loop import Runner


def test_a_pseudo_terminal_that_hung_up_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its number goes to the next one that anybody opens; a board's port is tried again."""
    monkeypatch.setattr(loop, "REOPEN_S", 0.0)
    world = World(tmp_path, 2, SUITES["compact"])
    terminal = [os.openpty()]
    gone = os.ttyname(terminal[0][1])
    tries = {gone: 0, "board": 0}

    def opening(port: str) -> Any:
        tries[port] += 1
        if port == "board":
            if tries["board"] == 5:
                runner.stop()
            raise LinkDown("unplugged")
        link = open_serial(port)
        for fd in terminal.pop():
            os.close(fd)
        terminal.append(os.openpty())  # most likely of the same number
        return link

    runner = Runner(world.role("cloud"), world.stores["cloud"], opening)
    runner.attach(gone)
    runner.attach("board")
    runner.run()
    assert tries == {gone: 1, "board": 5}
    for fd in terminal.pop():
        os.close(fd)
    world.close()
