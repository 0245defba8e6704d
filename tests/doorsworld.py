"""A gateway's folder with a real vault of a few homes, and people with keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vaultkit import CANARY_WH
from wattveil.privacy import people
from wattveil.privacy.accountant import Accountant
from wattveil.privacy.query.ask import parse_time, stamp
from wattveil.privacy.state import State
from wattveil.privacy.vault.ingest import ingest
from wattveil.privacy.vault.meters import learn_meters, read_meters
from wattveil.privacy.vault.vault import Vault

START, END = "2013-01-14", "2013-01-16"
T0, INTERVALS, HOMES = parse_time(START, "from"), 96, 40
CANARY = "canary7Q"  # in every identity, and in no login name


def meter(number: int) -> str:
    return f"{CANARY}-meter-{number:02}"


class Folder:
    """The folder, opened, and everybody's token by ROLE:NAME."""

    def __init__(self, root: Path) -> None:
        self.state = State.create(root / "gateway")
        self.vault = Vault.create(self.state)
        self.wh = np.random.default_rng(7).integers(50, 900, (HOMES, INTERVALS))
        self.wh[7, 40:42] = CANARY_WH  # home 7's, whom nobody here may see
        readings, table = root / "readings.csv", root / "meters.csv"
        rows = ["meter_id,timestamp,wh"]
        for home in range(HOMES):
            rows += [
                f"{meter(home)},{stamp(T0 + 1800 * i)},{self.wh[home, i]}"
                for i in range(INTERVALS)
            ]
        rows.append(f"{meter(0)},not-a-time-{CANARY},{CANARY_WH}")  # a reject
        readings.write_text("\n".join(rows) + "\n")
        table.write_text(
            "meter_id,tariff,region,type,customer\n"
            + "".join(
                f"{meter(h)},{'flat' if h % 2 else 'tou'},north,house,{CANARY}-person-{h:02}\n"
                for h in range(HOMES)
            )
        )
        with (root / "rejects.csv").open("wb") as rejects:
            found, _ = read_meters(table, rejects)
        learn_meters(self.vault, found)
        ingest(self.vault, [readings], root / "rejects.csv")
        self.tokens: dict[str, str] = {}
        for who in ("analyst:ann", "privacy-officer:pam", "regulator:reg", "vendor:vic"):
            self.add(who)
        for number in (3, 4):
            self.add(f"customer:house-{number}", meter(number))

    def add(self, who: str, own: str | None = None) -> str:
        subject = Accountant(self.state).subjects([own])[0] if own else None
        self.tokens[who] = people.add(self.state, who, subject)
        return self.tokens[who]
