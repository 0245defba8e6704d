"""A meter's main program for tests of the link: every frame comes back."""

import sys

from wattveil_meter.links.serial import SerialLink

link = SerialLink(limit=8192)
while not link.closed:
    for frame in link.read(1000):
        if frame == b"raise":
            raise ValueError("as asked")
        if frame == b"spam":
            for _ in range(100):
                sys.stderr.write("spam " * 20 + "\n")
        link.write(frame)
