"""The checks, in the order of the report. A new one is a module with a `CHECK`, and a line here."""

from __future__ import annotations

from wattveil.audit.checks import (
    books,
    coalitions,
    epsilon,
    floor,
    gateway,
    inference,
    printed,
    release,
    rules,
)
from wattveil.audit.finding import Check

CHECKS: dict[str, Check] = {
    module.CHECK.name: module.CHECK
    for module in (epsilon, release, coalitions, rules, printed, inference, floor, gateway, books)
}
