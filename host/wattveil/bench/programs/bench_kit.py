"""What the benchmark's programs share. Nothing of the firmware is imported before it is asked for."""

# mypy: ignore-errors

import gc
import json


def alloc():
    """Bytes of heap in use after a collection; 0 where that cannot be asked."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else 0


def read(job, name):
    """Contents of a file of the job's folder."""
    with open(job["folder"] + "/" + name, "rb") as file:
        return file.read()


def say(result):
    """One line of JSON on the console, after a mark; the host looks for it."""
    print("\n@bench " + json.dumps(result))


def pair(record, c):
    """Wire form of an integer ciphertext."""
    low, high = c % record.n, c // record.n
    return low.to_bytes(record.nb, "little") + high.to_bytes(record.nb, "little")


def make_ring(n, job):
    """(the kernel over n that the job asks for, why others were passed over).

    job["code"]: machine code of a kernel for runtimes without inline assembler, through ffi.
    """
    if job.get("code"):
        from armkernel import load
        from wattveil_meter.kernels.montgomery import Montgomery

        return Montgomery(n, job["kernel"], load(read(job, job["code"])), job["scratch"]), {}
    try:
        from wattveil_meter.kernels import choose, reasons
    except ImportError:  # a firmware with one kernel only
        from wattveil_meter.kernels.portable import Portable

        return Portable(n), {}
    ring = choose(n, job["kernel"])
    return ring, dict(reasons)
