"""What the gateway asks of the vault and the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json: TypeAlias = dict[str, Any]
Segment: TypeAlias = Mapping[str, str]


class Block(NamedTuple):
    """Readings of some members: `wh[i, t]` is member i's energy in the t-th interval, where
    `present[i, t]`; elsewhere 0 and absent."""

    pseudonyms: Sequence[str]
    wh: NDArray[np.int64]
    present: NDArray[np.bool_]


class VaultReader(Protocol):
    """Readings by pseudonym, and the public facts about who is in a segment."""

    def members(self, segment: Segment, start: int, end: int) -> list[str]:
        """Pseudonyms of the meters of a segment (all for {}), sorted, by public metadata only:
        whether a meter has readings does not matter. [start, end) in UTC s.
        Refused("epoch_boundary"), Refused("no_data"); ValueError for an unknown segment key."""

    def blocks(self, pseudonyms: Sequence[str], start: int, end: int) -> Iterator[Block]:
        """Their readings in bounded memory, each pseudonym in one block, of one epoch only."""

    def written(self) -> int:
        """Number of the newest batch of readings that came in."""

    def revisions(self, pseudonyms: Sequence[str], start: int, end: int) -> NDArray[np.uint32]:
        """[pseudonym, UTC day] of the days that [start, end) touches: number of the batch that
        changed it last, 0 where there are no readings."""

    def meter_ids(self, pseudonyms: Sequence[str]) -> list[str]:
        """Whose they are, in this order; for the accountant alone, which keeps no id."""


class Appender(Protocol):
    """The log."""

    def append(self, kind: str, body: Json) -> int:
        """Add an entry in the caller's transaction on gateway.db; its index."""
