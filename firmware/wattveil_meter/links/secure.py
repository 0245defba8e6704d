"""A TLS connection to one server that never waits for the network, except to look a name up.

Sockets do not block, and a TLS handshake goes on in as many calls as it takes, so that one call costs
at most the arithmetic of one handshake message. Only certificates of the given authorities count,
and there is no way to connect without checking.
"""

import errno
import gc
import select
import socket
import time

from wattveil_meter.links.mqtt_packets import Lost

try:
    import tls
except ImportError:  # CPython
    import ssl as tls

READ_PIECE = 512  # bytes; MicroPython allocates as many for each read
WRITE_PIECE = 1024
# 119 and 118: what ESP32 says instead of EINPROGRESS and EALREADY (as mqtt_as knows)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN, 119, 118)
_RESET = (errno.ECONNRESET, 32)  # 32: EPIPE, which boards have no name for
_CPYTHON = tls.__name__ == "ssl"


def read_file(name):
    """The bytes of a file; OSError."""
    with open(name, "rb") as file:
        return file.read()


def trusting(authorities, certificate=None, key=None):
    """A TLS context; OSError, ValueError.

    authorities: names of DER files. certificate, key: our own, names of DER files, or of PEM files
    on CPython.
    """
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED  # pyright: ignore[reportAttributeAccessIssue]
    for name in authorities:
        if _CPYTHON:
            context.load_verify_locations(cadata=read_file(name))
        else:
            context.load_verify_locations(read_file(name))
    if certificate is not None:
        if _CPYTHON:
            context.load_cert_chain(certificate, key)
        else:
            context.load_cert_chain(read_file(certificate), read_file(key))
    return context


class SecureSocket:
    """One connection after the other to host:port.

    context: of `trusting`; host: the name its certificate must have; address: where it is, instead
    of looking the name up. Everything may raise Lost, by name; `close` is then up to the caller.
    """

    def __init__(self, context, host, port, address=None):
        self._context = context
        self._host = host
        self._where = (address or host, port)
        self._found = []  # addresses not tried yet; looked up again when all have failed
        self._poll = select.poll()
        self._sock = self._tls = None
        self._recv = self._send = lambda _: None
        self._unsent = b""

    @property
    def is_open(self):
        """Whether there is a connection, or one under way."""
        return self._sock is not None

    def open(self):
        """Begin to connect. On a board, looking up a name waits for the DNS server: some seconds."""
        try:
            if not self._found:
                self._found = list(socket.getaddrinfo(*self._where, 0, socket.SOCK_STREAM))
            found = self._found.pop(0)
        except (OSError, IndexError):
            raise Lost("name")
        try:
            sock = self._sock = socket.socket(found[0], found[1], found[2])
        except OSError:
            raise Lost("socket")
        sock.setblocking(False)
        self._poll.register(sock, select.POLLOUT)
        try:
            sock.connect(found[-1])
        except OSError as error:
            if error.errno not in _UNDER_WAY:
                raise Lost("connect")
        self._trying = found

    def connected(self):
        """Whether the connection stands; the TLS handshake follows with the first bytes."""
        if self._tls is not None:
            return True
        events = self._poll.poll(0)
        if not events:
            return False
        if events[0][1] & (select.POLLERR | select.POLLHUP):
            raise Lost("connect")
        self._found.insert(0, self._trying)  # it answers
        self._poll.unregister(self._sock)
        gc.collect()  # on an RP2040 TLS takes two buffers of 16 and 4 KiB out of this heap
        try:
            stream = self._context.wrap_socket(
                self._sock, server_hostname=self._host, do_handshake_on_connect=False
            )
        except (OSError, ValueError):
            raise Lost("tls")
        self._tls = stream
        self._recv = stream.recv if _CPYTHON else stream.read
        self._send = stream.send if _CPYTHON else stream.write
        self._poll.register(stream, select.POLLIN)
        return True

    def read(self, steady):
        """Bytes that have come, None when none have. steady: the server has shown who it is."""
        try:
            data = self._recv(READ_PIECE)
        except (OSError, ValueError) as error:
            return self._failed(error, steady)
        if data == b"":
            raise Lost("closed")
        return data

    def write(self, data, steady):
        """Send bytes; what is not taken yet, to be given again with more behind it, nothing before."""
        while self._unsent or data:
            if not self._unsent:  # TLS wants the very same bytes again until it has taken them
                self._unsent = data[:WRITE_PIECE]
                data = data[WRITE_PIECE:]
            try:
                sent = self._send(self._unsent)
            except (OSError, ValueError) as error:
                sent = self._failed(error, steady)
            if not sent:
                break
            self._unsent = self._unsent[sent:]
        return data

    @property
    def unsent(self):
        """Whether bytes taken by `write` have not gone out yet."""
        return bool(self._unsent)

    def wait(self, ms):
        """Wait for something to happen, `ms` at most."""
        if self._sock is None:
            time.sleep(ms / 1000)
        else:
            self._poll.poll(ms)

    def close(self):
        """Give the socket back; more than once is harmless."""
        streams = [stream for stream in (self._tls, self._sock) if stream is not None]
        if streams:
            try:
                self._poll.unregister(streams[0])
            except (OSError, KeyError):
                pass  # it was not registered yet
        for stream in streams:
            try:
                stream.close()
            except OSError:
                pass
        self._sock = self._tls = None
        self._recv = self._send = lambda _: None
        self._unsent = b""

    def _failed(self, error, steady):
        """None if the error says: not now. Else Lost; at first mostly a certificate nobody trusts."""
        if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):  # CPython
            return None
        code = error.errno if isinstance(error, OSError) else 0
        if code in _UNDER_WAY:
            return None
        raise Lost("closed" if steady or code in _RESET else "tls")
