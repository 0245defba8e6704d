"""`wattveil gateway serve` as a process: loopback, TLS, mutual TLS, and what it will not do."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from doorsworld import Folder
from wattveil import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("serve"))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    secret.chmod(0o600)
    return cert, secret


@contextlib.contextmanager
def served(folder: Folder, *more: object) -> Iterator[str]:
    """The server's URL; ended as an operator would, with exit code 0 or that of an interrupt."""
    command = [
        sys.executable,
        "-m",
        "wattveil",
        "gateway",
        "serve",
        "--port",
        "0",
        *map(str, more),
    ]
    with subprocess.Popen(
        [*command, "--state-dir", str(folder.state.path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdout and process.stderr
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            process.wait(240)
    assert not any(token in said for token in folder.tokens.values()), said
    assert "Traceback" not in said, said


def token(url: str, folder: Folder, context: ssl.SSLContext | None = None) -> int:
    form = {
        "grant_type": "client_credentials",
        "client_id": "analyst:ann",
        "client_secret": folder.tokens["analyst:ann"] + "\n",
    }
    request = urllib.request.Request(f"{url}oauth/token", urlencode(form).encode())
    with urllib.request.urlopen(request, timeout=240, context=context) as answer:
        assert b"access_token" in answer.read()
        return int(answer.status)


def test_serves_on_loopback(folder: Folder) -> None:
    with served(folder) as url:
        assert url.startswith("http://127.0.0.1:") and token(url, folder) == 200


def test_serves_with_mutual_tls(folder: Folder, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    tls = ("--tls-cert", cert, "--tls-key", key, "--client-ca", cert)
    with served(folder, *tls) as url:
        assert url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            token(url, folder, context)
        context.load_cert_chain(cert, key)
        assert token(url, folder, context) == 200


def test_shows_itself_to_no_network_without_tls(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serve = ["gateway", "serve", "--state-dir", str(folder.state.path)]
    assert cli.main([*serve, "--host", "0.0.0.0"]) == 2
    assert "--tls-cert" in capsys.readouterr().err
    cert, key = certificate(tmp_path)
    key.chmod(0o644)
    assert cli.main([*serve, "--tls-cert", str(cert), "--tls-key", str(key)]) == 2
    assert "chmod 600" in capsys.readouterr().err
    assert cli.main([*serve, "--client-ca", str(cert)]) == 2
