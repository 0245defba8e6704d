"""The Merkle log: RFC 6962's tree, what `log verify` notices, and the stand-alone checker."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verify_log
from wattveil.privacy.log import Log, LogError, merkle
from wattveil.privacy.log.heads import Head, canonical, witnessed
from wattveil.privacy.log.verify import export, proof, verify
from wattveil.privacy.state import State

TOOL = Path(verify_log.__file__)

# The reference tree of the Certificate Transparency implementations: leaves, and the root after each.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657",
          "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
RIGHT = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"


class Tree(dict[tuple[int, int], bytes]):
    """A tree in memory."""

    def __init__(self, leaves: list[bytes]) -> None:
        super().__init__()
        for index, leaf in enumerate(leaves):
            for level, position, value in merkle.grown(self.node, index, leaf):
                self[level, position] = value

    def node(self, level: int, position: int) -> bytes:
        return self[level, position]


def mth(leaves: list[bytes]) -> bytes:
    """MTH(D[n]) as RFC 6962 section 2.1 writes it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def head(size: int, root: bytes) -> verify_log.Head:
    return verify_log.Head(size, 0, root, b"")


def test_reference_tree_and_proofs() -> None:
    leaves = [bytes.fromhex(leaf) for leaf in LEAVES]
    tree = Tree(leaves)
    assert [merkle.root(tree.node, n).hex() for n in range(1, 9)] == ROOTS
    assert merkle.root(tree.node, 0).hex() == hashlib.sha256(b"").hexdigest()
    path = [step.hex() for step in merkle.inclusion(tree.node, 5, 8)]
    assert path == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", RIGHT, ROOTS[3]
    ]  # fmt: skip
    since = [step.hex() for step in merkle.consistency(tree.node, 6, 8)]
    assert since == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", RIGHT, ROOTS[3]
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=70), st.data())
@settings(max_examples=60, deadline=None)
def test_any_tree_proves_what_is_in_it_and_nothing_else(leaves: list[bytes], data: st.DataObject):
    tree, size = Tree(leaves), len(leaves)
    root = merkle.root(tree.node, size)
    assert root == mth(leaves) == dict(merkle.roots(leaves, [size]))[size]
    index = data.draw(st.integers(0, size - 1))
    path, leaf = merkle.inclusion(tree.node, index, size), merkle.leaf_hash(leaves[index])
    for check in (merkle.included, verify_log.included):
        assert check(leaf, index, size, path, root)
        assert not check(merkle.leaf_hash(leaves[index] + b"x"), index, size, path, root)
        assert not check(leaf, index, size, [*path, root], root)
        assert not check(leaf, size, size, path, root) and not check(leaf, -1, size, path, root)
        for n in range(len(path)):
            assert not check(leaf, index, size, [*path[:n], *path[n + 1 :]], root)
    first = data.draw(st.integers(1, size))
    old, since = mth(leaves[:first]), merkle.consistency(tree.node, first, size)
    assert verify_log.consistent(head(first, old), head(size, root), since)
    assert merkle.consistent(first, size, since, old, root)
    other = mth([*leaves[: first - 1], leaves[first - 1] + b"x"])
    assert not verify_log.consistent(head(first, other), head(size, root), since)
    assert not merkle.consistent(first, size, since, other, root)
    assert not merkle.consistent(first, size, [*since, root], old, root)
    assert not merkle.consistent(size + 1, size, since, old, root)
    assert not verify_log.consistent(head(first, old), head(size, other), [*since, root])
    if first < size:
        assert not merkle.consistent(first, size, since[:-1], old, root)
        assert not verify_log.consistent(head(first, old), head(size, old), since)
        assert not verify_log.consistent(head(first, old), head(size, root), since[:-1])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gateway's folder with 13 entries under 7 heads."""
    path = tmp_path_factory.mktemp("log") / "gateway"
    state = State.create(path)
    for count in (1, 2, 3, 1, 4, 1, 1):
        with state.transaction():
            for n in range(count):
                state.log().append("test", {"n": n, "of": count})
    state.gateway().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    state.close()
    return path


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "gateway"))


