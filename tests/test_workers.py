"""Two cloud processes behind one broker and over one PostgreSQL, one of them killed on the way."""

from __future__ import annotations

import contextlib
import functools
import queue
import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

import pgserver
from plainmeter import PERIOD, START, PlainMeter
from plainworld import SUITES, World
from processfleet import Process
from soak.scale import scale
from wattveil.fleet.broker import (
    AMQTT,
    HOST,
    Access,
    Broker,
    BrokerMissing,
    cloud_name,
    find_broker,
    new_password,
)
from wattveil.fleet.certificates import Authority
from wattveil.store import StoreError, open_store
from wattveil.store.postgres import SharedStore
from wattveil_meter.links.mqtt import topics

METERS = 8
PATIENCE_S = 60.0
AGAIN_S = 1.0  # a meter that got no answer asks again


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pgserver.server() as url:
        yield url


class Site:
    """All roles as processes, the cloud twice; plain meters behind one connection."""

    def __init__(self, root: Path, url: str) -> None:
        self.world = World(root, METERS, SUITES["compact"])
        self.world.write_folders()
        fleet = self.world.record.fleet
        users = ["meters", cloud_name(fleet), cloud_name(fleet, 2)]
        passwords = {user: new_password() for user in users}
        self.access = Access(Authority.create(fleet), fleet, passwords)
        self.broker = Broker(self.access, root / "broker.log")
        with (self.broker.folder / "acl").open("a") as file:
            topic = f"wattveil/{fleet.hex()}"
            file.write(f"\nuser meters\ntopic write {topic}/up/+\ntopic read {topic}/down/+\n")
        self.broker.start()
        self.url = url
        self.now = START + 10
        self.roles: dict[str, Process] = {}
        for name in ("center", "dealer"):
            self.roles[name] = Process(self.world, name, "--listen", f"unix:{root}/{name}.sock")
        self.workers: dict[int, Process] = {}
        for worker in (1, 2):
            folder = root / f"worker-{worker}"
            folder.mkdir()
            self.options = ["--store", url, "--group", "cloud", "--row-workers", "0"]
            self.options += [f"--peer={n}=unix:{root}/{n}.sock" for n in ("center", "dealer")]
            broker = self.access.write_cloud(folder, HOST, self.broker.port, worker)
            self.start(worker, *broker)
        self.set_clock(self.now)
        self.seen: queue.Queue[tuple[int, bytes]] = queue.Queue()
        self.sent: dict[int, bytes] = {}
        self.client = self.connect()

    def start(self, worker: int, *broker: str) -> None:
        if broker:
            setattr(self, f"broker_{worker}", broker)
        options = (*self.options, *getattr(self, f"broker_{worker}"))
        self.workers[worker] = Process(self.world, "cloud", *options)
        self.workers[worker].tell(clock=self.now, running=False)
        self.wait(lambda: self.workers[worker].status()["broker"]["up"])

    def connect(self) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id="meters", protocol=MQTTv311)
        client.tls_set_context(
            ssl.create_default_context(cadata=self.access.authority.pem.decode())
        )
        client.username_pw_set("meters", self.access.passwords["meters"])
        client.on_message = lambda c, u, m: self.seen.put(
            (int(m.topic.rpartition("-")[2]), bytes(m.payload))
        )
        ready: queue.Queue[bool] = queue.Queue()
        client.on_subscribe = lambda *_: ready.put(True)
        client.connect(HOST, self.broker.port)
        client.loop_start()
        client.subscribe(f"wattveil/{self.world.record.fleet.hex()}/down/+", 1)
        ready.get(timeout=PATIENCE_S)
        return client

    def wait(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.02)

    def set_clock(self, now: int) -> None:
        self.now = now
        for role in (*self.roles.values(), *self.workers.values()):
            assert role.tell(clock=now, running=False) == {"ok": True}

    def publish(self, number: int, frame: bytes) -> None:
        self.client.publish(topics(self.world.record.fleet, number)[0], frame, 1)

    def pump(self, midway: Callable[[], object] | None = None, after: int = 0) -> None:
        """All meters until they have nothing more to ask; `midway` once `after` answers came."""
        meters: dict[int, PlainMeter] = self.world.meters
        asked: dict[int, float] = {}
        waiting, answers = set(meters), 0
        end = time.monotonic() + PATIENCE_S
        while waiting:
            assert time.monotonic() < end, {n: meters[n].errors for n in waiting}
            for number in sorted(waiting):
                if time.monotonic() - asked.get(number, 0.0) > AGAIN_S:
                    meters[number].unanswered = 0
                    frame = meters[number].poll()
                    if frame is None:
                        waiting.discard(number)
                        continue
                    asked[number], self.sent[number] = time.monotonic(), frame
                    self.publish(number, frame)
            try:
                number, frame = self.seen.get(timeout=0.02)
                meters[number].receive(frame)
            except (queue.Empty, AssertionError):  # nothing, or an answer to an earlier frame
                continue
            asked.pop(number, None)
            answers += 1
            if midway is not None and answers == after:
                midway()

    def release(self, start: int) -> Any:
        def released() -> Any:
            return self.roles["center"].status()["releases"].get(str(start))

        self.wait(lambda: (released() or {}).get("total_wh") is not None)
        return released()

    def leader(self) -> int:
        def leads() -> list[int]:
            return [n for n, worker in self.workers.items() if worker.status().get("leads")]

        self.wait(leads)
        (one,) = leads()
        return one

    def kill(self, worker: int) -> None:
        self.workers.pop(worker).kill()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        for role in (*self.roles.values(), *self.workers.values()):
            role.kill()
        self.broker.close()


