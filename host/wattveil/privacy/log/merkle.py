"""RFC 6962 section 2.1: the Merkle tree, its inclusion and consistency proofs.

Leaf and node hashes start with different bytes, so that no node passes for a leaf. A tree is given
by `Nodes`: the hash of every perfect subtree, by level (0: leaves) and position in that level.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

HASH_BYTES = 32
Nodes = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of an entry."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def root(nodes: Nodes, size: int) -> bytes:
    """The tree hash of the first `size` leaves, MTH(D[n])."""
    return hashlib.sha256().digest() if size == 0 else _subtree(nodes, 0, size)


def grown(nodes: Nodes, index: int, leaf: bytes) -> Iterator[tuple[int, int, bytes]]:
    """What leaf `index` adds: (level, position, hash) of itself and of each subtree it completes."""
    level, position, value = 0, index, leaf_hash(leaf)
    yield level, position, value
    while position & 1:
        value = node_hash(nodes(level, position - 1), value)
        level, position = level + 1, position >> 1
        yield level, position, value


def inclusion(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """PATH(m, D[n]): proves that leaf `index` is in the tree of `size` leaves; ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"there is no entry {index} among {size}")
    return _path(nodes, index, 0, size)


def consistency(nodes: Nodes, first: int, size: int) -> list[bytes]:
    """PROOF(m, D[n]): proves that the tree of `size` begins with that of `first`; ValueError."""
    if not 0 < first <= size:
        raise ValueError(f"no consistency proof from {first} to {size} entries")
    return _since(nodes, first, 0, size, True)


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], tree: bytes) -> bool:
    """Whether `path` leads from the leaf's hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    value, at, last = leaf, index, size - 1
    for step in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            value = node_hash(step, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, step)
        at, last = at >> 1, last >> 1
    return last == 0 and value == tree


def consistent(first: int, size: int, path: Sequence[bytes], old: bytes, tree: bytes) -> bool:
    """Whether `path` shows that the tree of `size` begins with that of `first` (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= size:
        return False
    if first == size:
        return not path and old == tree
    steps = list(path) if first & (first - 1) else [old, *path]
    at, last = first - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    if not steps:
        return False
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, step)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old and after == tree


def roots(leaves: Iterable[bytes], sizes: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The tree hashes at these sizes, ascending, in one pass over the leaves and O(log n) memory.

    Ends early when the leaves do; the caller compares what it got.
    """
    wanted = iter(sorted(set(sizes)))
    size = next(wanted, None)
    stack: list[tuple[int, bytes]] = []  # perfect subtrees, the largest first
    entries, count = iter(leaves), 0
    while size is not None:
        while count < size:
            leaf = next(entries, None)
            if leaf is None:
                return
            level, value = 0, leaf_hash(leaf)
            while stack and stack[-1][0] == level:
                value, level = node_hash(stack.pop()[1], value), level + 1
            stack.append((level, value))
            count += 1
        yield size, _folded([value for _, value in stack])
        size = next(wanted, None)


def _folded(parts: list[bytes]) -> bytes:
    if not parts:
        return hashlib.sha256().digest()
    value = parts[-1]
    for left in reversed(parts[:-1]):
        value = node_hash(left, value)
    return value


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _subtree(nodes: Nodes, start: int, end: int) -> bytes:
    size = end - start
    if size & (size - 1) == 0:  # the recursion only meets aligned ones
        level = size.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(size)
    return node_hash(_subtree(nodes, start, middle), _subtree(nodes, middle, end))


def _path(nodes: Nodes, index: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_path(nodes, index, start, middle), _subtree(nodes, middle, end)]
    return [*_path(nodes, index, middle, end), _subtree(nodes, start, middle)]


def _since(nodes: Nodes, first: int, start: int, end: int, whole: bool) -> list[bytes]:
    if first == end:
        return [] if whole else [_subtree(nodes, start, end)]
    middle = start + _split(end - start)
    if first <= middle:
        return [*_since(nodes, first, start, middle, whole), _subtree(nodes, middle, end)]
    return [*_since(nodes, first, middle, end, False), _subtree(nodes, start, middle)]
