"""The report: one HTML page that needs nothing but itself, and the same as a list for `--json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from wattveil.audit.finding import ALPHA, BLIND, BROKEN, HOLDS, Check, Finding

Results = Mapping[str, Sequence[Finding]]  # by check
SAID = {HOLDS: "holds", BROKEN: "broken", BLIND: "not seen"}
KEY = (
    "Ciphertexts are under a key of {bits} bits; below 2048 that is not secure. No verdict hangs on it: "
    "nobody here tries to factor n. What must not be learned is hidden by masks that are uniform modulo "
    "n or by random bits, as well with a short n as with a long one, and the attacks that win without a "
    "rule are exact arithmetic modulo any n. That nobody factors a real fleet's n or finds short "
    "logarithms is Paillier's assumption, which no program can audit. --bits 2048 attacks a key of real "
    "size."
)
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d0d7de; --bar: #3b6ea5;
  --mark: #b35900; --page: #fff; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --bar: #6ea8e0; --mark: #f0a35e; --page: #0d1117; --bad: #ff8a80; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } p.soft, td.soft { color: var(--soft); } p { max-width: 60rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td.verdict { white-space: nowrap; font-weight: 600; } tr.bad td.verdict, .sum.bad { color: var(--bad); }
code { font-size: 13px; } figure { margin: 1rem 0; }
svg { max-width: 46rem; width: 100%; font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .name { text-anchor: end; } svg .bar { fill: var(--bar); }
svg .mark { stroke: var(--mark); stroke-width: 3; } svg .axis { fill: none; stroke: var(--soft); }
svg path.c0 { fill: none; stroke: var(--mark); stroke-width: 2; }
svg text.c0 { fill: var(--mark); } svg circle.c1, svg text.c1 { fill: var(--bar); }
"""


@dataclass(frozen=True)
class About:
    """command: what was run. machine, minutes, plant: where, how long, on which product. bits: of the
    key."""

    command: str
    machine: str
    minutes: float
    plant: str | None
    bits: int


def as_list(
    checks: Mapping[str, Check], results: Results, commands: Mapping[str, str], bits: int
) -> list[dict[str, str]]:
    """What `--json` prints; commands: how to rerun each check."""
    names = ("claim", "claimed", "measured", "verdict")
    return [
        {name: getattr(finding, name) for name in names}
        | {"method": _method(checks[check], finding, bits), "command": commands[check]}
        for check, findings in results.items()
        for finding in findings
    ]


def all_hold(results: Results) -> bool:
    """Whether every verdict is `holds`."""
    return all(f.verdict == HOLDS for findings in results.values() for f in findings)


def summary(results: Results) -> str:
    """One sentence."""
    counts = Counter(f.verdict for findings in results.values() for f in findings)
    total = counts.total()
    if counts[HOLDS] == total:
        return f"All {total} claims hold."
    broken, blind = counts[BROKEN], counts[BLIND]
    return f"Of {total} claims {broken} are broken, and {blind} were not seen to break where they must."


def page(
    checks: Mapping[str, Check], results: Results, commands: Mapping[str, str], about: About
) -> str:
    """The whole page."""
    planted = ""
    if about.plant:
        planted = f'<p class="sum bad">A weakness was planted: {escape(about.plant)}.</p>'
    bad = "" if all_hold(results) else " bad"
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        "<title>wattveil: the privacy promise attacked</title>"
        f"<style>{STYLE}</style></head><body><h1>The privacy promise attacked</h1>"
        f'<p class="soft"><code>{escape(about.command)}</code> took {about.minutes:.1f} min of wall time. '
        f"{escape(about.machine)}</p>{planted}"
        f'<p class="sum{bad}"><strong>{escape(summary(results))}</strong> A claim holds when the attack '
        "did no better than claimed, within the stated confidence. “Not seen” means that the method did not "
        "find the claim broken even where it is: then it shows nothing. Each bound is wrong once in "
        f"{1 / ALPHA:,.0f}: what breaks with one --seed and not with others was chance.</p>"
    )
    if any(checks[name].keyed for name in results):
        head += f"<p>{escape(KEY.format(bits=about.bits))}</p>"
    sections = [
        _section(checks[name], results[name], commands[name], about.bits) for name in results
    ]
    return head + "".join(sections) + "</body></html>\n"


def _section(check: Check, findings: Sequence[Finding], command: str, bits: int) -> str:
    charts = "".join(f"<figure>{f.chart}</figure>" for f in findings if f.chart)
    rows = "".join(_row(finding, _method(check, finding, bits)) for finding in findings)
    titles = "".join(
        f"<th>{title}</th>" for title in ("Claim", "Claimed", "Measured", "Verdict", "Method")
    )
    return (
        f'<h2 id="{check.name}">{escape(check.title)}</h2><p>{escape(check.words)}</p>{charts}'
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="soft"><code>{escape(command)}</code></p>'
    )


def _method(check: Check, finding: Finding, bits: int) -> str:
    """With the size of the key wherever there is one."""
    return finding.method + (f"; {bits}-bit key" if check.keyed else "")


def _row(finding: Finding, method: str) -> str:
    bad = "" if finding.verdict == HOLDS else ' class="bad"'
    notes = f". {finding.notes}" if finding.notes else ""
    cells = (finding.claim, finding.claimed, finding.measured)
    plain = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return (
        f"<tr{bad}>{plain}<td class='verdict'>{SAID[finding.verdict]}</td>"
        f"<td class='soft'>{escape(method + notes)}</td></tr>"
    )
