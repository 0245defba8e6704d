"""A fleet's own certificates: one authority, known to every meter, and what it signs (X.509, P-256).

Meters trust this authority and no other, so that no public authority can vouch for a false broker.
Certificates are valid from the year 2000: a board without a clock begins somewhere between 2000
and 2021, and has to connect before it can learn the time. On such a board an end date means
nothing either; what ends a server's certificate there is another authority (docs/MQTT.md).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINNING = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
AUTHORITY_DAYS = 30 * 365
SERVER_DAYS = 825
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes

    def der(self) -> tuple[bytes, bytes]:
        """Certificate and key as DER: the form for boards."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        key = serialization.load_pem_private_key(self.key, None)
        plain = serialization.NoEncryption()
        encoded = key.private_bytes(_DER, serialization.PrivateFormat.TraditionalOpenSSL, plain)
        return certificate.public_bytes(_DER), encoded


class Authority:
    """The certificate authority of one fleet; its key never leaves the provisioning machine."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, fleet: bytes, what: str = "fleet") -> Authority:
        """A new one for the fleet (or what else) with this id."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"wattveil {what} {fleet.hex()}")
        builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(True, 0), True)
        builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(identifier, False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """From the files `save` wrote; OSError, ValueError."""
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / 'ca.key'}: not a key of this program")
        return cls(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()), key)

    def save(self, folder: Path) -> None:
        """Write ca.pem, ca.der and, for this user alone, ca.key; FileExistsError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(folder / "ca.key", _key_pem(self._key), 0o600)
        write_new(folder / "ca.pem", self.pem, 0o644)
        write_new(folder / "ca.der", self.der, 0o644)

    @property
    def pem(self) -> bytes:
        """The certificate that others are checked against."""
        return self._certificate.public_bytes(_PEM)

    @property
    def der(self) -> bytes:
        """The same for boards."""
        return self._certificate.public_bytes(_DER)

    def server(self, hosts: Sequence[str], days: int = SERVER_DAYS) -> Issued:
        """For a broker that clients reach by these names or addresses."""
        names: list[x509.GeneralName] = []
        for host in hosts:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        return self._issue(hosts[0], [ExtendedKeyUsageOID.SERVER_AUTH], days, names)

    def device(self, name: str, days: int = AUTHORITY_DAYS) -> Issued:
        """For a client, whose user name at the broker it carries as common name."""
        return self._issue(name, [ExtendedKeyUsageOID.CLIENT_AUTH], days, [])

    def node(self, name: str, days: int = SERVER_DAYS) -> Issued:
        """For a program that is client and server among its like."""
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue(name, both, days, [x509.DNSName(name)])

    def revocations(self, serials: Sequence[int]) -> bytes:
        """The list of certificates that are trusted no more, as PEM; good as long as ours is."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder(
            self._certificate.subject, BEGINNING, self._certificate.not_valid_after_utc
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def _issue(
        self,
        subject: str,
        purposes: Sequence[x509.ObjectIdentifier],
        days: int,
        names: Sequence[x509.GeneralName],
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate.subject
        builder = _builder(_name(subject), issuer, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        builder = builder.add_extension(_usage(digital_signature=True), True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(_PEM), _key_pem(key))


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a new file that never has wider access than `mode`; FileExistsError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINNING)
        .not_valid_after(end)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names.split()})


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain)
