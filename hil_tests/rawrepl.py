"""A board's console for MicroPython builds that have none: mpremote takes it for a board.

It speaks what mpremote uses on stdin and stdout: the friendly prompt with Ctrl-A (raw REPL),
Ctrl-B (back) and Ctrl-D (soft reset, which runs main.py), the raw REPL with Ctrl-D to execute,
and raw paste mode with its flow control
(https://docs.micropython.org/en/latest/reference/repl.html). The current folder is the board's
file system; starting is power-on. Runs on the unix MicroPython builds.

Not like a board: a soft reset only forgets imported modules and globals; Ctrl-C interrupts code
only while wattveil_meter.links.serial reads the console.
"""

import gc
import sys

WINDOW = 128  # bytes of raw paste per 0x01
BANNER = "\r\nMicroPython (hil_tests/rawrepl.py); Raspberry Pi Pico, so to speak\r\n>>> "
SYSTEM = ("__main__", "gc", "sys", "builtins", "micropython")

stdin = sys.stdin.buffer
stdout = sys.stdout.buffer


def get():
    """One byte from the host; the end of the process when the host hung up."""
    try:
        byte = stdin.read(1)
    except OSError:
        byte = b""
    if not byte:
        sys.exit(0)
    return byte[0]


def put(text):
    """Text to the host, as it is."""
    stdout.write(text.encode())


def execute(source, names):
    """Run source text, then print the two ends of output that raw mode promises."""
    error = None
    try:
        exec(source, names)
    except SystemExit:
        pass
    except BaseException as caught:
        error = caught
    put("\x04")
    if error:
        sys.print_exception(error, sys.stdout)
    put("\x04")


def paste(names):
    """Raw paste mode: take source text window by window up to Ctrl-D, then run it."""
    put("R\x01")
    stdout.write(bytes((WINDOW & 0xFF, WINDOW >> 8, 1)))
    source = bytearray()
    remain = WINDOW
    while True:
        byte = get()
        if byte in (3, 4):
            break
        source.append(byte)
        remain -= 1
        if not remain:
            put("\x01")
            remain = WINDOW
    put("\x04")
    if byte == 4:
        execute(source.decode(), names)
    else:
        put("\x04\x04")


def raw_repl(names):
    """Until Ctrl-B (returns False) or a soft reset (returns True)."""
    put("raw REPL; CTRL-B to exit\r\n>")
    line = bytearray()
    while True:
        byte = get()
        if byte == 1 and bytes(line) == b"\x05A":
            line = bytearray()
            paste(names)
            put(">")
        elif byte == 1:
            line = bytearray()
            put("raw REPL; CTRL-B to exit\r\n>")
        elif byte == 2:
            return False
        elif byte == 3:
            line = bytearray()
        elif byte == 4 and not line:
            put("OK\r\n")
            return True
        elif byte == 4:
            put("OK")
            source = line.decode()
            line = bytearray()
            execute(source, names)
            put(">")
        else:
            line.append(byte)


def friendly_repl(names):
    """Until a soft reset: True when it was asked for in raw mode, which skips main.py."""
    put(BANNER)
    while True:
        byte = get()
        if byte == 1:
            put("\r\n")
            if raw_repl(names):
                return True
            put(BANNER)
        elif byte == 2:
            put(BANNER)
        elif byte == 3:
            put("\r\n>>> ")
        elif byte == 4:
            put("\r\n")
            return False


def forget_modules():
    """What a soft reset does to imports: the next import reads the files again."""
    for name in list(sys.modules):
        if name not in SYSTEM:
            del sys.modules[name]
    gc.collect()


def run_main():
    """main.py of the current folder, if there is one; interrupted by Ctrl-C like a board's."""
    try:
        with open("main.py") as file:
            source = file.read()
    except OSError:
        return
    try:
        from wattveil_meter.links.serial import SerialLink

        SerialLink.interrupt = 3
    except Exception:  # main.py will say what is wrong with it
        pass
    try:
        exec(source, {"__name__": "__main__"})
    except SystemExit:
        pass
    except BaseException as error:
        sys.print_exception(error, sys.stdout)


def board():
    """Power on: main.py, then the console, and again after every soft reset."""
    sys.path[0] = ""
    raw = False
    while True:
        forget_modules()
        names = {"__name__": "__main__"}
        if raw:
            if not raw_repl(names):
                raw = friendly_repl(names)
        else:
            run_main()
            raw = friendly_repl(names)
        put("MPY: soft reboot\r\n")


if __name__ == "__main__":
    board()
