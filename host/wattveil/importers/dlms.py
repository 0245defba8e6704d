"""Reader of DLMS/COSEM push messages (IEC 62056-5-3), dumped as hexadecimal text.

Messages and decryption are dlms-cosem's (the extra ``wattveil[dlms]``), frames and data our own
decoders' (framing.py and axdr.py say why); what is not decoded is noted with the reason.

A dump holds HDLC or M-Bus frames, whose segments and blocks are joined, or bare APDUs, each after an
empty line. Registers are taken from lists of (OBIS code, value, (scaler, unit)) with unit Wh; the
time from the notification or from the clock object, and only when it says its distance to UTC.
Flat lists (code, value, code, value, ...) say no unit: a dump NAME of such needs NAME with the suffix
``.unit`` beside it, which says how many Wh a count is, by the meter's manual: 1, 10, 100 or 1000.

An encrypted dump NAME needs NAME with the suffix ``.key`` (global encryption key) and ``.gak``
(authentication key) beside it, 32 hexadecimal digits each.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from .axdr import decode
from .framing import Blocks, FramingError, hdlc_frame, mbus_frame
from .readings import MAX_METER_ID_BYTES, BadReading, DataError, check_meter_id
from .series import Note, Register

_FRAMES = {0x7E: hdlc_frame, 0x68: mbus_frame}
_WH = 30  # COSEM unit
_METER_IDS = ("0:96.1.0", "0.0.5")  # device id; GS1 number (Kamstrup)
_HEX = re.compile(rb"[0-9A-Fa-f]")
_STRAY = re.compile(rb"[^0-9A-Fa-f\s:;,.'\"\-]")
_BEGIN = re.compile(rb"\W*(?:7[Ee]|0[Ff]|[Dd][Bb]|68)")  # HDLC flag, notification, ciphered, M-Bus


def _blocks(file: str, data: bytes) -> Iterator[tuple[bytes, list[int], list[int]]]:
    """Bytes of each message or run of frames, and at which offsets in them which lines begin."""
    digits, offsets, lines = b"", list[int](), list[int]()
    empty = False
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        stray = _STRAY.search(line)
        if stray:
            column = stray.start() + 1
            raise DataError(file, number, column, "not hexadecimal", "give a dump in hexadecimal")
        if not line.strip():
            empty = True
            continue
        if digits and empty and _BEGIN.match(line):
            yield _whole(file, digits, number - 1), offsets, lines
            digits, offsets, lines = b"", [], []
        empty = False
        offsets.append(len(digits) // 2)
        lines.append(number)
        digits += b"".join(_HEX.findall(line))
    if digits:
        yield _whole(file, digits, lines[-1]), offsets, lines


def _whole(file: str, digits: bytes, line: int) -> bytes:
    if len(digits) % 2:
        raise DataError(file, line, 1, "half a byte", "dump two digits a byte")
    return bytes.fromhex(digits.decode())


def _reason(error: Exception) -> str:
    """What the library said, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _messages(file: str, data: bytes, notes: list[Note]) -> Iterator[tuple[bytes, int]]:
    """(APDU, line) of everything in the dump."""
    for block, offsets, lines in _blocks(file, data):
        if block[0] not in _FRAMES:
            yield block, lines[0]
            continue
        at, segments, blocks = 0, b"", Blocks()
        while at < len(block):
            line = lines[bisect_right(offsets, at) - 1]
            try:
                frame = _FRAMES[block[0]](block, at)
                segments += frame.payload
                message = None if frame.more else blocks.add(segments)
            except FramingError as error:
                notes.append(Note(file, line, str(error)))
                segments = b""
                break
            at += frame.size
            if block[at : at + 1] == b"\x7e" and block[at + 1 : at + 2] in (b"\x7e", b""):
                at += 1  # the flag behind the frame, not one shared with the next
            if not frame.more:
                segments = b""
            if message is not None:
                yield message, line
        if segments:
            notes.append(Note(file, lines[-1], "the dump ends before the last segment"))


def _beside(file: str, suffix: str) -> str | None:
    """Content of the file with that suffix beside the dump, None when there is none."""
    try:
        return Path(file).with_suffix(suffix).read_text("ascii").strip()
    except (OSError, ValueError):
        return None


def _key(file: str, suffix: str) -> bytes:
    """The key beside the dump; ValueError without its content."""
    text = _beside(file, suffix)
    if text is None:
        raise ValueError(f"encrypted, and there is no {Path(file).stem}{suffix} beside it")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise ValueError(f"{Path(file).stem}{suffix} is not 32 hexadecimal digits")
    return key


