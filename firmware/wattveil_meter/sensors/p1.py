"""Source `p1`: telegrams of a smart meter's customer port, DSMR 2.2 to 5 and its national relatives.

    /ISk5\\2MT382-1000 CR LF             begins the telegram, and the CRC
    CR LF
    1-0:1.8.1(000004.426*kWh) CR LF     OBIS code, value, unit
    ...
    !6EEE CR LF                         CRC-16/ARC over everything from `/` to `!`; DSMR 2 and 3 have none

Registers: 1.8.0 (import) and 2.8.0 (export); where a meter does not send those, the sum of the tariffs
1.8.1..4 and 2.8.1..4. Units kWh, with any number of decimals, and Wh.

`Telegrams` does no I/O. It keeps at most _LINE bytes of a line and _FIELDS fields of a telegram, whatever
arrives, and after damage goes on at the next line that begins with `/`.
"""

from wattveil_meter.sensors import take
from wattveil_meter.sensors.follow import Follow

_LINE = 100  # bytes kept of a line; all are counted in the CRC
_FIELDS = 24
_TELEGRAM = 8192  # bytes; DSMR 5 with a full text message has under 4,000
_KEPT = (b"1-0:1.8.", b"1-0:2.8.", b"0-0:1.0.0", b"0-0:96.1.", b"0-0:42.0.0")


def _crc_table():
    table = bytearray(512)
    for i in range(256):
        crc = i
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table[2 * i] = crc & 255
        table[2 * i + 1] = crc >> 8
    return table


_CRC = _crc_table()


def crc16(data, crc=0):
    """CRC-16/ARC of bytes, going on from `crc`."""
    table = _CRC
    for byte in data:
        at = (crc ^ byte) << 1 & 510
        crc = crc >> 8 ^ table[at] ^ table[at + 1] << 8
    return crc


def mwh(value):
    """b"000004.426*kWh" or b"0058*Wh" in mWh, decimals below 1 mWh cut off; None when it is neither."""
    number, _, unit = value.partition(b"*")
    whole, dot, part = number.partition(b".")
    scale = {b"kWh": 6, b"Wh": 3}.get(bytes(unit))
    if scale is None or not whole.isdigit() or len(whole) > 12:
        return None
    if dot and not (part.isdigit() and len(part) <= 12):
        return None
    return int(whole + (part + b"000000")[:scale])


class Telegram:
    """A telegram whose end was seen and whose CRC, if it had one, was right.

    header: bytes after `/`; checked: whether it had a CRC; fields: OBIS code without A-B:'s `*255`
    -> bytes of the first parenthesis, of the codes in _KEPT.
    """

    def __init__(self, header, checked, fields):
        self.header = header
        self.checked = checked
        self.fields = fields

    def register(self, kind):
        """mWh of b"1.8." (import) or b"2.8." (export); 0 when there is none; None when one is not in form."""
        code = b"1-0:" + kind
        if code + b"0" in self.fields:
            return mwh(self.fields[code + b"0"])
        total = 0
        for tariff in (b"1", b"2", b"3", b"4"):
            if code + tariff in self.fields:
                part = mwh(self.fields[code + tariff])
                if part is None:
                    return None
                total += part
        return total

    def measures(self):
        """Whether it holds an import register at all (a heat meter's telegram does not)."""
        return any([code.startswith(b"1-0:1.8.") for code in self.fields])


