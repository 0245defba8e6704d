"""The products over one period's meters, kept up as reports come in: closing does not grow with m."""

from __future__ import annotations

from collections.abc import Iterable

from gmpy2 import invert

from wattveil.paillier.accumulator import Accumulator, Partial
from wattveil.paillier.ciphertext import to_pair
from wattveil.paillier.keys import PublicKey

Uploads = tuple[bytes, Iterable[bytes]]  # one meter's report and its slots, as pairs


class Running:
    """The product of all reports, and that of all slots of the meters that reported.

    It is in memory only: after a restart it is made anew from what is stored.
    """

    def __init__(self, public: PublicKey, uploads: Iterable[Uploads] = ()) -> None:
        self._public = public
        self._accumulator = Accumulator(public)
        self._reports = self._slots = self._accumulator.create()
        for report, slots in uploads:
            self.add(report, slots)

    def add(self, report: bytes, slots: Iterable[bytes]) -> None:
        """A meter that has reported; its pairs were checked."""
        self._reports = self._accumulator.add(self._reports, [report])
        self._slots = self._accumulator.add(self._slots, slots)

    def without(self, left_out: Iterable[Uploads]) -> tuple[bytes, bytes]:
        """Pairs of the product of the reports, and of the slots, of all meters but these."""
        gone = Running(self._public, left_out)
        return self._divide(self._reports, gone._reports), self._divide(self._slots, gone._slots)

    def _divide(self, all_of_them: Partial, gone: Partial) -> bytes:
        n2, product = self._public.n2, self._accumulator.extract(all_of_them)
        if gone.count:
            product = product * invert(self._accumulator.extract(gone), n2) % n2
        return to_pair(product, self._public)
