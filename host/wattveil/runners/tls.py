"""Mutual TLS between roles on tcp: addresses, under the fleet's own authority and no other.

Each end shows a certificate and wants to see the other's name in it: centre and dealer let nobody
in but "cloud", the cloud talks to "center" and "dealer" only. Frames are encrypted and MACed
besides, with the link keys: who breaks one still has the other before him.

A role's folder holds tls/ca.pem, tls/role.pem, tls/role.key and, once something was revoked,
tls/crl.pem (`wattveil tls`).
"""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from typing import Any

from wattveil.roles.common import ConfigError
from wattveil.runners.sockets import READ, STRANGER_S, Closed, Connection

FOLDER = "tls"
FILES = ("ca.pem", "role.pem", "role.key")
CLIENT = "cloud"  # the only role that connects


class Tls:
    """What one role needs for its connections."""

    def __init__(self, folder: Path, serves: bool) -> None:
        """From a role's tls folder; ConfigError. serves: also what comes in has to be TLS."""
        self.serves = serves
        self._server = _context(ssl.PROTOCOL_TLS_SERVER, folder)
        self._server.verify_mode = ssl.CERT_REQUIRED
        self._client = _context(ssl.PROTOCOL_TLS_CLIENT, folder)

    def accepted(self, sock: socket.socket, name: str) -> Connection:
        """A connection that came in: only the cloud's."""
        wrapped = self._server.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return SecureConnection(wrapped, name, CLIENT)

    def dialled(self, sock: socket.socket, name: str) -> Connection:
        """A connection to the role of this name."""
        wrapped = self._client.wrap_socket(
            sock, do_handshake_on_connect=False, server_hostname=name
        )
        return SecureConnection(wrapped, name, None)


def _context(protocol: int, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    for name in FILES:
        if not (folder / name).is_file():
            raise ConfigError(f"{folder / name} is missing: wattveil tls issue makes it")
    if (folder / "role.key").stat().st_mode & 0o077:
        raise ConfigError(f"{folder / 'role.key'}: open to other users; chmod 600")
    try:
        context.load_cert_chain(folder / "role.pem", folder / "role.key")
        context.load_verify_locations(folder / "ca.pem")
        if (folder / "crl.pem").exists():
            context.load_verify_locations(folder / "crl.pem")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    return context


class SecureConnection(Connection):
    """A Connection whose bytes go through TLS; nothing is sent before the peer has shown who it is."""

    def __init__(self, sock: ssl.SSLSocket, name: str, client: str | None) -> None:
        """client: the name a client must have; None where we are the client."""
        super().__init__(sock, name, known=client is None)
        self._tls = sock
        self._client = client
        self._began = time.monotonic()
        self._ready = False
        self._blocked = False  # TLS itself has something to write

    @property
    def wants_write(self) -> bool:
        """Whether there is something left to send."""
        return self._blocked or (self._ready and super().wants_write)

    def _handshake(self) -> bool:
        if not self._ready:
            self._blocked = False
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except ssl.SSLWantWriteError:
                self._blocked = True
                return False
            if self._client is not None and self._client not in _names(self._tls):
                raise Closed("a certificate of somebody else")
            self._ready = True
        return True

    def _receive(self) -> bytes | None:
        if not self._handshake():
            return None
        self.flush()  # what waited for the handshake
        try:
            data = self._tls.recv(READ)
            while self._tls.pending():
                data += self._tls.recv(READ)
            return data
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def _transmit(self) -> int:
        try:
            return self._tls.send(self._out)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def flush(self) -> None:
        """Send what the socket takes, once the peer has shown who it is; Closed."""
        try:
            ready = self._handshake()
        except OSError as error:
            raise Closed(error.strerror or "lost") from None
        if ready:
            super().flush()

    def stale(self, now: float) -> bool:
        """A stranger that takes too long over its handshake or its frame."""
        return super().stale(now) or (not self._ready and now - self._began > STRANGER_S)


def _names(sock: ssl.SSLSocket) -> set[str]:
    """The common names in the peer's certificate."""
    found: Any = (sock.getpeercert() or {}).get("subject", ())
    return {value for part in found for key, value in part if key == "commonName"}
