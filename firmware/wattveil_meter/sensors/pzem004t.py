"""Source `pzem004t`: Peacefair PZEM-004T version 3, Modbus-RTU on a UART, 9600 8N1.

One request a second reads its ten input registers (datasheet, "Read the measurement result"):

     0        1    2    3        5             9             13            17       19       21       23
     +--------+----+----+--------+-------------+-------------+-------------+--------+--------+--------+------+
     | addr   | 04 | 20 | V /10  | mA  lo, hi  | W/10 lo, hi | Wh  lo, hi  | Hz/10  | PF/100 | alarm  | CRC  |
     +--------+----+----+--------+-------------+-------------+-------------+--------+--------+--------+------+

Registers are big-endian; of the 32-bit values the low register comes first. The CRC, low byte first, is
that of Modbus: polynomial 0xA001 (reflected), start 0xFFFF. The energy register survives power cuts, in
steps of 1 Wh; the module does not tell import from export.
"""

from wattveil_meter.sensors import take
from wattveil_meter.sensors.follow import Follow

_ANY = 248  # the address every module answers; for one module on the line
_LENGTH = 25
_EVERY_MS = 1000
_ANSWER_MS = 500


def crc16(data, crc=0xFFFF):
    """CRC-16/MODBUS of bytes (CRC-16/ARC when it begins at 0)."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def request(address):
    """Read ten input registers from 0 on."""
    body = bytes((address, 4, 0, 0, 0, 10))
    return body + crc16(body).to_bytes(2, "little")


def parse(frame, address):
    """(0.1 V, mA, 0.1 W, Wh, 0.1 Hz, PF/100, alarm) of a whole answer, or the name of what is wrong."""
    if len(frame) < _LENGTH and not (len(frame) == 5 and frame[1] == 0x84):
        return "short"
    if len(frame) > _LENGTH:
        return "trailing"
    if crc16(frame[:-2]) != frame[-2] | frame[-1] << 8:
        return "crc"
    if address != _ANY and frame[0] != address:
        return "address"
    if frame[1] == 0x84:
        return "exception"
    if frame[1] != 4 or frame[2] != 20:
        return "malformed"
    words = [frame[i] << 8 | frame[i + 1] for i in range(3, 23, 2)]
    volts, ma, ma_high, watts, watts_high, wh, wh_high, hertz, factor, alarm = words
    return (
        volts,
        ma_high << 16 | ma,
        watts_high << 16 | watts,
        wh_high << 16 | wh,
        hertz,
        factor,
        alarm,
    )


class Pzem(Follow):
    """uart: write(bytes), read() -> bytes or None at once, any() -> bytes waiting."""

    def __init__(self, uart, address):
        super().__init__(10000)
        self._uart = uart
        self._address = address
        self._asked = None  # ms; None between requests
        self._due = 0  # ms of the next request
        self._got = b""
        self.last = None  # as `parse` returns it

    def poll(self, ms):
        """Read what has come; ask when a second has passed."""
        self.now = ms
        data = self._uart.read() if self._uart.any() else None
        if self._asked is not None:
            if data and len(self._got) <= _LENGTH:
                self._got += data[: _LENGTH + 1]
            if len(self._got) >= _LENGTH or ms - self._asked >= _ANSWER_MS:
                self._answer(ms)
        if self._asked is None and ms >= self._due:
            self._due = ms + _EVERY_MS
            self._asked = ms
            self._got = b""
            self._uart.write(request(self._address))

    def _answer(self, ms):
        self._asked = None
        values = parse(self._got, self._address)
        if isinstance(values, str):
            self.count(values if self._got else "silent")
            return
        self.last = values
        self.follow(ms, values[3] * 1000, 0)


def open_source(config):
    """Keys: uart, tx, rx (numbers), address (1..247, or 248 for a single module)."""
    from machine import UART, Pin

    address, rx, tx, uart = take(config, uart=1, tx=None, rx=None, address=_ANY)
    if not 1 <= address <= _ANY:
        raise ValueError("config.json: sensor key address must be 1 to 248")
    return Pzem(UART(uart, 9600, tx=Pin(tx), rx=Pin(rx), timeout=0), address)
