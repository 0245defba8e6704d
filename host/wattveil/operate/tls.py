"""`wattveil tls`: the certificates by which roles know each other on the network.

The authority's key stays in FLEET/authority, on the provisioning machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from cryptography import x509

from wattveil.fleet.certificates import Authority, write_new
from wattveil.roles.folders import load_json, load_record
from wattveil.runners.tls import CLIENT, FOLDER

ROLES = ("center", "cloud", "dealer")
REVOKED = "revoked.json"


def options(parse: argparse.ArgumentParser) -> None:
    """The sub-commands and their options."""
    commands = parse.add_subparsers(required=True, metavar="ACTION")
    issue = commands.add_parser("issue", help="new certificates for roles that have none")
    revoke = commands.add_parser("revoke", help="trust a role's certificate no more, make another")
    for action, run in ((issue, _issue), (revoke, _revoke)):
        action.add_argument("fleet", type=Path, help="a fleet's folder, from wattveil keygen")
        action.add_argument("--days", type=int, default=825, help="that new certificates are good")
        action.set_defaults(action=run)
    revoke.add_argument("role", choices=ROLES)


def run(arguments: argparse.Namespace) -> int:
    """Carry out one; the exit status."""
    status: int = arguments.action(arguments)
    return status


def issue(root: Path, days: int) -> list[str]:
    """Certificates for the roles whose folders are here and have none; their names."""
    home = root / "authority"
    if home.exists():
        authority = Authority.load(home)
    else:
        authority = Authority.create(load_record(root / "cloud")[0].fleet)
        authority.save(home)
    made = []
    for role in ROLES:
        folder = root / role / FOLDER
        if not (root / role).is_dir() or folder.exists():
            continue
        issued = authority.device(role, days) if role == CLIENT else authority.server([role], days)
        folder.mkdir(mode=0o700)
        write_new(folder / "role.key", issued.key, 0o600)
        write_new(folder / "role.pem", issued.certificate, 0o644)
        write_new(folder / "ca.pem", authority.pem, 0o644)
        made.append(role)
    _spread(root)
    return made


def _spread(root: Path) -> None:
    """The list of what is revoked, into every role's folder; without any there is none."""
    crl = root / "authority" / "crl.pem"
    for role in ROLES:
        if crl.exists() and (root / role / FOLDER).is_dir():
            shutil.copyfile(crl, root / role / FOLDER / "crl.pem")


def revoke(root: Path, role: str, days: int) -> None:
    """Revoke the role's certificate and make another."""
    home, folder = root / "authority", root / role / FOLDER
    authority = Authority.load(home)
    certificate = x509.load_pem_x509_certificate((folder / "role.pem").read_bytes())
    known = load_json(home / REVOKED)["serials"] if (home / REVOKED).exists() else []
    serials = [*known, certificate.serial_number]
    (home / REVOKED).write_text(json.dumps({"serials": serials}) + "\n")
    (home / "crl.pem").write_bytes(authority.revocations(serials))
    shutil.rmtree(folder)
    issue(root, days)


def _issue(arguments: argparse.Namespace) -> int:
    made = issue(arguments.fleet, arguments.days)
    print(f"certificates for {', '.join(made) or 'nobody: all have one'}, {arguments.days} days")
    print(f"authority in {arguments.fleet / 'authority'}: ca.key stays here, and nowhere else")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    revoke(arguments.fleet, arguments.role, arguments.days)
    print(f"revoked; {arguments.role} has a new one. Bring tls/ to every role and send SIGHUP")
    return 0
