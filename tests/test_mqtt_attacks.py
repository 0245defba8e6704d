"""Who has a meter's account at the broker, and what that is good for: a real mosquitto, TLS.

Nothing here waits for a time to pass: what must not arrive is followed by something that does, on
the same connection, and order is kept (MQTT 3.1.1, 4.6). The meter's side: test_mqtt_meter.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqttparty import (
    DOWN_A,
    DOWN_B,
    FLEET,
    PATIENCE_S,
    STATUS_A,
    STATUS_B,
    UP_A,
    UP_B,
    A,
    B,
    Party,
    parties,
    start,
)
from wattveil.fleet.broker import AMQTT, Access, Broker, cloud_name
from wattveil_meter.links.mqtt import topics
from wattveil_meter.wire import SERIAL_LIMIT


@pytest.fixture(scope="module")
def access() -> Access:
    return Access.create(FLEET, 2)


@pytest.fixture(scope="module")
def broker(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with start(access, tmp_path_factory, "mosquitto") as running:
        yield running


@pytest.fixture(scope="module", params=["mosquitto", AMQTT])
def any_broker(
    request: pytest.FixtureRequest, access: Access, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    if request.param == "mosquitto":
        yield request.getfixturevalue("broker")
        return
    with start(access, tmp_path_factory, request.param) as running:
        yield running


@pytest.fixture
def party(broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    yield from parties(broker, access)


@pytest.fixture
def anywhere(any_broker: Broker, access: Access) -> Iterator[Callable[..., Party]]:
    yield from parties(any_broker, access)


# --- accounts -----------------------------------------------------------------------------------


def test_a_meter_publishes_as_itself_only(anywhere: Callable[..., Party]) -> None:
    cloud, a = anywhere(cloud_name(FLEET)), anywhere(A)
    cloud.subscribe(UP_A.rpartition("/")[0] + "/+")
    cloud.subscribe(STATUS_A.rpartition("/")[0] + "/+")
    b = anywhere(B)
    b.subscribe(DOWN_B)
    for topic in (UP_B, STATUS_B, DOWN_B, DOWN_A, "wattveil", f"{UP_A}/x"):
        a.publish(topic, b"forged")
    a.publish(STATUS_A, b"mine")
    a.publish(UP_A, b"mine")
    assert [cloud.next(), cloud.next()] == [(STATUS_A, b"mine"), (UP_A, b"mine")]
    cloud.publish(DOWN_B, b"real")
    assert b.next() == (DOWN_B, b"real")


def test_a_meter_reads_its_own_answers_only(anywhere: Callable[..., Party]) -> None:
    cloud, a, b = anywhere(cloud_name(FLEET)), anywhere(A), anywhere(B)
    for topic in ("#", "$SYS/#", "wattveil/#", "+/+/down/+", DOWN_B, UP_B, DOWN_A):
        a.subscribe(topic)
    b.publish(UP_B, b"b asks")
    b.publish(STATUS_B, b"online")
    cloud.publish(DOWN_B, b"for b")
    cloud.publish(DOWN_A, b"for a")
    assert a.next() == (DOWN_A, b"for a")
    a.publish(UP_A, b"a asks")  # nor its own questions
    cloud.publish(DOWN_A, b"again")
    seen = a.next()
    while seen == (DOWN_A, b"for a"):  # one copy for each subscription that matches
        seen = a.next()
    assert seen == (DOWN_A, b"again")


def test_a_cloud_speaks_for_its_own_fleet_only(anywhere: Callable[..., Party]) -> None:
    cloud, a = anywhere(cloud_name(FLEET)), anywhere(A)
    a.subscribe(DOWN_A)
    cloud.subscribe("#")
    cloud.publish(UP_A, b"as a meter")
    cloud.publish(topics(bytes(8), 1)[1], b"to another fleet")
    cloud.publish(DOWN_A, b"to ours")
    assert a.next() == (DOWN_A, b"to ours")
    a.publish(UP_A, b"question")
    assert cloud.next() == (UP_A, b"question")


def test_strangers_stay_out(anywhere: Callable[..., Party], access: Access) -> None:
    assert anywhere(None).greeting == "Not authorized"
    assert anywhere(A, password="guess").greeting == "Not authorized"
    assert anywhere(A, password=access.passwords[B]).greeting == "Not authorized"
    assert anywhere(A, password="").greeting == "Not authorized"
    assert anywhere(A).greeting == "Success"


def test_a_client_id_gives_nobody_anothers_session(party: Callable[..., Party]) -> None:
    cloud, b = party(cloud_name(FLEET)), party(B)
    b.subscribe(DOWN_B)
    thief = party(A, client_id=B)
    assert thief.greeting == "Success"  # but as A, whatever it calls itself
    cloud.publish(DOWN_B, b"still there")
    assert b.next() == (DOWN_B, b"still there")
    assert b.events.empty()


def test_what_is_larger_than_a_frame_ends_the_connection(party: Callable[..., Party]) -> None:
    cloud, a, b = party(cloud_name(FLEET)), party(A), party(B)
    cloud.subscribe(UP_A.rpartition("/")[0] + "/+")
    b.publish(UP_B, b"x" * SERIAL_LIMIT)
    assert cloud.next() == (UP_B, b"x" * SERIAL_LIMIT)
    a.client.publish(UP_A, b"x" * (SERIAL_LIMIT + 200), 1)
    assert a.event() == "gone"
    b.publish(UP_B, b"after")
    assert cloud.next() == (UP_B, b"after")


def test_the_broker_runs_without_rights(broker: Broker) -> None:
    status = Path(f"/proc/{broker.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids
    assert broker.folder.stat().st_mode & 0o777 == 0o700
    assert (broker.folder / "server.key").stat().st_mode & 0o777 == 0o600
    assert not list(broker.folder.glob("ca.*"))


@pytest.mark.parametrize("program", ["mosquitto", AMQTT])
def test_a_broker_ends_with_whoever_started_it(
    program: str, access: Access, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when that one was killed. Linux: the kernel sees to it."""
    if sys.platform != "linux":
        pytest.skip("needs PR_SET_PDEATHSIG")
    unused = start(access, tmp_path_factory, program)
    source = (
        "import os, sys; from pathlib import Path; from wattveil.fleet.broker import *\n"
        "broker = Broker(Access.create(bytes(8), 1), Path(sys.argv[1]), sys.argv[2])\n"
        "broker.start(); print(broker.pid, broker.folder, flush=True); sys.stdin.read()"
    )
    log = tmp_path_factory.mktemp("killed") / "log.txt"
    parent = subprocess.Popen(
        [sys.executable, "-c", source, str(log), unused._program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    unused.close()
    assert parent.stdout is not None
    pid, folder = parent.stdout.readline().split()
    os.kill(int(pid), 0)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + PATIENCE_S
    while running(int(pid)):
        assert time.monotonic() < end
        time.sleep(0.02)
    shutil.rmtree(folder)


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie whose status nobody asks for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
