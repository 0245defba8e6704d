"""The scheme as printed: what does not work, and what does and is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from wattveil.audit.attacks import masks, paper, rows, symbols
from wattveil.audit.attacks.score import Score
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.weak import WEAKNESSES

PRINTED = ("no-u", "no-v", "no-row-check", "square-h_s", "no-sign")  # what the paper does not have
ATTACKS: tuple[tuple[str, str, Callable[[str, int], Score], int], ...] = (
    ("cloud + centre", "d + ξ of one meter from its report", masks.open_one_meter, 12),
    ("an active cloud", "the reading without noise, by rows of zeros", rows.zero_rows, 12),
    ("an active cloud", "the parity of ξ from a Jacobi symbol", symbols.parity_by_symbol, 60),
)


def run(study: Study) -> Sequence[Finding]:
    """Errata, then attacks on the scheme with its exponent corrected and nothing else."""
    tries = study.tries(8, 100)
    printed, bases, right = paper.as_printed(tries), paper.own_bases(tries), paper.corrected(tries)
    method = f"Eq. 18-20, 27 by themselves, {tries} sums of {paper.METERS} readings"
    findings = [
        Finding(
            claim="Eq. 17-20 with R = γ + k, as printed, do not give the sum back; R = n + k does",
            method=method,
            claimed="never; always",
            measured=f"{printed}; {right}",
            verdict=verdict(printed.hits == 0 and right.hits == right.tries),
        ),
        Finding(
            claim="bases H(id‖t) of each meter's own (4.2.2) do not combine in Eq. 19",
            method=method,
            claimed="never",
            measured=str(bases),
            verdict=verdict(bases.hits == 0),
        ),
    ]
    with ExitStack() as stack:
        for name in PRINTED:
            stack.enter_context(WEAKNESSES[name].planted())
        for who, what, attack, count in ATTACKS:
            score = attack("yan2024", count * (10 if study.long else 1))
            findings.append(
                Finding(
                    claim=f"the scheme as printed, exponent corrected: {who} gets {what}",
                    method=f"without {', '.join(PRINTED)}: the attack, {score.tries} times",
                    claimed="every time",
                    measured=str(score),
                    verdict=verdict(score.hits == score.tries),
                )
            )
    return findings


CHECK = Check(
    "printed",
    "The scheme as printed",
    "The paper's formulas, with its exponent corrected and nothing else: why our rules are there. These "
    "lines say what is broken about it; they hold when the attack works.",
    run,
    (),
    keyed=True,
)
