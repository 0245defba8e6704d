"""Kernel `portable`: pairs modulo n^2 on the interpreter's own integers. Works everywhere.

An element x of Z_{n^2} is the pair (x mod n, x div n): products then need numbers of half the size.
Division is by m = k n, the smallest multiple of n above 2^(|n|+32): its leading digits are 1, 0, 0,
so that MicroPython's big-integer division guesses every quotient digit right (1.2x to 1.6x faster
than dividing by a random n), and x0 y0 = q m + r = (q k) n + r stays exact. Working components may
therefore be as large as m. A third component collects a power of g = 1 + n, which costs additions
only: the element is (x0 + x1 n) g^x2.

Integers keep the type of n: with gmpy2's mpz on the host, with int on a board.
"""

from wattveil_meter.fields import Malformed, bit_length


class Portable:
    """The ring Z_{n^2}; see kernels/__init__.py for what every kernel offers."""

    name = "portable"
    form = 1  # of table entries: (t, l), the element t (1 + n l)
    powers = ()  # a wire form is an element as it is

    def __init__(self, n):
        self.n = n
        self.nb = (bit_length(n) + 7) // 8
        self._number = type(n)
        scale = 1 << (8 * self.nb + 32)
        self._k = (scale + n - 1) // n
        self._m = self._k * n
        # 1 in components of full length: multiplying by it takes as long as by any other element,
        # so that a digit of zero in an exponent does not show in the time
        self._one = (1 + (self._k - 1) * n, n - (self._k - 1))
        self.modmuls = 0

    def one(self):
        """The element 1."""
        return self._one + (0,)

    def copy(self, x):
        """An element equal to x that stays when x is consumed (tuples never change)."""
        return x

    def keep(self, x):
        """x in half the memory: a remainder keeps the room of what was divided, a sum does not."""
        return x[0] + 0, x[1] + 0, x[2]

    def times(self, x, y):
        """x y; y may be a table entry."""
        self.modmuls += 1
        m = self._m
        if len(y) == 2:
            q, r = divmod(x[0] * y[0], m)
            return r, (x[1] * y[0] + q * self._k) % m, x[2] + y[1]
        q, r = divmod(x[0] * y[0], m)
        return r, (x[0] * y[1] + x[1] * y[0] + q * self._k) % m, x[2] + y[2]

    def reuse(self, elements):
        """Nothing: integers find their own memory."""

    product = times  # tuples never change

    def square(self, x):
        """x^2."""
        self.modmuls += 1
        q, r = divmod(x[0] * x[0], self._m)
        return r, ((x[0] * x[1] << 1) + q * self._k) % self._m, x[2] << 1

    def entry(self, buffer):
        """A table entry, (t, l), from its bytes in a table of form 1."""
        nb = self.nb
        t = self._number(int.from_bytes(bytes(buffer[:nb]), "little"))
        if t == 1:  # the entry of digit zero
            return self._one
        return t, self._number(int.from_bytes(bytes(buffer[nb:]), "little"))

    def start(self, entry):
        """The element an entry stands for."""
        return entry[0], self._number(0), entry[1]

    def decode(self, data):
        """Element from the wire form; Malformed unless it is 0 < c < n^2 in exactly 2 nb bytes."""
        nb = self.nb
        if len(data) != 2 * nb:
            raise Malformed("wrong ciphertext length")
        x0 = self._number(int.from_bytes(data[:nb], "little"))
        x1 = self._number(int.from_bytes(data[nb:], "little"))
        if x0 >= self.n or x1 >= self.n or not (x0 or x1):
            raise Malformed("not a ciphertext")
        return x0, x1, 0

    bare = decode

    def mend(self, x, count):
        """x: nothing is missing."""
        return x

    def finish(self, x, exponent, negative=False):
        """Wire form of x g^exponent, or of its negative."""
        n, nb = self.n, self.nb
        self.modmuls += 1
        q, x0 = divmod(x[0], n)
        x1 = (x[1] + q + x0 * ((x[2] + exponent) % n)) % n
        if negative:  # n^2 - x
            x1 = n - 1 - x1 if x0 else (n - x1) % n
            x0 = n - x0 if x0 else x0
        return int(x0).to_bytes(nb, "little") + int(x1).to_bytes(nb, "little")
