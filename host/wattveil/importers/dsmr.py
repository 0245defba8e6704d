"""Reader of P1 telegrams: one telegram a file, or a log of them.

The parser is the meter's own (``wattveil_meter.sensors.p1``): host and board read the same
telegrams by the same code.  dsmr-parser would decode them too, but has to be told beforehand
which of a dozen national layouts a telegram has, drops the unit when asked for a wrong one, and
keeps no bound on what it stores; the tests use it as the second opinion.

A telegram's local time says S or W, which is read as CEST or CET.  DSMR 2 and 3 say no time.
"""

from __future__ import annotations

import hashlib
import io
from datetime import datetime, timedelta, timezone

from wattveil_meter.sensors.p1 import Telegram, Telegrams

from .readings import BadReading, check_meter_id
from .series import Note, Register

_TIME = b"0-0:1.0.0"
_ZONES = {"S": timezone(timedelta(hours=2)), "W": timezone(timedelta(hours=1))}
_IDENTITIES = (b"0-0:96.1.1", b"0-0:42.0.0", b"0-0:96.1.0", b"0-0:96.1.255")
_WHY = {
    "cut": "the telegram before this line has no end",
    "crc": "the telegram that ends here has a wrong CRC",
    "malformed": "the telegram has a line not in form (lines end in CR LF: was the file converted?)",
    "oversized": "the telegram is longer than 8192 bytes",
}


def _meter_id(telegram: Telegram) -> str:
    """The equipment identifier (as text when it is text in hexadecimal), else a hash of the header."""
    for code in _IDENTITIES:
        raw: bytes = telegram.fields.get(code, b"")
        for text in (_unhex(raw), raw.decode("ascii", "replace")):
            try:
                check_meter_id(text)
            except BadReading:
                continue
            if text.strip("0") and text.isascii():
                return text
    return "p1-" + hashlib.sha256(telegram.header).hexdigest()[:16]


def _unhex(raw: bytes) -> str:
    try:
        return bytes.fromhex(raw.decode("ascii")).decode("ascii")
    except ValueError:
        return ""


def _utc(telegram: Telegram) -> int | None:
    """UTC seconds of the telegram's own time, None when it says none."""
    text = telegram.fields.get(_TIME, b"").decode("ascii", "replace")
    zone = _ZONES.get(text[12:])
    if zone is None or not (text[:12].isascii() and text[:12].isdigit()):
        return None
    try:
        local = datetime.strptime(text[:12], "%y%m%d%H%M%S")
    except ValueError:
        return None
    seconds = int(local.replace(tzinfo=zone).timestamp())
    return seconds if seconds >= 0 else None


def read_dsmr(file: str, data: bytes, notes: list[Note]) -> list[Register]:
    """The registers of every telegram whose form and CRC are right."""
    found: list[Register] = []
    line = 1

    def refused(reason: str) -> None:
        notes.append(Note(file, line, _WHY.get(reason, reason)))

    telegrams = Telegrams(refused)
    for line, raw in enumerate(io.BytesIO(data), 1):
        for telegram in telegrams.feed(raw):
            imported, exported = telegram.register(b"1.8."), telegram.register(b"2.8.")
            if not telegram.measures():
                notes.append(Note(file, line, "the telegram has no electricity register"))
            elif imported is None or exported is None:
                notes.append(
                    Note(file, line, "the telegram has a register that is no number of kWh")
                )
            else:
                meter = _meter_id(telegram)
                found.append(Register(meter, _utc(telegram), imported, exported, file, line))
    if telegrams.open:
        notes.append(Note(file, line, "the file ends within a telegram"))
    return found
