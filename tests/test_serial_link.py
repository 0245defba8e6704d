"""The serial link under damage: what is intact arrives, nothing is invented, nothing waits."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
import tty
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.links import LinkDown
from wattveil.links import serial as links
from wattveil.links.serial import SerialLink, find_port, open_serial
from wattveil_meter.wire import SERIAL_LIMIT, Deframer, stuff

PATIENCE_S = 60.0  # of a test on a busy machine
NEVER_ON_THE_WIRE = b"\x01\x02\x03\x04\x0a\x0d\x11\x13"
damage = st.sampled_from(["none", "none", "drop", "double", "flip", "cut head", "cut tail"])
noise = st.one_of(
    st.just(b""),
    st.binary(max_size=40),
    st.sampled_from([b"\r\nMPY: soft reboot\r\n>>> ", b"\x7e", b"\x7d", b"\x7e\x7d", b"\x7e" * 5]),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], set[int], bytes]:
    """Frames, the indices of those sent intact, and the bytes on the line."""
    bodies = draw(st.lists(st.binary(max_size=60), max_size=8))
    frames = [struct.pack("<I", i) + body for i, body in enumerate(bodies)]
    intact = set()
    line = draw(noise)
    for i, frame in enumerate(frames):
        data = bytearray(stuff(frame))
        kind = draw(damage)
        at = draw(st.integers(0, len(data) - 1))
        if kind == "none":
            intact.add(i)
        elif kind == "drop":
            del data[at]
        elif kind == "double":
            data.insert(at, data[at])
        elif kind == "flip":
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut head":
            del data[: at + 1]
        else:
            del data[at:]
        line += bytes(data) + draw(noise)
    return frames, intact, line


@settings(max_examples=400, deadline=None)
@given(streams(), st.data())
def test_intact_frames_arrive_and_none_is_invented(stream, data):
    frames, intact, line = stream
    deframer = Deframer()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6)))
    got: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        got += deframer.feed(line[start:end])
    indices = [struct.unpack_from("<I", frame)[0] for frame in got]
    assert got == [frames[i] for i in indices]
    assert indices == sorted(set(indices))
    assert intact <= set(indices)


@given(st.binary(max_size=300))
def test_control_bytes_never_reach_the_wire(frame):
    line = stuff(frame)
    assert not set(line) & set(NEVER_ON_THE_WIRE)
    assert line.count(b"\x7e") == 2


@pytest.fixture
def pair() -> Iterator[tuple[SerialLink, int]]:
    """A link on the slave of a pseudo-terminal, and the master as the meter's side."""
    master, slave = os.openpty()
    tty.setraw(slave)
    link = open_serial(os.ttyname(slave))
    os.close(slave)
    yield link, master
    link.close()
    os.close(master)


def read_soon(link: SerialLink, count: int = 1) -> list[bytes]:
    frames: list[bytes] = []
    end = time.monotonic() + PATIENCE_S
    while len(frames) < count and time.monotonic() < end:
        select.select([link], [], [], 0.01)
        frames += link.read()
    return frames


def frames_at(fd: int, count: int, link: SerialLink) -> list[bytes]:
    """What the meter's side gets, as many frames as that; the link goes on sending."""
    deframer, frames = Deframer(), []
    while len(frames) < count:
        link.read()
        if select.select([fd], [], [], 0 if link.pending else PATIENCE_S)[0]:
            frames += deframer.feed(os.read(fd, 65_536))
        else:
            assert link.pending, "nothing more comes"
    return frames


def test_frames_pass_both_ways(pair):
    link, master = pair
    assert link.read() == []
    assert link.write(bytes(range(256)))
    assert frames_at(master, 1, link) == [bytes(range(256))]
    os.write(master, stuff(b"one") + b"Traceback\r\n>>> " + stuff(b"two"))
    assert read_soon(link, 2) == [b"one", b"two"]
    assert link.refused == {"damaged": 1, "oversized": 0, "overflow": 0}
    os.write(master, stuff(bytes(SERIAL_LIMIT + 1))[:3000] + stuff(b"three"))
    assert read_soon(link) == [b"three"]
    assert link.refused["oversized"] == 1


