"""Reader of DLMS/COSEM push messages (IEC 62056-5-3), dumped as hexadecimal text.

Framing and decryption are dlms-cosem's (the extra ``wattveil[dlms]``), data our own decoder's
(axdr.py says why); what they do not decode is noted with the reason they give.

A dump holds HDLC frames, whose segments are joined, or bare APDUs, each after an empty line.
Registers are taken from lists of (OBIS code, value, (scaler, unit)) with unit Wh; the time from
the notification or from the clock object, and only when it says its distance to UTC.

An encrypted dump NAME needs NAME with the suffix ``.key`` (global encryption key) and ``.gak``
(authentication key) beside it, 32 hexadecimal digits each.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from .axdr import decode
from .readings import MAX_METER_ID_BYTES, BadReading, DataError, check_meter_id
from .series import Note, Register

_LLC = (b"\xe6\xe7\x00", b"\xe6\xe6\x00")
_WH = 30  # COSEM unit
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
    from dlms_cosem.hdlc.frames import UnnumberedInformationFrame

    for block, offsets, lines in _blocks(file, data):
        if block[:1] != b"\x7e":
            yield block, lines[0]
            continue
        at, segments = 0, b""
        while at < len(block):
            line = lines[bisect_right(offsets, at) - 1]
            size = (int.from_bytes(block[at + 1 : at + 3], "big") & 0x7FF) + 2
            try:
                frame = UnnumberedInformationFrame.from_bytes(block[at : at + size])
            except Exception as error:  # the library raises what its parts raise
                notes.append(
                    Note(file, line, f"no HDLC frame that dlms-cosem reads: {_reason(error)}")
                )
                segments = b""
                break
            at += size
            segments += frame.payload
            if not frame.segmented:
                yield segments.removeprefix(_LLC[0]).removeprefix(_LLC[1]), line
                segments = b""
        if segments:
            notes.append(Note(file, lines[-1], "the dump ends before the last segment"))


def _key(file: str, suffix: str) -> bytes:
    """The key beside the dump; ValueError without its content."""
    try:
        key = bytes.fromhex(Path(file).with_suffix(suffix).read_text("ascii").strip())
    except OSError:
        raise ValueError(
            f"encrypted, and there is no {Path(file).stem}{suffix} beside it"
        ) from None
    except ValueError:
        key = b""
    if len(key) != 16:
        raise ValueError(f"{Path(file).stem}{suffix} is not 32 hexadecimal digits")
    return key


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

    notification = DataNotification.from_bytes(_decrypted(file, apdu))
    items = decode(notification.body)
    if not isinstance(items, list):
        raise ValueError("its data are no list")
    when: datetime | None = notification.date_time
    meter, registers = "", dict[str, int]()
    for item in items:
        if not (isinstance(item, list) and len(item) in (2, 3)):
            continue
        code, value = _obis(item[0]), item[1]
        if code == "0:96.1.0" and isinstance(value, bytes):
            meter = value.decode("ascii", "replace").strip("\0 ")
        elif code == "0:1.0.0" and isinstance(value, bytes) and when is None:
            when = datetime_from_bytes(value)[0]
        elif code in ("1.8.0", "2.8.0") and len(item) == 3:
            mwh = _mwh(value, item[2])
            if mwh is None:
                raise ValueError(f"register {code} is no number of Wh")
            registers[code] = mwh
    if "1.8.0" not in registers:
        raise ValueError("it has no register 1.8.0 with a unit")
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