def _wh_per_count(file: str, code: str) -> int:
    """What a register without a unit counts, as the file `.unit` says; ValueError."""
    text, name = _beside(file, ".unit"), f"{Path(file).stem}.unit"
    if text is None:
        raise ValueError(
            f"register {code} has no unit: say in {name} beside it how many Wh a count is"
        )
    if text not in ("1", "10", "100", "1000"):
        raise ValueError(f"{name} is not 1, 10, 100 or 1000 (Wh a count)")
    return int(text)


def _decrypted(file: str, apdu: bytes) -> bytes:
    from dlms_cosem.protocol.xdlms.general_global_cipher import GeneralGlobalCipher

    if apdu[:1] != b"\xdb":
        return apdu
    return bytes(
        GeneralGlobalCipher.from_bytes(apdu).to_plain_apdu(_key(file, ".key"), _key(file, ".gak"))
    )


def _obis(value: Any) -> str:
    """`1.8.0` of an OBIS code in group A 1, `0:C.D.E` of another; empty when it is no code."""
    if not isinstance(value, bytes) or len(value) != 6:
        return ""
    return ("" if value[0] == 1 else f"{value[0]}:") + ".".join(str(part) for part in value[2:5])


def _mwh(value: Any, scale: Any) -> int | None:
    """A register in mWh, None unless it says Wh with a sensible scaler."""
    if not (isinstance(scale, list) and len(scale) == 2 and scale[1] == _WH):
        return None
    power = scale[0]
    if type(value) is not int or type(power) is not int or value < 0 or not -6 <= power <= 6:
        return None
    return int(value * 10 ** (power + 6) // 1000)


def _register(file: str, apdu: bytes, line: int) -> Register:
    """The registers of one notification; any error of the library's, or ValueError."""
    from dlms_cosem.protocol.xdlms import DataNotification
    from dlms_cosem.time import datetime_from_bytes

    plain = _decrypted(file, apdu)
    if plain[:1] == b"\x0f" and plain[5:7] == b"\x09\x0c":  # Kaifa gives the time a type as well
        plain = plain[:5] + plain[6:]
    notification = DataNotification.from_bytes(plain)
    items = decode(notification.body)
    if not isinstance(items, list):
        raise ValueError("its data are no list")
    when: datetime | None = notification.date_time
    meter, registers = "", dict[str, int]()
    flat = [list(pair) for pair in pairwise(items) if _obis(pair[0])]
    for item in [i for i in items if isinstance(i, list) and len(i) in (2, 3)] + flat:
        code, value = _obis(item[0]), item[1]
        if code in _METER_IDS and isinstance(value, bytes):
            meter = value.decode("ascii", "replace").strip("\0 ")
        elif code == "0:1.0.0" and isinstance(value, bytes) and when is None:
            when = datetime_from_bytes(value)[0]
        elif code in ("1.8.0", "2.8.0"):
            scale = item[2] if len(item) == 3 else [0, _WH]
            mwh = _mwh(value, scale)
            if mwh is None:
                raise ValueError(f"register {code} is no number of Wh")
            registers[code] = mwh * (1 if len(item) == 3 else _wh_per_count(file, code))
    if "1.8.0" not in registers:
        raise ValueError("it has no register 1.8.0")
    try:
        check_meter_id(meter)
    except BadReading:
        meter = "dlms-" + "".join(c for c in Path(file).stem if c.isalnum() and c.isascii())
    utc = int(when.timestamp()) if when is not None and when.tzinfo is not None else None
    exported = registers.get("2.8.0", 0)
    return Register(meter[:MAX_METER_ID_BYTES], utc, registers["1.8.0"], exported, file, line)


def read_dlms(file: str, data: bytes, notes: list[Note]) -> list[Register]:
    """The registers of every push message that holds them with time and unit."""
    try:
        import dlms_cosem  # noqa: F401
    except ImportError:
        todo = "install it: pip install 'wattveil[dlms]'"
        raise DataError(file, 0, 0, "a DLMS dump needs the library dlms-cosem", todo) from None
    found: list[Register] = []
    for apdu, line in _messages(file, data, notes):
        try:
            found.append(_register(file, apdu, line))
        except Exception as error:  # the library raises what its parts raise
            notes.append(Note(file, line, f"no push message that can be used: {_reason(error)}"))
    return found