def test_a_frame_in_single_bytes(pair):
    link, master = pair
    got = []
    for byte in stuff(b"slowly"):
        os.write(master, bytes([byte]))
        assert select.select([link], [], [], PATIENCE_S)[0]
        got += link.read()
    assert got == [b"slowly"]


def test_writes_never_wait_and_are_bounded(pair):
    link, master = pair
    frames = [struct.pack("<I", i) * 500 for i in range(100)]
    taken = [frame for frame in frames if link.write(frame)]  # nobody reads: it would be for ever
    assert 0 < len(taken) < len(frames)
    assert link.refused["overflow"] == len(frames) - len(taken)
    assert 0 < link.pending <= links.PENDING_BYTES
    assert frames_at(master, len(taken), link) == taken


@pytest.mark.parametrize("doing", ["read", "write"])
def test_unplugged(doing):
    master, slave = os.openpty()
    tty.setraw(slave)
    link = open_serial(os.ttyname(slave))
    os.close(slave)
    os.write(master, stuff(b"last words"))
    if doing == "read":
        assert read_soon(link) == [b"last words"]
    os.close(master)
    with pytest.raises(LinkDown, match=link.name):
        link.read() if doing == "read" else link.write(b"x")
    with pytest.raises(LinkDown, match="is closed"):
        link.read()
    with pytest.raises(ValueError, match="is closed"):
        link.fileno()
    link.close()


def test_one_process_at_a_time(pair):
    link, _ = pair
    with pytest.raises(LinkDown, match="in use by another program"):
        open_serial(link.name)


def test_ports_by_serial_number(monkeypatch):
    def port(device: str, number: str | None, vid: int | None) -> SimpleNamespace:
        return SimpleNamespace(device=device, serial_number=number, description="Pico", vid=vid)

    plugged = [port("/dev/ttyACM1", "E660A", 0x2E8A), port("/dev/ttyUSB0", None, 0x10C4)]
    here = [*plugged, port("/dev/ttyS0", None, None)]
    monkeypatch.setattr(links.list_ports, "comports", lambda: here)
    assert find_port("E660A") == find_port("id:E660A") == "/dev/ttyACM1"
    for url in ("socket://bench:7000", "rfc2217://bench:2217", "/dev/null", "COM7"):
        assert find_port(url) == url
    with pytest.raises(LinkDown) as caught:
        find_port("E660B")
    assert "no serial port 'E660B'" in str(caught.value)
    assert "/dev/ttyACM1 (serial number E660A, Pico); /dev/ttyUSB0 (Pico)" in str(caught.value)
    assert "ttyS0" not in str(caught.value)
    monkeypatch.setattr(links.list_ports, "comports", list)
    with pytest.raises(LinkDown, match="plugged in now: none"):
        open_serial("/dev/ttyACM9")


def test_ports_that_do_not_open(tmp_path):
    plain = tmp_path / "file"
    plain.touch()
    with pytest.raises(LinkDown, match=str(plain)):
        open_serial(str(plain))
    with pytest.raises(LinkDown, match="nonsense://"):
        open_serial("nonsense://x")


def test_a_serial_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with open_serial(f"socket://127.0.0.1:{port}") as link:
            server.settimeout(PATIENCE_S)
            bench, _ = server.accept()
            with bench:
                link.write(b"up")
                assert Deframer().feed(bench.recv(100)) == [b"up"]
                bench.sendall(stuff(b"down"))
                assert read_soon(link) == [b"down"]
            with pytest.raises(LinkDown):
                read_soon(link)


def test_a_port_that_cannot_be_polled():
    with open_serial("loop://") as link:
        assert link.fileno() == -1
        assert link.read() == []
        assert link.write(b"round")
        assert link.read() == [b"round"]