@pytest.fixture
def site(tmp_path: Path, server: str) -> Iterator[Site]:
    try:
        if find_broker() == AMQTT:
            pytest.skip("amqtt does not share subscriptions")
    except BrokerMissing as missing:
        pytest.skip(str(missing))
    made = Site(tmp_path, pgserver.schema(server, "workers"))
    yield made
    made.close()


def total(site: Site, start: int) -> tuple[int, list[int]]:
    release = site.release(start)
    return release["total_wh"], release["members"]


@pytest.mark.timeout(scale(300, 3600))
def test_workers_share_a_fleet_and_one_may_die(site: Site) -> None:
    everybody = list(range(1, METERS + 1))
    meters = site.world.meters.values()
    for meter in meters:
        meter.patient = True
        meter.register().prepare(START)
    site.pump()
    for worker in site.workers.values():  # both have served
        assert any(m["seen"] is not None for m in worker.status()["meters"].values())

    # the leader dies while reports come in: the other one leads, and closes over all of them
    site.set_clock(START + PERIOD)
    for meter in meters:
        meter.report(START, 100 + meter.secrets.number)
    dead = site.leader()
    site.pump(lambda: site.kill(dead), after=METERS // 2)
    expected = sum(100 + number for number in everybody)
    assert total(site, START) == (expected, everybody)

    # what was accepted once is refused for ever, whoever gets it, also by one who was not there
    site.start(dead)
    frames = dict(site.sent)
    for _ in range(3):
        for number, frame in frames.items():
            site.publish(number, frame)

    def replayed() -> int:
        return sum(w.status()["refused"].get("replayed", 0) for w in site.workers.values())

    site.wait(lambda: replayed() >= 3 * METERS)
    assert all(worker.status()["refused"].get("replayed") for worker in site.workers.values())

    # the follower dies while rows are pulled
    second = START + PERIOD
    for meter in meters:
        meter.prepare(second)
    site.pump(lambda: site.kill(dead), after=METERS)
    site.set_clock(second + PERIOD)
    for meter in meters:
        meter.report(second, 50)
    site.pump()
    assert total(site, second) == (50 * METERS, everybody)

    for start in range(second + PERIOD, second + PERIOD * (1 + scale(0, 30)), PERIOD):
        for act, requests in (("prepare", 3 * METERS), ("report", METERS)):
            (gone,) = {1, 2} - set(site.workers)
            site.start(gone)
            for meter in meters:
                meter.prepare(start) if act == "prepare" else meter.report(start, 9)
            victim = random.choice((1, 2))
            site.pump(functools.partial(site.kill, victim), after=random.randint(1, requests))
            site.set_clock(start + PERIOD)
        assert total(site, start) == (9 * METERS, everybody)
    assert not any(meter.errors for meter in meters)


def test_turns_do_not_overlap_and_one_leads(server: str) -> None:
    from wattveil.roles.effects import Drop, Save

    url = pgserver.schema(server, "turns")
    with SharedStore(url) as a, SharedStore(url) as b:
        assert a.lead() and not b.lead() and a.lead()
        with pytest.raises(StoreError, match="in use by another process"):
            open_store(url)
        with a.turn() as turn:
            assert turn.rows == []
            saves = [Save("x", "1", b"old"), Save("x", "1", b"new"), Save("x", "2", b"")]
            turn.changes.extend(saves)
        with contextlib.suppress(RuntimeError), a.turn() as turn:
            turn.changes.append(Save("x", "1", b"never"))
            raise RuntimeError
        with b.turn() as turn:
            assert sorted(turn.rows) == [("x", "1", b"new"), ("x", "2", b"")]
            turn.changes.append(Drop("x", "2"))
        with b.turn() as turn:
            assert turn.rows == []
        with a.turn() as turn:
            assert turn.rows == []  # what is gone is not told
        assert a.load("x") == {"1": b"new"}
        a.close()
        end = time.monotonic() + PATIENCE_S
        while not b.lead():  # as soon as the server has noticed
            assert time.monotonic() < end
            time.sleep(0.01)
        boot = b.boot()
        with b.turn() as turn:  # more frames than a boot has: the next start is past them
            turn.changes.append(Save("sealed", "", ((boot + 3) << 32 | 5).to_bytes(8, "little")))
        assert b.boot() == boot + 4
    with open_store(url), pytest.raises(StoreError, match="a process that is alone"):
        SharedStore(url)
