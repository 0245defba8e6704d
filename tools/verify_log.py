#!/usr/bin/env python3
"""Check a log of the privacy gateway without wattveil: an exported log, or proofs made from it.

    verify_log.py FILE... --witness DIR

FILE: what `wattveil log export` or `wattveil log prove N` wrote. DIR: a copy of the gateway's
witness folder (log.pub, heads.jsonl) from where nobody of the gateway's can write. Needs Python 3.11
and `cryptography`. Exit code 0: all is as it was signed; 1: it is not; 2: a file cannot be read.

What is checked (RFC 6962 section 2.1 for the tree, 3.5 for what is signed, with Ed25519; RFC 9162
section 2.1.3 and 2.1.4 for proofs):
  a log      every head's signature, and that its root is that of the first entries; that the newest
             head covers all; that no head of the witness is of more entries, or of other ones
  a proof    the head's signature, the way from the entry to its root, the way from an earlier head;
             that the witness has no other root for these sizes
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINE_BYTES = 1 << 17
PROOF_BYTES = 1 << 20
PATH_STEPS = 64


class Malformed(Exception):
    """The file is none of this format."""


class Bad(Exception):
    """The log is not what was signed."""


class Head(NamedTuple):
    """A signed tree head; at: ms since 1970."""

    size: int
    at: int
    root: bytes
    signature: bytes

    def check(self, key: Ed25519PublicKey) -> None:
        """Bad unless the log's key signed it."""
        try:
            key.verify(
                self.signature, struct.pack(">BBQQ32s", 0, 1, self.at, self.size, self.root)
            )
        except InvalidSignature:
            raise Bad(f"the head of {self.size} entries is forged") from None


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts."""
    return hashlib.sha256(b"".join(parts)).digest()


def parse(text: bytes, what: str, **types: type) -> dict[str, Any]:
    """A JSON object with exactly these members; Malformed."""
    try:
        found = json.loads(text.decode("ascii"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Malformed(f"{what} is no JSON") from None
    if not isinstance(found, dict) or set(found) != set(types):
        raise Malformed(f"{what} has not the members {', '.join(types)}")
    for name, kind in types.items():
        if type(found[name]) is not kind:
            raise Malformed(f"{what}: {name} is no {kind.__name__}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member twice")
    return found


def unhex(text: object, size: int, what: str) -> bytes:
    """Lower-case hexadecimal of `size` bytes; Malformed."""
    if not isinstance(text, str) or len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        raise Malformed(f"{what} is not {size} bytes in lower-case hexadecimal")
    return bytes.fromhex(text)


def head_of(found: dict[str, Any]) -> Head:
    """A head from its members; Malformed."""
    if set(found) != {"size", "at", "root", "signature"}:
        raise Malformed("no head")
    size, at = found["size"], found["at"]
    if type(size) is not int or type(at) is not int or not (0 < size < 2**63 and 0 <= at < 2**63):
        raise Malformed("no head")
    return Head(
        size, at, unhex(found["root"], 32, "root"), unhex(found["signature"], 64, "signature")
    )


def parse_head(line: bytes) -> Head:
    """A head from a line."""
    return head_of(parse(line, "head", size=int, at=int, root=str, signature=str))


class Witness:
    """The heads of a witness folder, and the key."""

    def __init__(self, folder: Path) -> None:
        self.key = key_of(
            (folder / "log.pub").read_text(encoding="ascii", errors="replace").strip()
        )
        self.heads: dict[int, bytes] = {}
        lines = (folder / "heads.jsonl").read_bytes().split(b"\n")
        for line in lines[:-1]:  # after the last line end: torn by a crash, or nothing
            head = parse_head(line)
            head.check(self.key)
            if self.heads.setdefault(head.size, head.root) != head.root:
                raise Bad(f"the witness saw two logs of {head.size} entries")
        if not self.heads:
            raise Malformed("the witness has no head")

    def agree(self, head: Head) -> None:
        """Bad if the witness saw another tree of this size."""
        if self.heads.get(head.size, head.root) != head.root:
            raise Bad(f"the witness saw another log of {head.size} entries")


def key_of(text: str) -> Ed25519PublicKey:
    """The log's key; Malformed."""
    return Ed25519PublicKey.from_public_bytes(unhex(text, 32, "log.pub"))


