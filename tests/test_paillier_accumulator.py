"""Products of ciphertexts: the same in any grouping and order, on every engine."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pytest
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from wattveil.cli import main
from wattveil.fleet.certificates import Authority
from wattveil.paillier.accumulator import Accumulator, Partial, multiply
from wattveil.paillier.ciphertext import to_pair
from wattveil.paillier.engines import NoEngine, open_executor, security
from wattveil.paillier.group import group_nonresidue
from wattveil.paillier.keys import NotACiphertext, generate
from wattveil.paillier.rows import RowFactory
from wattveil.store.packed import Damaged, PackedFile, Span

KEY = generate(256, insecure_test_key=True)
PUBLIC = KEY.public
ACCUMULATOR = Accumulator(PUBLIC)
FACTORY = RowFactory(PUBLIC, group_nonresidue(PUBLIC.n, b"fleet-01", 1))

edges = st.sampled_from([1, 2, int(PUBLIC.n) - 1, int(PUBLIC.n) + 1, int(PUBLIC.n2) - 1])
ciphertexts = (st.integers(1, int(PUBLIC.n2) - 1) | edges).map(mpz).filter(PUBLIC.is_ciphertext)


def product(factors: list[mpz]) -> mpz:
    return reduce(lambda x, c: x * c % PUBLIC.n2, factors, mpz(1))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ciphertexts, max_size=5), max_size=6), st.randoms(), st.data())
def test_any_grouping_in_any_order_is_the_plain_product(
    groups: list[list[mpz]], random: object, data: st.DataObject
) -> None:
    partials = []
    for group in groups:
        cut = data.draw(st.integers(0, len(group)))
        wire = [to_pair(c, PUBLIC) for c in group]
        partial = ACCUMULATOR.add(ACCUMULATOR.create(), wire[:cut])
        partials.append(ACCUMULATOR.add(partial, map(memoryview, wire[cut:])))
    partials.append(ACCUMULATOR.create())
    while len(partials) > 1:
        a = partials.pop(data.draw(st.integers(0, len(partials) - 1)))
        b = partials.pop(data.draw(st.integers(0, len(partials) - 1)))
        assert ACCUMULATOR.merge(a, b) == ACCUMULATOR.merge(b, a)
        partials.append(ACCUMULATOR.merge(a, b))
    flat = [c for group in groups for c in group]
    assert partials[0].count == len(flat)
    assert ACCUMULATOR.extract(partials[0]) == product(flat)


@settings(max_examples=50, deadline=None)
@given(ciphertexts, ciphertexts, ciphertexts)
def test_merging_is_associative(a: mpz, b: mpz, c: mpz) -> None:
    one, two, three = (
        ACCUMULATOR.add(ACCUMULATOR.create(), [to_pair(x, PUBLIC)]) for x in (a, b, c)
    )
    merge = ACCUMULATOR.merge
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, ACCUMULATOR.create()) == one


def test_one_factor_that_is_no_unit_spoils_the_product_by_name() -> None:
    good = to_pair(FACTORY.one(), PUBLIC)
    for bad in (int(KEY.p), 3 * int(KEY.q), 0):
        pair = bad.to_bytes(PUBLIC.bytes, "little") + bytes(PUBLIC.bytes)
        partial = ACCUMULATOR.add(ACCUMULATOR.create(), [good, pair, good])
        with pytest.raises(NotACiphertext, match="invertible"):
            ACCUMULATOR.extract(partial)
    for wrong in (good[:-1], good + b"\0", b""):
        with pytest.raises(NotACiphertext, match="bytes"):
            ACCUMULATOR.add(ACCUMULATOR.create(), [wrong])


COUNT = 240


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Span, list[mpz]]:
    """A packed file of encryptions, every third of 1, in batches of 100."""
    path = tmp_path_factory.mktemp("packed") / "slots.packed"
    made = [FACTORY.zero() if at % 3 else FACTORY.one() for at in range(COUNT)]
    records = [(at, to_pair(c, PUBLIC)) for at, c in enumerate(made)]
    with PackedFile(path, 2 * PUBLIC.bytes, bytes(32), 0) as file:
        for at in range(0, COUNT, 100):
            file.append(records[at : at + 100])
    return Span(str(path), 0, COUNT), made


def check(executor: Executor, stored: tuple[Span, list[mpz]], under_way: int = 64) -> None:
    span, made = stored
    total = multiply(executor, PUBLIC, span.split(50), under_way)
    assert total.count == COUNT
    result = ACCUMULATOR.extract(total)
    assert result == product(made) and KEY.decrypt(result) == COUNT // 3


@pytest.mark.parametrize("under_way", [1, 2, 64])
def test_threads(stored: tuple[Span, list[mpz]], under_way: int) -> None:
    with ThreadPoolExecutor(3) as executor:
        check(executor, stored, under_way)
        assert multiply(executor, PUBLIC, [], under_way) == ACCUMULATOR.create()


def test_processes(stored: tuple[Span, list[mpz]]) -> None:
    with open_executor("2") as executor:
        check(executor, stored)
        assert len(multiprocessing.active_children()) >= 2
        span = stored[0]
        with pytest.raises(Damaged, match="are there"):
            multiply(executor, PUBLIC, [Span(span.path, COUNT - 1, 2)])
        check(executor, stored)  # an engine outlives a task that failed


def test_a_local_dask_cluster(stored: tuple[Span, list[mpz]]) -> None:
    """Two workers with a scheduler between, over real sockets; in this process, to be quick."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None,
            protocol="tcp://", host="127.0.0.1",
        ) as cluster,
        open_executor(cluster.scheduler_address) as executor,
    ):  # fmt: skip
        check(executor, stored)
        workers = cluster.scheduler_info["workers"]
        assert len(workers) == 2
        span = stored[0]
        with pytest.raises(Damaged):
            multiply(executor, PUBLIC, [Span(span.path, COUNT, 1)])


