"""Paillier for the cloud and the control centre: keys, the group, meters' tables, one-hot rows.

Ciphertexts are `gmpy2.mpz` in (0, n^2), coprime to n, with generator g = 1 + n, so that
g^a = 1 + a*n mod n^2 (docs/PROTOCOL.md). `keyfile` is the only module that touches files; `factory`
and `engines` start processes, and `engines` joins a cluster.
"""