def check_log(file: BinaryIO, witness: Witness) -> str:
    """Check an exported log; what was found. Malformed, Bad."""
    lines = read_lines(file)
    about = parse(next(lines, b""), "first line", format=str, key=str, entries=int, heads=int)
    if about["format"] != "wattveil-log-1" or about["entries"] < 0 or about["heads"] < 0:
        raise Malformed("the file is no wattveil-log-1")
    if unhex(about["key"], 32, "key") != witness.key.public_bytes_raw():
        raise Bad("the log has another key than the witness")
    stack: list[tuple[int, bytes]] = []  # (level, hash) of perfect subtrees
    roots: dict[int, bytes] = {}
    # The heads follow the entries, so the root of every size is kept until they are read.
    for size in range(1, about["entries"] + 1):
        leaf = next(lines, None)
        if leaf is None:
            raise Bad(f"truncated: {size - 1} of {about['entries']} entries")
        level, value = 0, sha256(b"\0", leaf)
        while stack and stack[-1][0] == level:
            value, level = sha256(b"\1", stack.pop()[1], value), level + 1
        stack.append((level, value))
        root = stack[-1][1]
        for _, left in reversed(stack[:-1]):
            root = sha256(b"\1", left, root)
        roots[size] = root
    last = 0
    for _ in range(about["heads"]):
        line = next(lines, None)
        if line is None:
            raise Bad("truncated: a head is missing")
        head = parse_head(line)
        head.check(witness.key)
        if head.size <= last or roots.get(head.size) != head.root:
            raise Bad(f"the first {head.size} entries are not those that were signed")
        last = head.size
    if next(lines, None) is not None:
        raise Malformed("bytes after the last head")
    if last != about["entries"]:
        raise Bad(f"{about['entries'] - last} entries after the last signed head")
    for size, root in witness.heads.items():
        if size > last:
            raise Bad(
                f"truncated or rolled back: the witness saw {size} entries, these are {last}"
            )
        if roots[size] != root:
            raise Bad(f"the first {size} entries are not those the witness saw")
    return f"{last} entries, {about['heads']} heads, {len(witness.heads)} of them witnessed"


def check_proof(text: bytes, witness: Witness) -> str:
    """Check a proof; what it proves. Malformed, Bad."""
    types = {"format": str, "index": int, "leaf": str, "path": list, "head": dict}
    try:
        since = "since" in json.loads(text)
    except (ValueError, RecursionError, TypeError):
        raise Malformed("proof is no JSON") from None
    found = parse(text, "proof", **types, **({"since": dict} if since else {}))
    if found["format"] != "wattveil-proof-1":
        raise Malformed("the file is no wattveil-proof-1")
    head = head_of(found["head"])
    head.check(witness.key)
    witness.agree(head)
    leaf = sha256(b"\0", found["leaf"].encode("utf-8", "surrogatepass"))
    if not included(leaf, found["index"], head.size, steps(found["path"]), head.root):
        raise Bad(f"entry {found['index']} is not in the tree of {head.size} entries")
    said = f"entry {found['index']} is in the log of {head.size} entries"
    if since:
        if set(found["since"]) != {"head", "path"} or not isinstance(found["since"]["head"], dict):
            raise Malformed("since has not the members head, path")
        first = head_of(found["since"]["head"])
        first.check(witness.key)
        witness.agree(first)
        if not consistent(first, head, steps(found["since"]["path"])):
            raise Bad(f"the log of {head.size} entries does not begin with that of {first.size}")
        said += f", which begins with the one of {first.size}"
    return said


def steps(path: object) -> list[bytes]:
    """The hashes of a proof; Malformed."""
    if not isinstance(path, list) or len(path) > PATH_STEPS:
        raise Malformed("no path of hashes")
    return [unhex(step, 32, "a step") for step in path]


def included(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, value = index, size - 1, leaf
    for step in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            value = sha256(b"\1", step, value)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = sha256(b"\1", value, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and value == root


def consistent(first: Head, second: Head, path: list[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2."""
    if first.size >= second.size:
        return first.size == second.size and first.root == second.root and not path
    if first.size & (first.size - 1) == 0:
        path = [first.root, *path]
    if not path:
        return False
    fn, sn = first.size - 1, second.size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for step in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = sha256(b"\1", step, old), sha256(b"\1", step, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = sha256(b"\1", new, step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old == first.root and new == second.root


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends; Malformed for one that is too long or has none."""
    while line := file.readline(LINE_BYTES):
        if not line.endswith(b"\n"):
            raise Malformed("a line without an end, or too long")
        yield line[:-1]


def check(path: Path, witness: Witness) -> str:
    """Check one file, by what it says it is. Malformed, Bad, OSError."""
    with path.open("rb") as file:
        start = file.readline(LINE_BYTES)
        file.seek(0)
        if b'"wattveil-log-1"' in start:
            return check_log(file, witness)
        text = file.read(PROOF_BYTES + 1)
    if len(text) > PROOF_BYTES:
        raise Malformed("too long for a proof")
    return check_proof(text, witness)


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--witness", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    worst, path = 0, args.witness
    try:
        witness = Witness(args.witness)
        for path in args.files:
            print(f"{path}: good: {check(path, witness)}")
    except Bad as error:
        print(f"{path}: BAD: {error}", file=sys.stderr)
        worst = 1
    except (Malformed, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        worst = 2
    return worst


if __name__ == "__main__":
    sys.exit(main())
