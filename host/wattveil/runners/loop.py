"""The loop of a role in a process of its own: one thread over sockets and meter links."""

from __future__ import annotations

import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from wattveil.links import LinkDown
from wattveil.roles.common import Role
from wattveil.roles.effects import Again, Debit, Effect
from wattveil.runners.ends import BACK_OFF_S, DialEnd, Hub, MeterLink, PortEnd
from wattveil.runners.host import Changes, apply
from wattveil.runners.sockets import Closed, Connection, accept, connect, listen
from wattveil.runners.tls import Tls

TURN_S = 0.2  # longest wait of the loop
TICK_S = 0.25
REOPEN_S = 1.0  # between tries to open an unplugged port
PSEUDO_TERMINALS = "/dev/pts/"
TOGETHER = 512  # frames whose effects are one transaction, at most
TOGETHER_S = 0.05  # and the longest the first of them waits for the others
STRANGERS = 32  # connections; beyond, the oldest stranger goes

log = logging.getLogger("wattveil.runner")


class Runner:
    """Drives one role until `stop`."""

    def __init__(
        self,
        role: Role,
        store: Changes,
        open_link: Callable[[str], MeterLink],
        tls: Tls | None = None,
    ) -> None:
        self.role = role
        self._tls = tls  # of TCP connections
        self._store = store
        self._open_link = open_link
        self._selector = selectors.DefaultSelector()
        self._strangers: dict[str, Connection] = {}
        self._dials: dict[str, DialEnd] = {}
        self._ports: dict[str, PortEnd] = {}
        self._hub: Hub | None = None
        self._server: socket.socket | None = None
        self._accepted = 0
        self._gathered: list[Effect] = []
        self._frames = 0  # that they are of
        self._since = 0.0  # when the first of them came
        self._committing = False
        self._stop = False
        self.refused_connections = 0

    def listen(self, address: str) -> None:
        """Take connections at this address. OSError, ValueError."""
        self._server = listen(address)
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)

    def dial(self, name: str, address: str) -> None:
        """Connect to a peer, again and again."""
        self._dials[name] = DialEnd(name, address)

    def attach(self, port: str) -> None:
        """Open a meter's port, again and again; attaching it twice is fine."""
        self._ports.setdefault(f"port:{port}", PortEnd(port))

    def detach(self, port: str) -> None:
        """Let a meter's port go, for good; one that is not attached is fine."""
        if end := self._ports.pop(f"port:{port}", None):
            self._close_port(end)

    def join(self, hub: Hub) -> None:
        """Serve the meters behind a hub; their peer names begin with mqtt:."""
        self._hub = hub
        self.watch(hub.fileno(), lambda: self._read_hub(hub))

    def status(self) -> dict[str, Any]:
        """The role's words, and the hub's."""
        return self.role.status() | ({"broker": self._hub.status()} if self._hub else {})

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back when `fd` can be read. OSError, PermissionError for a regular file."""
        self._selector.register(fd, selectors.EVENT_READ, lambda _: callback())

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        self._selector.unregister(fd)

    def stop(self) -> None:
        """End `run` after this turn; safe in a signal handler."""
        self._stop = True

    def act(self, act: Callable[[], Sequence[Effect]]) -> None:
        """Have the role do something, and carry out what that has for effects."""
        self.carry_out(act())

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Carry out effects of the role, after those of all frames before."""
        self._gathered += effects
        self._commit()

    def _receive(self, peer: str, frame: bytes) -> bool:
        """Hand the role a frame; whether it had any effect.

        What is to be stored and sent waits for the end of the turn, so that all its frames share
        one transaction: waiting for the disk is most of what a single frame costs.
        """
        effects = self.role.receive(peer, frame)
        now = time.monotonic()
        if not self._gathered:
            self._since, self._frames = now, 0
        self._gathered += effects
        self._frames += 1
        # What a role does next may hang on an Again or a Debit: it has to be over before that.
        held = any(isinstance(effect, (Again, Debit)) for effect in effects)
        if held or self._frames >= TOGETHER or now - self._since >= TOGETHER_S:
            self._commit()
        return bool(effects)

    def _commit(self) -> None:
        if self._committing:  # a send lost its connection: the loop below goes on with that
            return
        self._committing = True
        try:
            while self._gathered:
                effects, self._gathered = self._gathered, []
                apply(self.role, self._store, effects, self._send)
        finally:
            self._committing = False

    def run(self) -> None:
        """The loop."""
        ticked = -TICK_S
        try:
            while not self._stop:
                now = time.monotonic()
                self._keep_up(now)
                if now - ticked >= TICK_S:
                    ticked = now
                    self.act(self.role.tick)
                    if self._hub is not None:
                        self._hub.tick()
                for key, events in self._selector.select(TURN_S):
                    # A callback before this one may have closed what this one is about.
                    if self._selector.get_map().get(key.fd) is key:
                        key.data(events)
                for port in self._ports.values():
                    if port.link is not None and port.fd < 0:
                        self._read_port(port)
                self._commit()
        finally:
            self.close()

    def close(self) -> None:
        """Close everything."""
        for connection in [*self._strangers.values()]:
            connection.close()
        for dial in self._dials.values():
            if dial.connection is not None:
                dial.connection.close()
            if dial.pending is not None:
                dial.pending.close()
        for port in self._ports.values():
            if port.link is not None:
                port.link.close()
        if self._hub is not None:
            self._hub.close()
        if self._server is not None:
            self._server.close()
        self._selector.close()

    # --- sending --------------------------------------------------------------------------------

    def _send(self, peer: str, frame: bytes) -> None:
        """A frame for a link that is gone is lost, as on any line."""
        if (port := self._ports.get(peer)) is not None:
            if port.link is not None:
                try:
                    port.link.write(frame)
                    self._watch_port(port)
                except (OSError, LinkDown) as error:
                    self._lose_port(port, error)
            return
        dial = self._dials.get(peer)
        connection = dial.connection if dial else self._strangers.get(peer)
        if connection is not None:
            try:
                connection.write(frame)
                self._watch_writes(connection)
            except Closed as closed:
                self._lose(connection, closed)
        elif self._hub is not None and peer.startswith("mqtt:"):
            self._hub.write(peer, frame)

    def _read_hub(self, hub: Hub) -> None:
        for peer, frame in hub.read():
            self._receive(peer, frame)

    def _watch_writes(self, connection: Connection) -> None:
        events = selectors.EVENT_READ
        if connection.wants_write:
            events |= selectors.EVENT_WRITE
        key = self._selector.get_key(connection.sock)
        if key.events != events:
            self._selector.modify(connection.sock, events, key.data)

    # --- connections ----------------------------------------------------------------------------

    def _accept(self, events: int) -> None:
        assert self._server is not None
        try:
            sock = accept(self._server)
        except OSError:  # gone again, or out of descriptors: others still work
            self.refused_connections += 1
            return
        if len(self._strangers) >= STRANGERS:
            unknown = [c for c in self._strangers.values() if not c.known]
            if not unknown:
                sock.close()
                self.refused_connections += 1
                return
            self._lose(unknown[0], Closed("too many connections"))
        self._accepted += 1
        name = f"in:{self._accepted}"
        if self._tls is not None and self._tls.serves and sock.family != socket.AF_UNIX:
            connection = self._tls.accepted(sock, name)
        else:
            connection = Connection(sock, name)
        self._strangers[connection.name] = connection
        self._register(connection)

    def _register(self, connection: Connection) -> None:
        def ready(events: int) -> None:
            self._ready(connection, events)

        self._selector.register(connection.sock, selectors.EVENT_READ, ready)

    def _ready(self, connection: Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                connection.flush()
                self._watch_writes(connection)
            if not events & selectors.EVENT_READ:
                return
            for frame in connection.read():
                # strangers get no effects, not even an answer
                connection.known |= self._receive(connection.name, frame)
                if connection.name in self._dials:  # it talks: after a loss we may try soon again
                    self._dials[connection.name].wait = BACK_OFF_S[0]
                    self._dials[connection.name].told = False
            if connection.sock.fileno() >= 0:
                self._watch_writes(connection)
        except Closed as closed:
            self._lose(connection, closed)

    def _lose(self, connection: Connection, why: Closed) -> None:
        if connection.sock.fileno() < 0:
            return
        log.debug("%s: %s", connection.name, why)
        self._selector.unregister(connection.sock)
        connection.close()
        self._strangers.pop(connection.name, None)
        dial = self._dials.get(connection.name)
        if dial is not None:
            self._retry(dial, str(why))
            dial.connection = None
            self.act(lambda: self.role.linked(dial.name, False))

    def _retry(self, dial: DialEnd, why: str) -> None:
        if not dial.told:  # once, not at every try
            log.warning("%s at %s: %s; trying again", dial.name, dial.address, why)
            dial.told = True
        dial.next_try = time.monotonic() + dial.wait
        dial.wait = min(2 * dial.wait, BACK_OFF_S[1])

    def _keep_up(self, now: float) -> None:
        """Connect, open and drop what it is time for."""
        for connection in [c for c in self._strangers.values() if c.stale(now)]:
            self._lose(connection, Closed("too slow"))
        for dial in self._dials.values():
            if dial.connection is None and dial.pending is None and now >= dial.next_try:
                self._connect(dial)
        for port in self._ports.values():
            if port.link is None and now >= port.next_try:
                self._open_port(port, now)

    def _connect(self, dial: DialEnd) -> None:
        def ready(events: int) -> None:
            self._connected(dial)

        try:
            dial.pending = connect(dial.address)
        except OSError as error:
            self._retry(dial, error.strerror or str(error))
            return
        self._selector.register(dial.pending, selectors.EVENT_WRITE, ready)

    def _connected(self, dial: DialEnd) -> None:
        sock, dial.pending = dial.pending, None
        assert sock is not None
        self._selector.unregister(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            sock.close()
            self._retry(dial, os.strerror(error))
            return
        if self._tls is not None and sock.family != socket.AF_UNIX:
            dial.connection = self._tls.dialled(sock, dial.name)
        else:
            dial.connection = Connection(sock, dial.name, known=True)
        self._register(dial.connection)
        try:
            dial.connection.flush()  # TLS has something to say first
        except Closed as closed:
            self._lose(dial.connection, closed)
            return
        self.act(lambda: self.role.linked(dial.name, True))

    # --- meters' ports --------------------------------------------------------------------------

    def _open_port(self, port: PortEnd, now: float) -> None:
        port.next_try = now + REOPEN_S
        try:
            port.link = self._open_link(port.port)
            fd = port.link.fileno()
        except (OSError, ValueError, LinkDown) as error:
            port.link = None
            if not port.told:  # once, not every second
                log.warning("%s: %s; trying again", port.name, error)
            port.told = True
            return

        def ready(events: int) -> None:
            self._read_port(port)

        port.fd = fd
        if fd >= 0:
            self._selector.register(fd, selectors.EVENT_READ, ready)
        port.told = False
        log.info("%s: open", port.name)

    def _read_port(self, port: PortEnd) -> None:
        if port.link is None:
            return
        try:
            frames = port.link.read()  # sends what waits, too
            self._watch_port(port)
        except (OSError, LinkDown) as error:
            self._lose_port(port, error)
            return
        for frame in frames:
            self._receive(port.name, frame)

    def _watch_port(self, port: PortEnd) -> None:
        events = selectors.EVENT_READ
        if port.link is not None and port.link.pending:
            events |= selectors.EVENT_WRITE
        if port.fd >= 0:
            key = self._selector.get_key(port.fd)
            if key.events != events:
                self._selector.modify(port.fd, events, key.data)

    def _lose_port(self, port: PortEnd, error: Exception) -> None:
        if port.port.startswith(PSEUDO_TERMINALS):  # its name may be another program's next
            log.warning("%s: %s; a pseudo-terminal does not come back", port.name, error)
            port.next_try = math.inf
        else:
            log.warning("%s: %s; trying again", port.name, error)
            port.told = True
            port.next_try = time.monotonic() + REOPEN_S
        self._close_port(port)

    def _close_port(self, port: PortEnd) -> None:
        link, port.link = port.link, None
        fd, port.fd = port.fd, -1
        if fd >= 0:
            self._selector.unregister(fd)
        if link is not None:
            link.close()
