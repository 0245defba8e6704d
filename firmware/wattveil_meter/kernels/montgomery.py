"""Pair Montgomery arithmetic modulo n^2 around one function of machine code.

An element is a bytearray of 2 nb bytes, x0 | x1, little-endian: both halves are below n, and
x0 + x1 n = c R mod n^2 for the element c, with R = 2^(8 nb). `multiply(out, x, y, ctx)` writes the
pair of x y / R mod n^2; out may be x, y or both, and y is x for a square. With

    m = -x0 y0 / n mod R,   t = (x0 y0 + m n) / R,   j = 1 if t >= n else 0,

its two halves are

    z0 = t - j n,   z1 = (x0 y1 + x1 y0 - m + j R) / R mod n.

The n-part gets -m because x0 y0 = R t - m n, and +j R because R t = R z0 + j n R. (For the modulus
n^2 the carry j of the lower half is a part of the number; in common Montgomery arithmetic it may be
dropped. Without it about every third product is wrong.)

The product of an element and a *plain* pair is a plain pair: (1, a) is g^a, so the way back from
Montgomery form and the factor g^a are one multiplication. Entries of a table of form 2 are elements:
they are read from flash into a buffer and multiplied from there.

`ctx` is what the machine code works with; its words are little-endian:

    bytes 0..3            nb
    bytes 4..11           k = -1/n mod 2^64
    bytes 12..15          not used
    nb bytes              n
    nb bytes              D = 2n - R
    scratch * nb bytes    work area; holds secrets between calls
"""

from wattveil_meter.fields import Malformed, bit_length


def context(n, nb, scratch):
    """`ctx` of an odd n of exactly 8 nb bits."""
    word = 1 << 64
    inverse = 1
    for _ in range(6):
        inverse = inverse * (2 - n * inverse) % word
    head = nb.to_bytes(4, "little") + (word - inverse).to_bytes(8, "little") + bytes(4)
    ctx = bytearray(16 + (2 + scratch) * nb)
    ctx[:16] = head
    ctx[16 : 16 + nb] = n.to_bytes(nb, "little")
    ctx[16 + nb : 16 + 2 * nb] = (2 * n - (1 << (8 * nb))).to_bytes(nb, "little")
    return ctx


POWERS = 16  # of R that are kept: four bits of an exponent at a time


class Montgomery:
    """The ring Z_{n^2}; see kernels/__init__.py for what every kernel offers."""

    form = 2  # of table entries: elements, x0 | x1

    def __init__(self, n, name, multiply, scratch=7):
        """n: odd, of exactly 256, 512, 768 ... bits. ValueError for any other."""
        self.n = n = int(n)
        self.name = name
        self.nb = nb = (bit_length(n) + 7) // 8
        if not n & 1 or nb % 32 or not n >> (8 * nb - 1):
            raise ValueError("n has not 256, 512, 768 ... bits")
        self.modmuls = 0  # multiplications, squarings and conversions so far
        self._spare = []
        self._top = n >> (8 * nb - 8)
        self._multiply = multiply
        self._ctx = context(n, nb, scratch)
        self._one = self._pair((1 << (8 * nb)) - n, 1)  # R mod n^2
        x1, x0 = divmod((1 << (16 * nb)) % (n * n), n)
        self.powers = [self._one, self._pair(x0, x1)]  # of R: the element R is R^2 mod n^2
        while len(self.powers) < POWERS:
            self.powers.append(self.product(self.powers[-1], self.powers[1]))
        self.modmuls = 0

    def _pair(self, x0, x1):
        """Both halves as bytes, in one bytearray."""
        nb = self.nb
        out = bytearray(2 * nb)
        out[:nb] = x0.to_bytes(nb, "little")
        out[nb:] = x1.to_bytes(nb, "little")
        return out

    def one(self):
        """The element 1."""
        return bytearray(self._one)

    def reuse(self, elements):
        """Elements nobody needs: their memory serves the next ones. What was given before is let go.

        On a Pico, finding 512 free bytes in the heap takes a quarter of a multiplication.
        """
        self._spare = elements

    def _empty(self):
        return self._spare.pop() if self._spare else bytearray(2 * self.nb)

    def copy(self, x):
        """An element equal to x that stays when x is consumed."""
        out = self._empty()
        out[:] = x
        return out

    def keep(self, x):
        """x: its memory never changes."""
        return x

    def product(self, x, y):
        """x y; both stay."""
        self.modmuls += 1
        out = self._empty()
        self._multiply(out, x, y, self._ctx)
        return out

    def times(self, x, y):
        """x y, in x's place; y may be a table entry."""
        self.modmuls += 1
        self._multiply(x, x, y, self._ctx)
        return x

    def square(self, x):
        """x^2, in x's place."""
        self.modmuls += 1
        self._multiply(x, x, x, self._ctx)
        return x

    def entry(self, buffer):
        """A table entry: the buffer (a bytearray, so that its words are aligned) as it was read."""
        if len(buffer) != 2 * self.nb:  # the code would read on behind it
            raise Malformed("wrong entry length")
        return buffer

    def start(self, entry):
        """The element an entry stands for."""
        return self.copy(entry)

    def decode(self, data):
        """Element from the wire form; Malformed unless it is 0 < c < n^2 in exactly 2 nb bytes."""
        return self.mend(self.bare(data), 1)

    def bare(self, data):
        """The wire form as it is, checked like decode's: the element c / R."""
        nb = self.nb
        if len(data) != 2 * nb:
            raise Malformed("wrong ciphertext length")
        x = self.copy(data)
        if not (self._below(x, nb) and self._below(x, 2 * nb) and any(x)):
            raise Malformed("not a ciphertext")
        return x

    def mend(self, x, count):
        """x R^count, in x's place."""
        while count:
            step = min(count, POWERS - 1)
            x = self.times(x, self.powers[step])
            count -= step
        return x

    def _below(self, x, end):
        """Whether the half of x that ends there is less than n; one byte of it nearly always tells."""
        top = x[end - 1]
        if top != self._top:
            return top < self._top
        return int.from_bytes(bytes(x[end - self.nb : end]), "little") < self.n

    def finish(self, x, exponent, negative=False):
        """Wire form of x g^exponent, or of its negative: x times the plain pair of (-)g^exponent."""
        n = self.n
        exponent = int(exponent) % n
        if negative:  # n^2 - 1 - exponent n
            plain = self._pair(n - 1, n - 1 - exponent)
        else:
            plain = self._pair(1, exponent)
        return bytes(self.times(x, plain))
