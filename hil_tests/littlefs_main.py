# Test-only main: the meter on a real littlefs, whose blocks are in the file flash.img of its folder.
# With a file named `cut` beside it, which holds a number, the power goes in the middle of that block
# write; with one named `full`, all that is free is taken before a file is written.
import os

try:
    import vfs
except ImportError:
    vfs = os
import ffi

import main_recorder
from wattveil_meter import app, store

BLOCK = 1024
BLOCKS = 100
fillers = []
home = os.getcwd()
power_off = ffi.open("libc.so.6").func("v", "_exit", "i")


class Chip:
    """Blocks in RAM, and every write in flash.img before it returns."""

    def __init__(self):
        self._blocks = bytearray(b"\xff" * (BLOCK * BLOCKS))
        try:
            with open("flash.img", "rb") as file:
                file.readinto(self._blocks)
        except OSError:
            with open("flash.img", "wb") as file:
                file.write(self._blocks)
        self._view = memoryview(self._blocks)
        self._file = open(home + "/flash.img", "r+b")

    def readblocks(self, block, buffer, offset=0):
        at = block * BLOCK + offset
        buffer[:] = self._view[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset=0):
        left = writes_left()
        at = block * BLOCK + offset
        size = len(buffer) // 2 if left == 0 else len(buffer)
        self._view[at : at + size] = memoryview(buffer)[:size]
        self._file.seek(at)
        self._file.write(self._view[at : at + size])
        if left == 0:
            power_off(137)

    def ioctl(self, op, arg):
        if op == 4:
            return BLOCKS
        if op == 5:
            return BLOCK
        return 0


def exists(name):
    try:
        os.stat(name)
        return True
    except OSError:
        return False


def writes_left():
    """Before the cut; None when there is to be none."""
    if not exists(home + "/cut"):
        return None
    with open(home + "/cut") as file:
        left = int(file.read())
    if left:
        with open(home + "/cut", "w") as file:
            file.write(str(left - 1))
    else:
        os.remove(home + "/cut")
    return left


def fill():
    # what was not flushed before an error is given back
    for _ in range(6):
        fillers.append("filler%d" % len(fillers))
        try:
            with open(fillers[-1], "wb") as file:
                while True:
                    file.write(bytes(BLOCK))
                    file.flush()
        except OSError:
            pass


def make_room():
    while fillers:
        os.remove(fillers.pop())


write = store.FileStorage.write


def write_to_full(self, name, value):
    if exists(home + "/full"):
        fill()
        # A replaced file may find the block of its predecessor; a board's 4 KiB blocks and longer
        # reports are less lucky. The error is littlefs's own.
        with open("probe", "wb") as file:
            file.write(bytes(4 * BLOCK))
    else:
        make_room()
    write(self, name, value)


store.FileStorage.write = write_to_full
chip = Chip()
try:
    vfs.mount(vfs.VfsLfs2(chip, progsize=256, readsize=256), "/flash")
except OSError:  # first start: what provisioning would have copied
    vfs.VfsLfs2.mkfs(chip, progsize=256, readsize=256)
    vfs.mount(vfs.VfsLfs2(chip, progsize=256, readsize=256), "/flash")
for name in os.listdir(home):
    target = "/flash/" + name
    if name.split(".")[-1] in ("bin", "json", "tab", "csv") and not exists(target):
        with open(home + "/" + name, "rb") as source:
            with open(target, "wb") as sink:
                piece = source.read(512)
                while piece:
                    sink.write(piece)
                    piece = source.read(512)
os.chdir("/flash")

log_here = app.Log
app.hal.reset_reason = lambda: "pwron"  # what comes back here is the power
app.Log = lambda clock: log_here(clock, home)  # where the test reads it
main_recorder.record(home + "/shares.csv")
app.main()
