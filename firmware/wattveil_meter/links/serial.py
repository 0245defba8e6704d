"""Serial link: stuffed binary frames on the console, beside whatever else the console carries.

On a board the console is the REPL's port: Ctrl-C (0x03, never in a stuffed frame) still stops the
meter, and tracebacks or prompts between frames are dropped by the receiver as damaged. A meter on a PC
(unix MicroPython, CPython) has the master side of a pseudo-terminal there instead.
"""

import select
import sys

from wattveil_meter.wire import SERIAL_LIMIT, Deframer, stuff

READ_LIMIT = 512  # bytes taken per call, so that the main loop goes on under a flood
WRITE_PIECE = 256  # bytes; what a pseudo-terminal takes at once when it says it is ready
WRITE_WAIT_MS = 1000  # for a reader that does not read; then the rest of the frame is dropped


class SerialLink:
    """Frames over stdin and stdout.

    closed: True once the other side is gone for good (a hung-up pseudo-terminal; never on a board).
    dropped: frames that nobody took within WRITE_WAIT_MS. refused: counts of the deframer.
    up: not closed.
    """

    # A byte that raises KeyboardInterrupt, or -1. Boards do that themselves (micropython.kbd_intr);
    # hil_tests/rawrepl.py sets it so that a PC's build can be interrupted like a board.
    interrupt = -1
    wedged = False

    def __init__(self, limit=SERIAL_LIMIT):
        self._in = sys.stdin.buffer
        self._out = sys.stdout.buffer
        # CPython: past the buffering, which poll() does not see
        self._in = getattr(self._in, "raw", self._in)
        self._out = getattr(self._out, "raw", self._out)
        self._piece = READ_LIMIT if sys.implementation.name == "cpython" else 1
        self._deframer = Deframer(limit)
        self._readable = select.poll()
        self._readable.register(sys.stdin, select.POLLIN)
        self._writable = None
        if sys.platform == "linux":  # boards: their drivers bound a write by themselves
            self._writable = select.poll()
            self._writable.register(sys.stdout, select.POLLOUT)
        self.refused = self._deframer.refused
        self.dropped = 0
        self.closed = False

    @property
    def up(self):
        """Whether a frame would go out now."""
        return not self.closed

    def read(self, wait_ms=0):
        """The frames completed by now; waits up to `wait_ms` for a first byte, else not at all."""
        data = bytearray()
        # one byte at a time: read(n) of a console waits until it has all n
        while len(data) < READ_LIMIT and not self.closed and self._readable.poll(wait_ms):
            wait_ms = 0
            try:
                got = self._in.read(self._piece)
            except OSError:  # EIO: hung up
                got = b""
            if not got:
                self.closed = True
            elif got[0] == self.interrupt:
                raise KeyboardInterrupt
            data += got
        return self._deframer.feed(data)

    def write(self, frame):
        """Send one frame; True when all of it went out."""
        data = memoryview(stuff(frame))
        at = 0
        while at < len(data) and not self.closed:
            if self._writable and not self._writable.poll(WRITE_WAIT_MS):
                self.dropped += 1
                return False
            try:
                at += self._out.write(data[at : at + WRITE_PIECE]) or 0
            except OSError:
                self.closed = True
        return not self.closed
