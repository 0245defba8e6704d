"""The wattveil meter: the protocol core and its firmware, in the subset of Python that MicroPython runs."""

VERSION = "0.1.0"
