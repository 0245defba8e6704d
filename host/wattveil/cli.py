"""The `wattveil` command. Exit codes: 0 done (a refusal the rules ask for included), 2 bad usage or
input, 1 anything else."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence

from wattveil import __version__
from wattveil.links import LinkDown
from wattveil.sealed import SealError
from wattveil.store import StoreError

ROLES = ("center", "cloud", "dealer")

# name, module with options(parser) and run(arguments), help
COMMANDS = (
    ("demo", "demo.command", "all roles and a whole fleet on this machine"),
    ("keygen", "demo.keygen", "make a fleet: keys, record, folders of all roles"),
    ("import", "importers.command", "other load files to the common CSV"),
    ("inspect", "inspect", "show what a key, record or fleet is; no secrets"),
    ("vectors", "vectors.command", "check protocol test vectors"),
    ("board", "boards.command", "real boards: flash, deploy, provision, doctor ..."),
    ("fleet", "fleet.command", "renew a fleet: its roster, its key"),
    ("broker", "fleet.mqtt_command", "accounts and certificates of a fleet's MQTT broker"),
    ("ledger", "operate.ledger", "what each household has spent of its epsilon"),
    ("status", "operate.status", "state, periods and refusals of running roles"),
    ("tls", "operate.tls", "certificates by which roles know each other"),
    ("meter", "operate.meters", "revoke a meter's keys, or give it new ones"),
    ("store", "operate.stores", "back up a role's store, put a back-up back"),
    ("feeders", "operate.feeders", "totals of a tree of feeders, each a fleet"),
    ("web", "web.command", "a live page of a fleet that runs; reads, never writes"),
    ("bench", "bench.command", "time it, with checked answers and ratios"),
    ("plan", "planning.command", "error and privacy cost to expect, before enrolling"),
    ("figures", "figures.command", "the paper's evaluation, done again here"),
    ("audit", "audit.command", "the privacy promise, attacked by programs"),
    ("gateway", "privacy.web.command", "the privacy gateway's API and pages"),
    ("vault", "privacy.vault.command", "readings, sealed; who is who kept apart"),
    ("query", "privacy.query.command", "ask about a group of homes, protected"),
    ("anonymise", "privacy.anonymise.command", "15/15 sums, k-anonymous records"),
    ("policy", "privacy.policy.command", "what the rules say to a request, and why"),
    ("role", "privacy.desk", "who may use the privacy gateway"),
    ("consent", "privacy.desk", "customers' consents and their history"),
    ("approve", "privacy.desk", "agree to what takes two persons"),
    ("budget", "privacy.desk", "what may be spent, what was, and alarms"),
    ("log", "privacy.log.command", "check the privacy gateway's log, report from it"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] and arguments[0] in ROLES:  # a parser of its own: see runners/process.py
        from wattveil.runners import process

        return process.main(arguments)
    try:
        parsed = parser(arguments[0] if arguments else "").parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = parsed.run
        for sign in (signal.SIGTERM, signal.SIGHUP):  # clean up as after Ctrl-C
            signal.signal(sign, _interrupt)
        return run(parsed)
    except ModuleNotFoundError as error:  # of an extra
        print(f"wattveil: this needs {error.name}: `make setup` brings all there is to bring, or "
              "see the extras in pyproject.toml", file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:
        print("wattveil: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`
        sys.stderr.close()
        return 1
    except (ValueError, FileExistsError) as error:  # what the user gave; includes DataError
        print(f"wattveil: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, StoreError, SealError, LinkDown) as error:
        print(f"wattveil: {error}", file=sys.stderr)
        return 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line but for the roles' options.

    only: the command that will be used; others are named without their options, so that their
    modules and libraries need not be there.
    """
    top = argparse.ArgumentParser(
        prog="wattveil",
        description="Smart meters whose single readings nobody can see, and their noisy totals.",
    )
    top.add_argument("--version", action="version", version=f"wattveil {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for role in ROLES:
        commands.add_parser(role, help=f"run the {role} of a fleet (wattveil {role} --help)")
    for name, where, text in COMMANDS:
        parse = commands.add_parser(name, help=text)
        if only in (None, name):
            module = importlib.import_module(f"wattveil.{where}")
            own = f"{name}_options"  # of a module with several commands
            getattr(module, own if hasattr(module, own) else "options")(parse)
            parse.set_defaults(run=module.run)
    return top


if __name__ == "__main__":
    sys.exit(main())
