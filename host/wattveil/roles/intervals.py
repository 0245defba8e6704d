"""Closed periods as half-open intervals of time, whatever record they belonged to."""

from __future__ import annotations

from bisect import bisect_left, insort


class Intervals:
    """Intervals [start, start + length) in UTC seconds that never overlap."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._lengths: dict[int, int] = {}

    def add(self, start: int, length: int) -> None:
        """Take one in; adding the same again changes nothing."""
        if start not in self._lengths:
            insort(self._starts, start)
        self._lengths[start] = length

    def overlaps(self, start: int, length: int) -> bool:
        """Whether [start, start + length) shares a second with one of them."""
        at = bisect_left(self._starts, start)
        if at < len(self._starts) and self._starts[at] < start + length:
            return True
        return at > 0 and self._starts[at - 1] + self._lengths[self._starts[at - 1]] > start
