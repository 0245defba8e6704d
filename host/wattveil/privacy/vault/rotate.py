"""Rotation: new pseudonyms from a day on, new keys; and the way back from one epoch to another.

Each ends with one transaction on gateway.db, which also enters it in the log. Before it nothing has
changed that anybody reads; after it the rest (old key files, rows under old data keys) is finished
by the next process that writes, or by running the command again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from cryptography.exceptions import InvalidTag

from wattveil.privacy.contracts import Json
from wattveil.privacy.vault.catalogue import first_of_month
from wattveil.privacy.vault.identities import pseudonym_of
from wattveil.privacy.vault.keys import KEPT, current_kek
from wattveil.privacy.vault.seal import Plain, seal, unseal
from wattveil.privacy.vault.vault import Vault, VaultDamaged, as_bytes, epoch_key, key_check

_MEMBERS = 500  # whose rows are sealed anew at once
Progress = Callable[[int, int], None]


def rotate_pseudonyms(vault: Vault, first_day: int | None = None) -> Json:
    """Begin an epoch: everybody gets a new pseudonym from a UTC day on. ValueError.

    first_day: the day after the newest one that has readings, unless given; not before it, since
    readings that have left under a pseudonym cannot be called back.
    """
    with vault.writing():
        catalogue = vault.catalogue
        newest, begins = catalogue.epochs()[-1]
        days = catalogue.days()
        earliest = max(days[-1][0] + 1 if days else 0, begins + 1)
        first_day = earliest if first_day is None else first_day
        if first_day < earliest:
            raise ValueError(
                f"the epoch can begin at {np.datetime64(earliest, 'D')} at the earliest: the days "
                "before have readings under the present pseudonyms"
            )
        epoch = newest + 1
        key = vault.state.key(epoch_key(epoch))
        meters = vault.identities.meters()
        names = {meter: pseudonym_of(key, meter) for meter in meters}
        vault.identities.name(epoch, names)
        with vault.state.transaction() as db:
            db.execute(
                "INSERT INTO vault_epochs VALUES(?,?,?)", (epoch, first_day, key_check(key))
            )
            catalogue.join(epoch, ((names[m], known.segment) for m, known in meters.items()))
            since = str(np.datetime64(first_day, "D"))
            body = {"event": "pseudonyms rotated", "epoch": epoch, "from": since}
            vault.state.log().append("key", body)
    return {"epoch": epoch, "from": since, "meters": len(names)}


def rotate_keys(
    vault: Vault, progress: Progress = lambda done, of: None, *, data: bool = False
) -> Json:
    """A new key-encryption key; with `data` new data keys, too, and all rows sealed anew."""
    with vault.writing():
        old = current_kek(vault.catalogue.db)
        with vault.state.transaction() as db:
            db.execute("PRAGMA secure_delete=ON")
            wrapped = vault.keys.rewrap(db, old + 1)
            vault.state.log().append(
                "key",
                {"event": "key-encryption key rotated", "number": old + 1, "wrapped": wrapped},
            )
        vault.keys.remove_old_files()
        data = data or bool(vault.catalogue.value("rotating"))  # begun and not ended
        resealed = _reseal(vault, progress) if data else 0
    return {"key_encryption_key": old + 1, "data_keys": wrapped, "rows_sealed_anew": resealed}


def _reseal(vault: Vault, progress: Progress) -> int:
    """Every row under a new data key of its month, then the old ones are destroyed.

    A row stays readable throughout: it names its key. After a crash the next run goes on with the
    keys that were drawn: only months whose newest key is not being rotated to get another.
    """
    catalogue = vault.catalogue
    with vault.state.transaction() as db:
        fresh = catalogue.value("rotating")  # keys up to this id are to go
        if not fresh:
            (fresh,) = db.execute("SELECT max(id) FROM vault_keys").fetchone()
            catalogue.put("rotating", fresh)
            months = db.execute(
                "SELECT DISTINCT month FROM vault_keys WHERE wrapped IS NOT NULL AND month<>?",
                (KEPT,),
            ).fetchall()
            for (month,) in months:
                vault.keys.draw(db, month)
    members = [(e, p) for e, _ in catalogue.epochs() for p in catalogue.members(e, {})]
    done = 0
    for at in range(0, len(members), _MEMBERS):
        progress(at, len(members))
        done += _reseal_some(vault, members[at : at + _MEMBERS], fresh)
    with vault.state.transaction() as db:
        db.execute("PRAGMA secure_delete=ON")
        gone = db.execute(
            "UPDATE vault_keys SET wrapped=NULL WHERE id<=? AND month<>? AND wrapped IS NOT NULL",
            (fresh, KEPT),
        ).rowcount
        catalogue.put("rotating", 0)
        vault.state.log().append(
            "key", {"event": "data keys rotated", "destroyed": gone, "rows": done}
        )
    return done


def _reseal_some(vault: Vault, members: list[tuple[int, bytes]], fresh: int) -> int:
    """The rows of these members that are under a key up to `fresh`. VaultDamaged."""
    epochs = {pseudonym: epoch for epoch, pseudonym in members}
    ciphers = vault.keys.ciphers()
    months = dict(
        vault.catalogue.db.execute(
            "SELECT month, max(id) FROM vault_keys WHERE wrapped IS NOT NULL GROUP BY month"
        )
    )
    done = 0
    for month, key in months.items():
        if month == KEPT:
            continue
        first, last = first_of_month(month), first_of_month(month + 1)
        names = sorted(epochs)
        versions = vault.catalogue.versions(names, first, last)
        index = {pseudonym: i for i, pseudonym in enumerate(names)}
        rows = []
        for row in vault.usage.read(names, first, last):
            version = int(versions[index[row[0]], row[1] - first])
            if version and row[2] <= fresh:
                try:
                    wh = unseal(row, epochs[row[0]], version, ciphers)
                except (InvalidTag, KeyError):
                    raise VaultDamaged(
                        "a row does not open, so its key cannot be rotated: restore the usage store"
                    ) from None
                rows.append(Plain(row[0], row[1], epochs[row[0]], key, version, wh))
        if rows:
            vault.usage.write(sorted(seal(rows, ciphers)))
            done += len(rows)
    return done


def relink(vault: Vault, pseudonym: str, epoch: int) -> str:
    """The pseudonym that the same meter has in another epoch. The caller saw to the two roles.

    ValueError for one that nobody has.
    """
    owner = vault.identities.owners([as_bytes(pseudonym)]).get(as_bytes(pseudonym))
    other = vault.pseudonyms_of(owner[0]).get(epoch) if owner else None
    if other is None:
        raise ValueError("nobody has this pseudonym, or the meter is not in that epoch")
    return other