def exported(state: State, path: Path) -> Path:
    with state.transaction():
        public = next(iter((state.path / "witness").glob("log.pub"))).read_text()
    lines = export(state.log(), bytes.fromhex(public))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The script alone: -I keeps this package, and the current folder, out of its reach."""
    command = [sys.executable, "-I", str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_log_is_consistent_and_the_checker_agrees(folder: Path, tmp_path: Path) -> None:
    state = State.open(folder)
    verdict = verify(state.gateway(), folder / "witness")
    assert verdict.consistent and (verdict.entries, verdict.heads, verdict.witnessed) == (13, 7, 7)
    file = exported(state, tmp_path / "log")
    proofs = []
    for index, since in ((0, None), (4, 3), (12, 12), (6, 13)):
        found = proof(state.log(), index, since)
        proofs.append(tmp_path / f"proof-{index}")
        proofs[-1].write_text(json.dumps(found, indent=1))
    done = tool(file, *proofs, "--witness", folder / "witness")
    assert done.returncode == 0, done.stderr
    assert "13 entries, 7 heads, 7 of them witnessed" in done.stdout
    assert "entry 4 is in the log of 13 entries, which begins with the one of 3" in done.stdout


def edit(db: sqlite3.Connection, *statements: str) -> None:
    for table in ("leaves", "nodes", "heads"):
        for verb in ("update", "delete"):
            db.execute(f"DROP TRIGGER log_{table}_{verb}")
    for statement in statements:
        db.execute(statement)


ATTACKS = {
    "edited": ["UPDATE log_leaves SET leaf=replace(leaf, '\"n\":1', '\"n\":7') WHERE idx=4"],
    "reordered": ["UPDATE log_leaves SET idx=idx+100 WHERE idx IN (3, 4)",
                  "UPDATE log_leaves SET idx=207-idx-100 WHERE idx>100"],
    "an entry removed": ["DELETE FROM log_leaves WHERE idx=5"],
    "truncated": ["DELETE FROM log_leaves WHERE idx>=11"],
    "truncated with its heads": ["DELETE FROM log_leaves WHERE idx>=11",
                                 "DELETE FROM log_heads WHERE size>11"],
    "emptied": ["DELETE FROM log_leaves", "DELETE FROM log_nodes", "DELETE FROM log_heads"],
    "an entry added": ["INSERT INTO log_leaves VALUES(13, '{}')"],
    "a head forged": ["UPDATE log_heads SET root=zeroblob(32) WHERE size=6"],
    "a head's time changed": ["UPDATE log_heads SET at=at-1000 WHERE size=13"],
    "a signature cut": ["UPDATE log_heads SET signature=x'00' WHERE size=13"],
    "the stored tree changed": ["UPDATE log_nodes SET hash=zeroblob(32) WHERE level=3"],
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_change_is_noticed_and_nothing_is_signed_on_top(folder: Path, attack: str) -> None:
    state = State.open(folder)
    edit(state.gateway(), *ATTACKS[attack])
    verdict = verify(state.gateway(), folder / "witness")
    assert not verdict.consistent, attack
    if attack not in ("edited", "reordered", "an entry removed", "a head forged"):
        # The others do not touch what the newest head is signed for; `log verify` has them.
        with pytest.raises(LogError), state.transaction():
            state.log().append("test", {})
        assert verify(state.gateway(), folder / "witness").entries == verdict.entries


def test_rewriting_with_the_key_needs_another_witness(folder: Path, tmp_path: Path) -> None:
    """Whoever holds the folder can sign anything; the copy elsewhere still tells."""
    copy = shutil.copytree(folder / "witness", tmp_path / "copy")
    for name in ("gateway.db", "witness/heads.jsonl"):
        (folder / name).unlink()
    state = State.open(folder)
    for n in range(13):
        with state.transaction():
            state.log().append("test", {"n": n})
    assert verify(state.gateway(), folder / "witness").consistent
    verdict = verify(state.gateway(), copy)
    assert not verdict.consistent and "not those the witness signed for" in verdict.problems[0]
    file = exported(state, tmp_path / "log")
    assert tool(file, "--witness", folder / "witness").returncode == 0
    done = tool(file, "--witness", copy)
    assert done.returncode == 1 and "not those the witness saw" in done.stderr


def test_rolled_back_against_the_witness(folder: Path) -> None:
    backup = (folder / "gateway.db").read_bytes()
    state = State.open(folder)
    with state.transaction():
        state.log().append("test", {})
    state.close()
    for suffix in ("-wal", "-shm"):
        (folder / f"gateway.db{suffix}").unlink(missing_ok=True)
    (folder / "gateway.db").write_bytes(backup)
    state = State.open(folder)
    verdict = verify(state.gateway(), folder / "witness")
    assert "truncated or rolled back" in verdict.problems[0]
    with pytest.raises(LogError, match="log verify"), state.transaction():
        state.log().append("test", {})


def test_another_key_is_no_witness(folder: Path, tmp_path: Path) -> None:
    state = State.open(folder)
    other = State.create(tmp_path / "other")
    with other.transaction():
        other.log().append("test", {})
    verdict = verify(state.gateway(), other.path / "witness")
    assert sum("forged" in problem for problem in verdict.problems) >= 7
    assert tool(exported(state, tmp_path / "log"), "--witness", other.path / "witness").returncode
    (folder / "witness" / "log.pub").unlink()
    assert not verify(state.gateway(), folder / "witness").consistent


def test_entry_and_transaction_are_one(folder: Path) -> None:
    state = State.open(folder)
    with pytest.raises(LogError, match="transaction"):
        state.log().append("test", {})
    with pytest.raises(LogError), state.transaction():  # what follows the entry fails
        state.log().append("test", {"before": state.log().append("test", {}), "bad": {1, 2}})
    assert state.log().size == 13 and verify(state.gateway(), folder / "witness").witnessed == 7
    for body in ({"x": float("nan")}, {"x": b"bytes"}, {"x": "y" * 70_000}):
        with pytest.raises(LogError), state.transaction():
            state.log().append("test", body)
    assert verify(state.gateway(), folder / "witness").consistent


def test_torn_line_of_the_witness_is_a_crash_and_no_attack(folder: Path) -> None:
    heads = folder / "witness" / "heads.jsonl"
    heads.write_bytes(heads.read_bytes() + b'{"at":1')
    state = State.open(folder)
    assert verify(state.gateway(), folder / "witness").consistent
    with state.transaction():
        state.log().append("test", {})
    assert [head.size for head in witnessed(folder / "witness")][-2:] == [13, 14]
    heads.write_bytes(heads.read_bytes().replace(b'"size":6', b'"size":5'))
    assert not verify(state.gateway(), folder / "witness").consistent


def test_many_writers_make_one_log(folder: Path) -> None:
    def write() -> None:
        mine = State.open(folder)
        for n in range(10):
            with mine.transaction():
                mine.log().append("test", {"n": n})
        mine.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = State.open(folder)
    verdict = verify(state.gateway(), folder / "witness")
    assert verdict.problems == [] and (verdict.entries, verdict.witnessed) == (53, 47)


def test_checker_refuses_whatever_is_changed(folder: Path, tmp_path: Path) -> None:
    """Every byte of an export and of a proof counts: a change is bad or malformed, never a crash."""
    state = State.open(folder)
    log = exported(state, tmp_path / "log").read_bytes()
    evidence = canonical(proof(state.log(), 4, 6)).encode()
    witness = verify_log.Witness(folder / "witness")
    checks = (
        (log, lambda text: verify_log.check_log(io.BytesIO(text), witness)),
        (evidence, lambda text: verify_log.check_proof(text, witness)),
    )
    draw = random.Random(20_26)
    for good, check in checks:
        for _ in range(600):
            at = draw.randrange(len(good))
            changed = draw.choice([
                good[:at], good[:at] + good[at + 1 :], good + good[at:],
                good[:at] + bytes([good[at] ^ 1 << draw.randrange(8)]) + good[at + 1 :],
                good[:at] + draw.choice([b"[" * 5000, b"1e999", b"\0", b"{}", b'"'])
                + good[at:],
            ])  # fmt: skip
            if changed == good:
                continue
            with pytest.raises((verify_log.Bad, verify_log.Malformed)):
                check(changed)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_parsers_refuse_rubbish(text: bytes) -> None:
    with pytest.raises(verify_log.Malformed):
        verify_log.parse_head(text)
    with pytest.raises(ValueError):  # noqa: PT011
        Head.parse(text)


def test_log_class_alone_on_a_connection() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    log = Log(db, clock=lambda: 1.5)
    db.execute("BEGIN")
    assert [log.append("a", {"b": n}) for n in range(3)] == [0, 1, 2]
    assert log.leaf(2) == '{"at":1500,"body":{"b":2},"kind":"a"}'
    assert log.root() == mth([log.leaf(n).encode() for n in range(3)])
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        db.execute("DELETE FROM log_leaves")
