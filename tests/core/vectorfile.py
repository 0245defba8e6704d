"""Reads docs/vectors, and says how the core answers, for the tests that hold it against them."""

import gc
import json

from wattveil_meter import wire
from wattveil_meter.fields import Malformed

FOLDER = __file__[: -len("vectorfile.py")] + "../../docs/vectors/"


def load(kind):
    gc.collect()
    with open(FOLDER + kind + ".json") as file:
        document = json.load(file)
    assert document["format"] == "wattveil vectors 1" and document["file"] == kind
    assert document["vectors"]
    return document["vectors"]


def by_name(kind):
    return {vector["name"]: vector for vector in load(kind)}


def good_and_bad(operations):
    """The operations that succeed, and the others."""
    good = [operation for operation in operations if operation["success"]]
    return good, [operation for operation in operations if not operation["success"]]


def malformed(function, *args):
    try:
        function(*args)
    except Malformed:
        return True
    return False


def reason(function, *args):
    try:
        function(*args)
    except wire.Refused as refusal:
        return refusal.reason
    return None


def finish(generator):
    try:
        while True:
            next(generator)
    except StopIteration as stop:
        return stop.value
