# A meter's MQTT link alone, in the current folder, on any runtime: `mqttmeter.py FLEET NUMBER UNTIL`.
# Runs until it is up, until a frame or an outage came, or (stall) for 200 calls on a connection that
# stands; sends "hello" when up; prints what it saw, as JSON.
import json
import sys
import time
from binascii import hexlify, unhexlify

from wattveil_meter.hal import Clock
from wattveil_meter.links import make


class Record:
    fleet = unhexlify(sys.argv[1])


class Package:
    record = Record
    number = int(sys.argv[2])


with open("config.json") as file:
    config = json.load(file)["link"]
clock = Clock()
link = make(config, Package)
done = {
    "up": lambda: greeted,
    "frame": lambda: frames,
    "outage": lambda: link.outages,
    "stall": lambda: calls == 200,  # each may wait for nothing
}[sys.argv[3]]
frames = []
greeted = False
calls = 0
end = clock.ms() + 200000
while clock.ms() < end:
    frames += link.read(0)
    calls += link._begun  # the first try comes after a random wait
    if link.up and not greeted:
        greeted = link.write(b"hello")
    if done():
        break
    time.sleep(0.004)
seen = {"up": link.up, "frames": [hexlify(frame).decode() for frame in frames], "calls": calls}
seen["refused"] = link.refused
seen["outages"] = link.outages
link.close()
print(json.dumps(seen))
