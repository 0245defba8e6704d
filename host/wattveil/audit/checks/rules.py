"""Each rule of the protocol that answers an attack: the attack against the product, and without the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from wattveil.audit import stats
from wattveil.audit.attacks import closing, lives, masks, rows, smooth, stolen, symbols
from wattveil.audit.attacks.score import Score
from wattveil.audit.bench import SUITE_NAMES
from wattveil.audit.finding import Check, Finding, Study, verdict
from wattveil.audit.weak import WEAKNESSES

Attack = Callable[[str, int], Score]
COIN = 0.5


@dataclass(frozen=True)
class Rule:
    """title: what an attacker must not get. who: the coalition. quick, long: tries. chance: of one try by
    guessing."""

    name: str
    title: str
    who: str
    weakness: str
    attack: Attack
    quick: int
    long: int
    chance: float = 0.0
    suites: tuple[str, ...] = SUITE_NAMES

    def run(self, study: Study) -> list[Finding]:
        """One finding a suite."""
        return [self._play(suite, study.tries(self.quick, self.long)) for suite in self.suites]

    def _play(self, suite: str, tries: int) -> Finding:
        weak = WEAKNESSES[self.weakness]
        product = self.attack(suite, tries)
        with weak.planted():
            without = self.attack(suite, tries)
        # a guess of a whole reading that is right once is one too many
        won = product.hits > 0 if not self.chance else stats.above(*_pair(product), self.chance)
        seen = without.hits == without.tries
        claimed = "never" if not self.chance else f"no more often than {self.chance:g}"
        return Finding(
            claim=f"{self.who} must not get {self.title} ({suite})",
            method=f"the attack, {tries} times; then without the rule ({weak.what})",
            claimed=claimed,
            measured=f"{product}; without the rule {without}",
            verdict=verdict(not won, seen),
        )


def _pair(score: Score) -> tuple[int, int]:
    return score.hits, score.tries


ONE = ("yan2024",)
RULES = (
    Rule("u", "d + ξ of one meter from its report alone", "cloud + centre", "no-u",
         masks.open_one_meter, 12, 200),
    Rule("u-smooth", "d + ξ of one meter by a logarithm, the primes being smooth", "cloud + centre",
         "no-u", smooth.logarithm, 3, 30, suites=ONE),
    Rule("v", "one meter's report opened as if it were many", "dealer + cloud", "no-v",
         closing.one_as_many, 2, 10),
    Rule("row-check", "the reading without noise, by rows of zeros", "active cloud", "no-row-check",
         rows.zero_rows, 12, 200),
    Rule("jacobi", "the parity of ξ from a Jacobi symbol", "active cloud", "square-h_s",
         symbols.parity_by_symbol, 160, 2000, COIN),
    Rule("parity-of-r", "the parity of ξ from a Jacobi symbol, r being odd", "active cloud", "odd-r",
         partial(symbols.parity_by_symbol, odd=True), 160, 2000, COIN),
    Rule("sign", "the parity of ξ from the characters modulo p and q", "cloud + centre", "no-sign",
         symbols.parity_by_characters, 160, 2000, COIN),
    Rule("row-set", "ξ from two row sets under the same draws", "active cloud", "forgetful-meter",
         lives.two_row_sets, 2, 20),
    Rule("report", "the difference of two readings from a re-prepared report", "cloud + centre",
         "forgetful-meter", lives.two_readings, 2, 20),
    Rule("one-closing", "d + ξ of one meter from two closings", "cloud + centre",
         "dealer-closes-twice", closing.dealer_twice, 3, 30),
    Rule("quorum", "d + ξ of one meter from a closing over one", "cloud + centre", "no-quorum",
         closing.dealer_for_one, 3, 30),
    Rule("one-opening", "d + ξ of one meter from two totals", "dealer + cloud", "center-opens-twice",
         closing.center_twice, 3, 30),
    Rule("quorum-center", "d + ξ of one meter from a total over one", "dealer + cloud", "no-quorum",
         closing.center_for_one, 3, 30),
    Rule("record", "the difference of two readings from one half hour under two records",
         "cloud + centre", "masks-without-record", masks.two_records, 4, 50),
    Rule("ratchet", "d + ξ of one meter of yesterday", "cloud + centre with a stolen board", "no-ratchet",
         stolen.stolen_board, 2, 20),
    Rule("ratchet-dealer", "d + ξ of one meter of three days ago",
         "cloud + centre with the dealer's folder", "no-ratchet", stolen.stolen_dealer, 2, 10),
)  # fmt: skip


def run(study: Study) -> Sequence[Finding]:
    """All rules."""
    return [finding for rule in RULES for finding in rule.run(study)]


CHECK = Check(
    "rules",
    "The rules, each taken out in turn",
    "Each rule is there because an attack ran without it. The attack is played against the product, where "
    "it must fail, and against the product without the rule, where it must succeed, or it proves nothing.",
    run,
    tuple(dict.fromkeys(rule.weakness for rule in RULES)),
    keyed=True,
)
