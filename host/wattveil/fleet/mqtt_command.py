"""`wattveil broker`: what a fleet's MQTT broker, its cloud and its meters need (docs/MQTT.md)."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from wattveil.fleet.broker import Access, cloud_name, new_password
from wattveil.fleet.certificates import Authority, write_new
from wattveil.roles.folders import load_record
from wattveil_meter.links.mqtt import PORT, device_name


def options(parse: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parse.add_argument
    add("fleet", type=Path, metavar="FLEET", help="a fleet's folder, from wattveil keygen")
    add("--host", required=True, help="name or address by which meters and cloud reach the broker")
    add("--port", type=int, default=PORT, help=f"default {PORT}")
    add("--address", metavar="IP", help="where --host is, for boards: spares them the look-up")
    add("--out", type=Path, metavar="DIR", help="new folder; default FLEET/mqtt")
    add("--again", type=Path, metavar="DIR",
        help="an earlier --out: keep its authority and the passwords of meters that stay")  # fmt: skip
    add("--folder", type=Path, default=Path("/etc/mosquitto/wattveil"), metavar="DIR",
        help="of DIR/broker on the broker's machine; default /etc/mosquitto/wattveil")  # fmt: skip
    add("--workers", type=int, default=1, metavar="N",
        help="processes that are the cloud together (docs/CLUSTER.md)")  # fmt: skip
    add("--wifi", metavar="SSID", help="network that the boards join")
    add("--wifi-password-file", type=Path, metavar="FILE", help="its password, one line")


def run(args: argparse.Namespace) -> int:
    """Carry it out; ValueError, OSError."""
    if (args.wifi is None) != (args.wifi_password_file is None):
        raise ValueError("--wifi and --wifi-password-file belong together")
    if not 1 <= args.port < 1 << 16:
        raise ValueError("--port: 1 to 65535")
    if args.workers < 1:
        raise ValueError("--workers: at least 1")
    out = args.out or args.fleet / "mqtt"
    if out.exists():
        raise FileExistsError(f"{out} exists: choose another --out, and --again {out} to go on")
    record, roster = load_record(args.fleet / "cloud")
    access = _access(record.fleet, roster, args.workers, args.again)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _write(work, access, roster, args)
        os.replace(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    print(f"authority {out}/authority: ca.key stays here, and nowhere else")
    print(f"broker    {out}/broker to {args.folder} on its machine, then mosquitto -c {args.folder}"
          "/mosquitto.conf")  # fmt: skip
    print(f"cloud     {out}/cloud to its machine; run wattveil cloud in there with --config "
          "mqtt.toml")  # fmt: skip
    print(f"meters    wattveil board provision --settings {out}/meters/ID/link.toml")
    return 0


def _access(fleet: bytes, roster: tuple[str, ...], workers: int, again: Path | None) -> Access:
    """Accounts by number, passwords by meter: a number changes with the roster."""
    users = {name: device_name(fleet, number) for number, name in enumerate(roster, 1)}
    folders = {name: Path("meters", name) for name in roster}
    for worker, name in enumerate(_clouds(workers), 1):
        users[f"/{name}"], folders[f"/{name}"] = cloud_name(fleet, worker), Path(name)
    passwords = {}
    for name, user in users.items():
        held = again / folders[name] / "mqtt.pw" if again else None
        known = held is not None and held.exists()
        passwords[user] = held.read_text().strip() if held and known else new_password()
    authority = Authority.load(again / "authority") if again else Authority.create(fleet)
    return Access(authority, fleet, passwords)


def _clouds(workers: int) -> list[str]:
    """Folders of the cloud's processes."""
    return ["cloud", *(f"cloud-{worker}" for worker in range(2, workers + 1))]


def _write(out: Path, access: Access, roster: tuple[str, ...], args: argparse.Namespace) -> None:
    access.authority.save(out / "authority")
    for name in ("broker", *_clouds(access.workers), "meters"):
        (out / name).mkdir(mode=0o700)
    hosts = list(dict.fromkeys(each for each in (args.host, args.address) if each))
    access.write_broker(
        out / "broker", access.authority.server(hosts), args.port, seen=args.folder
    )
    for worker, cloud in enumerate(_clouds(access.workers), 1):
        options = access.write_cloud(out / cloud, args.host, args.port, worker)
        named = zip(options[::2], options[1::2], strict=True)
        pairs = [(name[2:], value.removeprefix(f"{out}/{cloud}/")) for name, value in named]
        pairs += [("group", "cloud")] if access.workers > 1 else []
        lines = [f"{name} = {_toml(value)}" for name, value in pairs]
        write_new(out / cloud / "mqtt.toml", ("\n".join(lines) + "\n").encode(), 0o644)
    for number, name in enumerate(roster, 1):
        folder = out / "meters" / name
        folder.mkdir(mode=0o700)
        link = access.write_account(folder, number, args.host, args.port, args.address)
        lines = ["[link]", *(f"{key} = {_toml(value)}" for key, value in link.items())]
        if args.wifi:
            lines += ["", "[link.wifi]", f"ssid = {_toml(args.wifi)}"]
            lines += ['password_file = "wifi.pw"']
            write_new(folder / "wifi.pw", args.wifi_password_file.read_bytes(), 0o600)
        write_new(folder / "link.toml", ("\n".join(lines) + "\n").encode(), 0o644)


def _toml(value: str | int) -> str:
    """A TOML string or integer: JSON's are TOML's, too."""
    return json.dumps(value, ensure_ascii=False)