class Telegrams:
    """Incremental reader: `feed` bytes as they come, take telegrams out. What it refuses it counts."""

    def __init__(self, count):
        """count: called with the name of every refusal: crc, malformed, oversized, cut."""
        self._count = count
        self._line = bytearray()
        self._skipped = 0  # bytes of the line that were not kept
        self._header = None  # of the telegram under way
        self._restart()

    @property
    def open(self):
        """Whether a telegram has begun and not ended."""
        return self._header is not None

    def _restart(self):
        self._fields = {}
        self._crc = 0
        self._size = 0

    def feed(self, data):
        """The telegrams (a list, mostly empty) that these bytes complete."""
        out = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at) + 1
            piece = data[at : end or len(data)]
            at += len(piece)
            self._size += len(piece)
            room = _LINE - len(self._line)
            self._line.extend(piece[:room])
            self._skipped += max(0, len(piece) - room)
            if self._header is not None and self._size > _TELEGRAM:
                self._refuse("oversized")
            # The end line must not enter the CRC, so lines are summed when their first byte is known.
            if self._header is not None and self._line[0] not in b"!/":
                self._crc = crc16(piece, self._crc)
            if end:
                telegram = self._end_of_line(bytes(self._line))
                if telegram:
                    out.append(telegram)
                self._line = bytearray()
                self._skipped = 0
        return out

    def _end_of_line(self, line):
        if line.startswith(b"/"):
            if self._header is not None:
                self._count("cut")  # the end of the one before is missing
            self._restart()
            self._header = None
            if self._skipped or not line.endswith(b"\r\n"):
                self._count("malformed")
                return None
            self._header = line[1:-2]
            self._crc = crc16(line)
            self._size = len(line)
            return None
        if self._header is None:
            return None  # noise between telegrams, or the rest of a refused one
        if line.startswith(b"!"):
            return self._end(line)
        if not self._skipped and not line.endswith(b"\r\n"):
            self._refuse("malformed")
            return None
        self._field(line)
        return None

    def _end(self, line):
        digits = line[1:-2]
        if self._skipped or not line.endswith(b"\r\n") or len(digits) > 4:
            self._refuse("malformed")
            return None
        if any([digit not in b"0123456789ABCDEFabcdef" for digit in digits]):
            self._refuse("malformed")
            return None
        if digits and int(digits, 16) != crc16(b"!", self._crc):
            self._refuse("crc")
            return None
        telegram = Telegram(self._header, bool(digits), self._fields)
        self._header = None
        self._restart()
        return telegram

    def _field(self, line):
        for code in _KEPT:
            if line.startswith(code):
                break
        else:
            return
        code, bracket, rest = line.partition(b"(")
        value, end, _ = rest.partition(b")")
        if code.endswith(b"*255"):
            code = code[:-4]
        if not bracket or not end or code in self._fields or len(self._fields) == _FIELDS:
            self._refuse("malformed")
            return
        self._fields[code] = value

    def _refuse(self, reason):
        self._count(reason)
        self._header = None
        self._restart()


class P1(Follow):
    """uart: read() -> bytes or None at once, any(); crc: whether a telegram must have one."""

    def __init__(self, uart, crc):
        super().__init__(30000)
        self._uart = uart
        self._checked = crc
        self._telegrams = Telegrams(self.count)

    def poll(self, ms):
        """Take what has come, at most 512 bytes at a time."""
        self.now = ms
        if not self._uart.any():
            return
        for telegram in self._telegrams.feed(self._uart.read(512) or b""):
            if self._checked and not telegram.checked:
                self.count("no_crc")
                continue
            imported, exported = telegram.register(b"1.8."), telegram.register(b"2.8.")
            if imported is None or exported is None or not telegram.measures():
                self.count("no_register")
                continue
            self.follow(ms, imported, exported)


def open_source(config):
    """Keys: uart, rx (numbers), baud, parity (7E1 and no CRC: DSMR 2 and 3), invert, crc."""
    from machine import UART, Pin

    baud, crc, invert, rx, seven, uart = take(
        config, uart=1, rx=None, baud=115200, seven_bits=False, invert=True, crc=True
    )
    frame = {"bits": 7, "parity": 0} if seven else {"bits": 8, "parity": None}
    line = UART(
        uart,
        baud,
        rx=Pin(rx),
        rxbuf=4096,
        timeout=0,
        invert=UART.INV_RX if invert else 0,
        stop=1,
        **frame,
    )
    return P1(line, crc)
