"""Two unknowns, one of them small, in one equation modulo n: nearest vector in two dimensions."""

from __future__ import annotations

from gmpy2 import mpz


def short_pair(a: mpz, goal: mpz, n: mpz, t_bound: int, d_bound: int = 0) -> tuple[int, int]:
    """(d, t) with d + a t = goal mod n, 0 <= t < t_bound and |d| < d_bound (default n / t_bound).

    Right when t_bound d_bound is well below n; something else otherwise. Gauss reduces the basis of
    {(t, a t mod n)}, weighted so that both unknowns count alike; rounding takes the goal away.
    """
    t_weight, d_weight = mpz(d_bound or n // t_bound), mpz(t_bound)
    b0, b1 = (mpz(1), a % n), (mpz(0), mpz(n))

    def dot(v: tuple[mpz, mpz], w: tuple[mpz, mpz]) -> mpz:
        return v[0] * w[0] * t_weight**2 + v[1] * w[1] * d_weight**2

    while True:
        if dot(b0, b0) > dot(b1, b1):
            b0, b1 = b1, b0
        m = (2 * dot(b0, b1) + dot(b0, b0)) // (2 * dot(b0, b0))
        if m == 0:
            break
        b1 = (b1[0] - m * b0[0], b1[1] - m * b0[1])
    # (0, goal) = c0 b0 + c1 b1 over the rationals; the nearest lattice point is (t, goal - d)
    det = b0[0] * b1[1] - b0[1] * b1[0]
    c0, c1 = -goal * b1[0], goal * b0[0]
    c0, c1 = (2 * c0 + det) // (2 * det), (2 * c1 + det) // (2 * det)
    t = c0 * b0[0] + c1 * b1[0]
    d = goal - (c0 * b0[1] + c1 * b1[1])
    return int(d), int(t)
