"""The privacy promise attacked: `wattveil audit privacy`.

attacks: programs that hold what an attacker holds, and try. weak: protections that can be taken away, each
one seam of the product. checks: what is played, with which claim. The tests in tests/attacks call the same
programs.
"""
