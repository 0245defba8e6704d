"""Links of a meter to its cloud.

Each has `read(wait_ms)`: whole frames so far; `write(frame)`: True when it went out; `up`: whether
frames go out now; `wedged`: whether nothing but a reset is left to try; `closed`: True once that
will never be again; `dropped`: frames that never went out; `refused`: counts, by name, of what came
in and was no frame.
"""


def make(config, package, clock=None):
    """The link that config.json asks for. package: the meter's; ValueError, OSError.

    config: {"kind": "serial"}, or {"kind": "mqtt", ...} (docs/MQTT.md).
    """
    kind = config.get("kind", "serial")
    if kind == "serial":
        from wattveil_meter.links.serial import SerialLink

        return SerialLink()
    if kind == "mqtt":
        from wattveil_meter.hal import Clock
        from wattveil_meter.links.mqtt import MqttLink

        return MqttLink(config, package, clock or Clock())
    raise ValueError("config.json: unknown link kind " + str(kind))
