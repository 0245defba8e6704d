"""The row factory: every row once, whatever dies or forks; full pools rest; a miss is no stall."""

import contextlib
import copy
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattveil.paillier.ciphertext import from_pair
from wattveil.paillier.factory import AHEAD_BYTES, RowPool
from wattveil.paillier.group import group_nonresidue
from wattveil.paillier.keys import generate
from wattveil.paillier.rows import Row, RowRecipe

KEY = generate(256, insecure_test_key=True)
PUBLIC = KEY.public
GAMMA = 3
PAIR = 2 * PUBLIC.bytes
RECIPE = RowRecipe(PUBLIC, group_nonresidue(PUBLIC.n, b"fleet-01", 1), GAMMA, 256)
CAPACITY = 40
WAIT_S = 60


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def pairs(data: bytes) -> list[bytes]:
    return [data[at : at + PAIR] for at in range(0, len(data), PAIR)]


def opens(row: Row) -> bool:
    opened = [KEY.decrypt(from_pair(pair, PUBLIC)) for pair in pairs(row.data)]
    return opened == [int(at == row.hot) for at in range(GAMMA)]


@pytest.fixture(scope="module")
def pool() -> Iterator[RowPool]:
    with RowPool(RECIPE, workers=2, capacity=CAPACITY) as one:
        yield one


def test_a_full_pool_rests_and_an_empty_one_makes_rows_itself() -> None:
    with RowPool(RECIPE, workers=2, capacity=5) as small:
        until(lambda: len(small) == 5)
        (first, _) = small.processes
        # Back-pressure: the workers fill their pipes, then use no more time.
        used = [-1.0]

        def resting() -> bool:
            used.append(cpu_seconds(first))
            time.sleep(0.05)
            return used[-1] == used[-2] == cpu_seconds(first)

        until(resting)
        assert len(small) == 5 and small.made_inline == 0
        rows = [small.take() for _ in range(500)]
        assert small.made_inline > 0  # taken faster than made: nobody waited
        assert all(map(opens, rows))
        assert len({pair for row in rows for pair in pairs(row.data)}) == 500 * GAMMA
        until(lambda: len(small) == 5)
        counts = small.counts()
        assert counts["ready"] == counts["capacity"] == 5
        assert counts["taken"] + counts["inline"] == 500
        assert counts["made"] == counts["taken"] + 5
    assert len(small) == 0 and small.processes == []
    assert opens(small.take())  # closed: inline
    small.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(pid: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, and was not yet replaced
        os.kill(pid, sign)


SEEN: set[bytes] = set()


def fork_and_take(pool: RowPool, count: int) -> list[bytes]:
    """The rows that a forked copy of this process gets out of its copy of the pool."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            left = len(pool)
            rows = [pool.take() for _ in range(count)]
            with os.fdopen(writer, "wb") as out:
                out.write(bytes([left]) + b"".join(row.data for row in rows))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        data = source.read()
    os.waitpid(child, 0)
    assert data[0] == 0 and len(data) == 1 + count * GAMMA * PAIR
    return pairs(data[1:])


# pytest's process has threads (ours, too); the child only takes rows and leaves by os._exit.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(("take", "take", "fill", "kill", "stop", "fork")), max_size=8))
def test_every_encryption_is_used_once_whatever_happens(pool: RowPool, steps: list[str]) -> None:
    """Workers killed and stopped at any moment, the owner forked at any moment, over all examples:
    no pair is ever seen twice, and every row is one-hot."""
    for step in steps:
        got: list[bytes] = []
        if step == "take":
            rows = [pool.take() for _ in range(15)]
            assert all(map(opens, rows))
            got = [pair for row in rows for pair in pairs(row.data)]
        elif step == "fill":
            until(lambda: len(pool) == CAPACITY)
        elif step == "fork":
            got = fork_and_take(pool, 3)
        else:
            for pid in pool.processes[:1]:
                send(pid, signal.SIGKILL if step == "kill" else signal.SIGTERM)
        for pair in got:
            assert pair not in SEEN
            SEEN.add(pair)


def test_dead_workers_are_replaced(pool: RowPool) -> None:
    until(lambda: len(pool.processes) == 2)
    before, old = pool.replaced, set(pool.processes)
    for pid in old:
        send(pid, signal.SIGKILL)

    def replaced() -> bool:
        pool.take()  # a full pool does not ask its workers for anything
        return pool.replaced >= before + 2 and len(set(pool.processes) - old) == 2

    until(replaced)
    until(lambda: len(pool) == CAPACITY)


def test_workers_end_with_the_process_that_owned_the_pool() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            orphaned = RowPool(RECIPE, workers=1, capacity=3)
            until(lambda: len(orphaned) == 3)
            os.write(writer, str(orphaned.processes[0]).encode())
        finally:
            os._exit(0)  # as if killed: nothing is cleaned up
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        worker = int(source.read())
    os.waitpid(child, 0)
    until(lambda: not running(worker))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_pool_is_not_copied_and_not_without_workers(pool: RowPool) -> None:
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="single-use"):
            duplicate(pool)  # type: ignore[operator]
    for workers, capacity in ((0, 5), (1, 0)):
        with pytest.raises(ValueError, match="at least"):
            RowPool(RECIPE, workers, capacity)


def test_memory_is_bounded() -> None:
    with RowPool(RECIPE, workers=1, capacity=1 << 60) as greedy:
        assert greedy.capacity == AHEAD_BYTES // RECIPE.row_bytes
