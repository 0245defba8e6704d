"""amqtt in mosquitto's place, for a demo where that is missing: `python -m … FOLDER PORT [UID GID]`.

Reads the files that fleet.broker writes for mosquitto, and keeps the same rules: accounts with
passwords, a client id that is the user name, the ACL file. For demonstrations on the loopback
interface; a fleet's broker is mosquitto.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import hashlib
import hmac
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import Action, BrokerConfig, ListenerConfig  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]

from wattveil.fleet.broker import ADDRESS
from wattveil.fleet.emulated import PR_SET_PDEATHSIG


class Accounts(BaseAuthPlugin):  # type: ignore[misc]
    """mosquitto's password file."""

    @dataclass
    class Config:
        """file: its name."""

        file: str = ""

    async def authenticate(self, *, session: Session) -> bool:
        """Whether this is who it says, by password and by client id."""
        for line in Path(self.config.file).read_text().splitlines():
            user, _, stored = line.partition(":")
            if user == session.username and user == session.client_id:
                _, kind, count, salt, digest = stored.split("$")
                given = (session.password or "").encode()
                made = hashlib.pbkdf2_hmac("sha512", given, base64.b64decode(salt), int(count))
                return kind == "7" and hmac.compare_digest(made, base64.b64decode(digest))
        return False


class Topics(BaseTopicPlugin):  # type: ignore[misc]
    """mosquitto's ACL file, as far as ours goes."""

    @dataclass
    class Config:
        """file: its name."""

        file: str = ""

    async def topic_filtering(
        self,
        *,
        session: Session | None = None,
        topic: str | None = None,
        action: Action | None = None,
    ) -> bool:
        """Anybody may subscribe; what is delivered and published is checked."""
        if session is None or topic is None or session.username is None:
            return False
        if action == Action.SUBSCRIBE:
            return True
        wanted = "write" if action == Action.PUBLISH else "read"
        speaking = ""
        for line in Path(self.config.file).read_text().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "user":
                speaking = rest
            access, _, pattern = rest.partition(" ")
            if access != wanted:
                continue
            mine = kind == "pattern" or (kind == "topic" and speaking == session.username)
            if mine and _matches(pattern.replace("%u", session.username), topic):
                return True
        return False


def _matches(pattern: str, topic: str) -> bool:
    levels, given = pattern.split("/"), topic.split("/")
    return len(levels) == len(given) and all(
        a in ("+", b) for a, b in zip(levels, given, strict=True)
    )


async def serve(folder: Path, port: int) -> None:
    """Run until cancelled."""
    listener = ListenerConfig(
        bind=f"{ADDRESS}:{port}",
        ssl=True,
        certfile=folder / "server.pem",
        keyfile=folder / "server.key",
    )
    plugins = {
        f"{__name__}.Accounts": {"file": str(folder / "passwords")},
        f"{__name__}.Topics": {"file": str(folder / "acl")},
    }
    broker = Broker(BrokerConfig(listeners={"default": listener}, plugins=plugins))
    await broker.start()
    await asyncio.Event().wait()


def main(folder: str, port: str, uid: str = "", gid: str = "") -> None:
    """Give up root's rights, if there are any, then serve."""
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
        if sys.platform == "linux":  # setuid forgot what die_with_parent had asked for
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    asyncio.run(serve(Path(folder), int(port)))


if __name__ == "__main__":
    # by its own name: amqtt looks its plugins up there, and may not be able to import any more
    from wattveil.fleet import amqtt_broker

    amqtt_broker.main(*sys.argv[1:])
