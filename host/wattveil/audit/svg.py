"""Two kinds of small picture, as SVG that needs nothing from outside. Colours follow the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL, WIDTH, ROW, END = 210, 720, 22, 60


@dataclass(frozen=True)
class Bar:
    """One line of `ranges`: what was measured, and the mark it is held against (inf: none)."""

    label: str
    value: float
    mark: float


def ranges(
    bars: Sequence[Bar], unit: str, value: str, mark: str, most: float | None = None
) -> str:
    """Bars from 0, each with a mark; a legend above, the axis' unit below."""
    tops = [bar.value for bar in bars] + [bar.mark for bar in bars if math.isfinite(bar.mark)]
    top = most or 1.1 * max(tops)
    scale, height = (WIDTH - LABEL - END) / top, ROW * (len(bars) + 2) + 8
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(value)}, {escape(unit)}">',
        f'<rect class="bar" x="{LABEL}" y="6" width="14" height="10"/>',
        f'<text x="{LABEL + 20}" y="15">{escape(value)}</text>',
        f'<line class="mark" x1="{LABEL + 260}" x2="{LABEL + 260}" y1="3" y2="18"/>',
        f'<text x="{LABEL + 268}" y="15">{escape(mark)}</text>',
    ]
    for i, bar in enumerate(bars):
        y, length = ROW * (i + 1) + 4, max(bar.value, 0.0) * scale
        end = max(length, bar.mark * scale if math.isfinite(bar.mark) else 0.0)
        parts += [
            f'<text class="name" x="{LABEL - 8}" y="{y + 13}">{escape(bar.label)}</text>',
            f'<rect class="bar" x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{ROW - 8}"/>',
            f'<text x="{LABEL + end + 6:.1f}" y="{y + 13}">{bar.value:.3g}</text>',
        ]
        if math.isfinite(bar.mark):
            x = LABEL + bar.mark * scale
            parts.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + ROW - 2}"/>'
            )
    parts.append(f'<text x="{LABEL}" y="{height - 6}">0 … {top:.3g} {escape(unit)}</text></svg>')
    return "".join(parts)


@dataclass(frozen=True)
class Line:
    """A named curve of `lines`; dots instead of a line where it was measured."""

    label: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def lines(curves: Sequence[Line], across: str, up: str) -> str:
    """Curves over common axes that begin at 0."""
    finite = [(x, y) for curve in curves for x, y in curve.points if math.isfinite(y)]
    right, top = max(x for x, _ in finite) * 1.02, max(y for _, y in finite) * 1.08
    left, bottom, wide, high = 70, 40, 620, 240
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {high + bottom + 30}" role="img" aria-label="{escape(up)}">',
        f'<path class="axis" d="M{left} 10V{high + 10}H{left + wide}"/>',
        f'<text class="name" x="{left - 6}" y="20">{top:.3g}</text>',
        f'<text class="name" x="{left - 6}" y="{high + 10}">0</text>',
        f'<text class="name" x="{left + wide}" y="{high + 28}">{right:.3g}</text>',
        f'<text x="{left + 6}" y="20">{escape(up)}</text>',
        f'<text x="{left + 200}" y="{high + 28}">{escape(across)}</text>',
    ]
    for i, curve in enumerate(curves):
        at = [
            (left + x / right * wide, high + 10 - y / top * high)
            for x, y in curve.points
            if math.isfinite(y)
        ]
        if curve.dots:
            parts += [f'<circle class="c{i}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in at]
        else:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
            parts.append(f'<path class="c{i}" d="M{path}"/>')
        parts.append(
            f'<text class="c{i}" x="{left + 10 + 210 * i}" y="{high + 52}">{escape(curve.label)}</text>'
        )
    return "".join(parts) + "</svg>"
