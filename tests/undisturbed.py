"""Times measured on a machine that others use too."""

from __future__ import annotations

from collections.abc import Callable


def undisturbed(holds: Callable[[], bool], tries: int = 30) -> bool:
    """Whether a relation between times, measured anew by each call, holds at least once.

    What else the machine does may disturb any one measurement, but not all of them.
    """
    return any(holds() for _ in range(tries))