def test_a_dask_cluster_over_tls(stored: tuple[Span, list[mpz]], tmp_path: Path) -> None:
    """Only with a certificate of the cluster's authority; a meter's, of the fleet's, is not one."""
    distributed = pytest.importorskip("distributed")
    assert main(["tls", "cluster", "--out", str(tmp_path), "scheduler", "client"]) == 0
    assert main(["tls", "cluster", "--out", str(tmp_path), "../x"]) == 2
    meter, issued = tmp_path / "meter", Authority.create(bytes(8)).device("meter-01")
    meter.mkdir()
    for name, data in (("node.pem", issued.certificate), ("node.key", issued.key)):
        (meter / name).write_bytes(data)
    (meter / "ca.pem").write_bytes((tmp_path / "client" / "ca.pem").read_bytes())
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tls://", host="127.0.0.1", security=security(tmp_path / "scheduler"),
    ) as cluster:  # fmt: skip
        where = cluster.scheduler_address
        with open_executor(where, tmp_path / "client") as executor:
            check(executor, stored)
        quick = {"distributed.comm.timeouts.connect": "2s"}  # it asks again and again
        with pytest.importorskip("dask").config.set(quick):
            for stranger, address in ((meter, where), (None, where.replace("tls:", "tcp:"))):
                with (
                    pytest.raises(OSError, match=r"SSL|connect|closed"),
                    open_executor(address, stranger),
                ):
                    pass


class Counting(Executor):
    """Runs tasks only when asked, and knows how many wait."""

    def __init__(self) -> None:
        self.most = self.waiting = 0
        self.pool = ThreadPoolExecutor(1)

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        future: Future[Partial] = self.pool.submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _: Future[Partial]) -> None:
        self.waiting -= 1


@dataclass(frozen=True)
class Pairs:
    """A part that is its own data."""

    pairs: tuple[bytes, ...]

    def payloads(self) -> Iterator[memoryview]:
        return map(memoryview, self.pairs)


def test_not_more_tasks_under_way_than_allowed() -> None:
    executor = Counting()
    pair = to_pair(FACTORY.one(), PUBLIC)
    total = multiply(executor, PUBLIC, (Pairs((pair,)) for _ in range(200)), 7)
    executor.pool.shutdown()
    assert total.count == 200 and KEY.decrypt(ACCUMULATOR.extract(total)) == 200
    assert executor.most <= 7


def test_engines_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("0", "-1", "", "http://x", "two"):
        with pytest.raises(ValueError, match="number of processes"), open_executor(where):
            pass
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(NoEngine, match="scale"), open_executor("tcp://127.0.0.1:1"):
        pass


def test_partials_hide_their_numbers(tmp_path: Path) -> None:
    partial = ACCUMULATOR.add(ACCUMULATOR.create(), [to_pair(FACTORY.one(), PUBLIC)])
    assert str(int(partial.low)) not in repr(partial)
