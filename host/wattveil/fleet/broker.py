"""MQTT broker of a fleet: its accounts, who may touch which topic, and one for a demo.

The broker sees sealed frames, who talks and when, as the cloud does; it holds no key of the
protocol. docs/MQTT.md is the operator's guide to what is written here.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wattveil.fleet.certificates import Authority, Issued, write_new
from wattveil.fleet.emulated import die_with_parent
from wattveil_meter.links.mqtt import device_name
from wattveil_meter.wire import SERIAL_LIMIT

HOST = "localhost"  # the name in a private broker's certificate
ADDRESS = "127.0.0.1"
AMQTT = "amqtt"  # a broker in Python; see amqtt_broker.py
START_S = 60.0  # to listen; on a busy machine, for one that ends by itself is noticed at once
STOP_S = 5.0
_ITERATIONS = 101  # mosquitto's own; our passwords are 32 random bytes and need no stretching
_WHERE = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"))


class BrokerMissing(RuntimeError):
    """No broker on this machine; the message says what to do."""


class BrokerFailed(RuntimeError):
    """It does not start; the message has its last words."""


def find_broker() -> str:
    """The path of mosquitto, or AMQTT where only that is there; BrokerMissing."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path=_WHERE)
    if found is None and importlib.util.find_spec(AMQTT):
        return AMQTT
    if found is None:
        raise BrokerMissing(
            "mosquitto is missing: run `make setup`, or install it (Debian, Ubuntu: apt-get"
            " install mosquitto; macOS: brew install mosquitto); for demonstrations"
            " pip install 'wattveil[broker]' will do"
        )
    return found


# --- accounts -----------------------------------------------------------------------------------


def cloud_name(fleet: bytes, worker: int = 1) -> str:
    """User name and client id of a fleet's cloud; worker: which one, where it is several."""
    return f"{fleet.hex()}-cloud" + (f"-{worker}" if worker > 1 else "")


def new_password() -> str:
    """43 characters that nobody guesses."""
    return secrets.token_urlsafe(32)


def password_lines(passwords: Mapping[str, str]) -> str:
    """mosquitto's password file: by user name, PBKDF2-HMAC-SHA-512 with a salt of its own each."""
    lines = []
    for user, password in passwords.items():
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
        coded = [base64.b64encode(part).decode() for part in (salt, digest)]
        lines.append(f"{user}:$7${_ITERATIONS}${coded[0]}${coded[1]}\n")
    return "".join(lines)


def acl(fleets: Iterable[bytes], workers: int = 1) -> str:
    """mosquitto's ACL file: a meter has its own three topics, a cloud those of its fleet."""
    lines = [
        "# %u is the user name: <fleet>-<meter number>",
        "pattern write wattveil/+/up/%u",
        "pattern write wattveil/+/status/%u",
        "pattern read wattveil/+/down/%u",
    ]
    for fleet in fleets:
        root = f"wattveil/{fleet.hex()}"
        for worker in range(1, workers + 1):
            lines += ["", f"user {cloud_name(fleet, worker)}", f"topic write {root}/down/+"]
            lines += [f"topic read {root}/up/+", f"topic read {root}/status/+"]
    return "\n".join(lines) + "\n"


def configuration(folder: Path, port: int, address: str | None = None) -> str:
    """mosquitto.conf; address None: all interfaces. The files it names are in `folder`."""
    return f"""\
listener {port}{"" if address is None else " " + address}
certfile {folder}/server.pem
keyfile {folder}/server.key
tls_version tlsv1.2
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
# else who knows a client id could throw its owner out
use_username_as_clientid true
# a frame and the packet around it; who sends more is thrown out
max_packet_size {SERIAL_LIMIT + 128}
# the cloud may fall this far behind; frames beyond are dropped, and meters ask again
max_queued_messages 10000
max_inflight_messages 1000
# clean sessions only: there is nothing to keep but who is there
persistence false
sys_interval 0
log_dest stderr
log_type error
log_type warning
log_type notice
"""


