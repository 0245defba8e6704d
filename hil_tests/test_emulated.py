"""An emulated meter is a board as far as the host can tell: its port, its link, its sudden ends."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wattveil.fleet import emulated
from wattveil.fleet.emulated import EmulatedMeter
from wattveil.links import LinkDown
from wattveil.links.serial import open_serial
from wattveil_meter.wire import stuff

ECHO = Path(__file__).parent / "echo_main.py"
LIMIT = 8192
PATIENCE_S = 60.0  # of a test on a busy machine

PARENT = """
import sys, time
from pathlib import Path
from wattveil.fleet.emulated import EmulatedMeter
meter = EmulatedMeter(Path(sys.argv[1]), sys.argv[2], main=Path(sys.argv[3]))
meter.start()
print(meter.pid, flush=True)
time.sleep(60)
"""


def test_all_bytes_and_bursts_pass(runtime, emulate, receive, greet):
    rng = random.Random(1)
    frames = [
        bytes(range(256)),
        *(rng.randbytes(4096) for _ in range(4)),
        b"\x03\x04\x7e\x7d" * 99,
    ]
    with open_serial(emulate(runtime, ECHO).port, limit=LIMIT) as link:
        greet(link)
        for frame in frames:
            assert link.write(frame)
        assert receive(link, len(frames)) == frames
        assert link.refused == {"damaged": 0, "oversized": 0, "overflow": 0}


def test_killed_and_restarted_on_the_same_port(runtime, emulate, receive, greet):
    meter = emulate(runtime, ECHO)
    with open_serial(meter.port, limit=LIMIT) as link:
        greet(link)
        first = meter.pid
        meter.kill()
        assert not meter.alive()
        assert meter.wait() == -signal.SIGKILL
        link.write(b"to a dead meter")
        assert receive(link, 1, 0.2) == []
        meter.restart()
        greet(link)
        assert meter.pid != first
        link.write(b"to a live one")
        assert receive(link, 1) == [b"to a live one"]


def test_host_closes_and_opens_the_port_again(runtime, emulate, receive, greet):
    meter = emulate(runtime, ECHO)
    for round in (b"one", b"two"):
        with open_serial(meter.port, limit=LIMIT) as link:
            greet(link)
            link.write(round)
            assert receive(link, 1) == [round]
    assert meter.alive()


def test_streams_that_start_in_the_middle(runtime, emulate, receive, greet):
    meter = emulate(runtime, ECHO)
    with open_serial(meter.port, limit=LIMIT) as link:
        greet(link)
    frames = [bytes([i]) * 1500 for i in (1, 2)]
    port = os.open(meter.port, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(port, stuff(b"half a frame")[5:])
        os.write(port, b">>> text\r\n" + b"".join(map(stuff, frames)))
        assert select.select([port], [], [], 10)[0]
        assert os.read(port, 100)  # from here on the host's stream lacks its beginning
    finally:
        os.close(port)
    with open_serial(meter.port, limit=LIMIT) as link:
        link.write(b"in step again")
        got: list[bytes] = []
        while b"in step again" not in got:
            came = receive(link, 1)
            assert came, "not in step"
            got += came
        assert [frame for frame in frames if frame in got] == got[:-1]  # whole ones only


def test_hang_up_is_a_clean_end(runtime, emulate, greet):
    meter = emulate(runtime, ECHO)
    with open_serial(meter.port, limit=LIMIT) as link:
        greet(link)
    meter.hang_up()
    assert meter.wait(PATIENCE_S) == 0
    assert meter.log() == ""


def test_close_is_an_unplugged_cable(runtime, emulate, receive, greet):
    meter = emulate(runtime, ECHO)
    link = open_serial(meter.port, limit=LIMIT)
    greet(link)
    meter.close()
    with pytest.raises(LinkDown, match=meter.port):
        receive(link, 1)
    with pytest.raises(LinkDown, match="closed"):
        link.write(b"x")


def test_log_keeps_the_traceback_and_stays_small(runtime, emulate, receive, greet, monkeypatch):
    monkeypatch.setattr(emulated, "LOG_BYTES", 5000)
    meter = emulate(runtime, ECHO)
    with open_serial(meter.port, limit=LIMIT) as link:
        greet(link)
        link.write(b"spam")
        assert receive(link, 1) == [b"spam"]
        link.write(b"raise")
        assert meter.wait(PATIENCE_S) == 1
    end = time.monotonic() + PATIENCE_S
    while "as asked" not in meter.log() and time.monotonic() < end:
        time.sleep(0.01)
    assert "ValueError: as asked" in meter.log()
    assert len(meter.log()) <= 5000


def test_meters_die_with_the_process_that_started_them(runtime, tmp_path):
    """Also one that never looks at its input."""
    main = tmp_path / "deaf.py"
    main.write_text("import time\nwhile True:\n    time.sleep(1)\n")
    command = [sys.executable, "-c", PARENT, str(tmp_path), runtime, str(main)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    end = time.monotonic() + PATIENCE_S
    while running(pid):
        assert time.monotonic() < end, "the meter outlived its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie that nobody reaps."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_cannot_start(tmp_path):
    with pytest.raises(ValueError, match="no runtime is called 'cobol'"):
        EmulatedMeter(tmp_path, "cobol")
    with pytest.raises(FileNotFoundError, match=r"nothing\.py is missing"):
        EmulatedMeter(tmp_path, "cpython", main=tmp_path / "nothing.py")
    with pytest.raises(ValueError, match="never started"):
        EmulatedMeter(tmp_path, "cpython", main=ECHO).wait()