@dataclass(frozen=True)
class Access:
    """What a fleet needs at its broker. passwords: by user name."""

    authority: Authority
    fleet: bytes
    passwords: Mapping[str, str]

    @classmethod
    def create(cls, fleet: bytes, meters: int, workers: int = 1) -> Access:
        """New authority and passwords for a fleet of this many meters, and its cloud."""
        users = [device_name(fleet, number) for number in range(1, meters + 1)]
        users += [cloud_name(fleet, worker) for worker in range(1, workers + 1)]
        return cls(Authority.create(fleet), fleet, {user: new_password() for user in users})

    def write_account(
        self, folder: Path, number: int, host: str, port: int, address: str | None = None
    ) -> dict[str, str | int]:
        """A meter's password, and the authority, as files in `folder`; its "link" settings."""
        password = self.passwords[device_name(self.fleet, number)]
        write_new(folder / "mqtt.pw", password.encode() + b"\n", 0o600)
        write_new(folder / "ca.der", self.authority.der, 0o644)
        link: dict[str, str | int] = {"kind": "mqtt", "host": host, "port": port}
        link |= {"ca": "ca.der", "password_file": "mqtt.pw"}
        return link | ({} if address is None else {"address": address})

    def write_meter(
        self, folder: Path, number: int, host: str, port: int, address: str | None = None
    ) -> None:
        """Make the emulated meter in `folder` talk MQTT: its account, and config.json."""
        link = self.write_account(folder, number, host, port, address)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"link": link}, indent=1) + "\n")

    @property
    def workers(self) -> int:
        """Processes that are the cloud."""
        return sum(user.startswith(cloud_name(self.fleet)) for user in self.passwords)

    def write_cloud(self, folder: Path, host: str, port: int, worker: int = 1) -> tuple[str, ...]:
        """The cloud's password and authority in its folder; the options its process takes."""
        user = cloud_name(self.fleet, worker)
        write_new(folder / "mqtt.pw", self.passwords[user].encode() + b"\n", 0o600)
        write_new(folder / "ca.pem", self.authority.pem, 0o644)
        options = ["--mqtt", f"mqtts://{host}:{port}", "--mqtt-user", user]
        options += ["--mqtt-ca", str(folder / "ca.pem")]
        return (*options, "--mqtt-password-file", str(folder / "mqtt.pw"))

    def write_broker(
        self,
        folder: Path,
        server: Issued,
        port: int,
        address: str | None = None,
        *,
        seen: Path | None = None,
    ) -> None:
        """mosquitto.conf and the files it names. seen: where the broker will find `folder`."""
        write_new(folder / "server.pem", server.certificate, 0o644)
        write_new(folder / "server.key", server.key, 0o600)
        write_new(folder / "passwords", password_lines(self.passwords).encode(), 0o600)
        write_new(folder / "acl", acl([self.fleet], self.workers).encode(), 0o600)
        text = configuration(seen or folder, port, address).encode()
        write_new(folder / "mosquitto.conf", text, 0o644)


# --- a private broker ---------------------------------------------------------------------------


class Broker:
    """A broker of our own on a free port of the loopback interface; a context manager.

    Started by root, mosquitto runs as the user mosquitto (or nobody) from the first instruction on,
    in a folder of that user which holds nothing else: `user root` would leave a network server with
    all rights, and to drop them by itself it would have to be started with them. The authority's
    key is never in that folder. log: file for what it says. program: of `find_broker`.
    """

    def __init__(self, access: Access, log: Path, program: str | None = None) -> None:
        self._program = program or find_broker()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="wattveil-broker-"))
        try:
            server = access.authority.server([HOST, ADDRESS])
            access.write_broker(self.folder, server, self.port, ADDRESS)
            self._user = _unprivileged()
            if self._user is not None:
                for path in (self.folder, *self.folder.iterdir()):
                    os.chown(path, self._user.pw_uid, self._user.pw_gid)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> None:
        """Start it, also again after `kill`, and wait until it listens; BrokerFailed."""
        argv = [self._program, "-c", str(self.folder / "mosquitto.conf")]
        rights: dict[str, int | list[int]] = {}
        if self._program == AMQTT:
            module = "wattveil.fleet.amqtt_broker"
            argv = [sys.executable, "-m", module, str(self.folder), str(self.port)]
            if self._user is not None:  # by itself: others may not be able to import it
                argv += [str(self._user.pw_uid), str(self._user.pw_gid)]
        elif self._user is not None:
            rights = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                process_group=0,  # Ctrl-C in the terminal is ours: it goes last
                preexec_fn=die_with_parent(),
                **rights,  # type: ignore[call-overload]
            )
        end = time.monotonic() + START_S
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                words = self._log.read_text(errors="replace").splitlines()[-8:]
                raise BrokerFailed("the broker does not start:\n  " + "\n  ".join(words))
            time.sleep(0.02)

    @property
    def pid(self) -> int | None:
        """Its process id, None before the first start."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """No goodbye: connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Stop it and remove its folder; more than once is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom a broker runs as that root starts; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise BrokerFailed("no user mosquitto or nobody to run the broker as: do not start it as root")


def free_port() -> int:
    """A port of the loopback interface that is free, for a server that is about to be started.

    Below those that the kernel hands out by itself (Linux: from 32768 on): one of these could be
    anybody's connection by the time the server asks for it, or while it restarts.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.create_server((ADDRESS, port)):
            return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1.0):
        return True
    return False
