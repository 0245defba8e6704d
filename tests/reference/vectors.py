"""Makes docs/vectors/*.json. Every value follows from the labels in the `make_*` modules, so runs are
identical; `inputs` says how values are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from reference import make_cipher, make_compact, make_frames, make_period, make_record
from reference.inputs import Json

FORMAT = "wattveil vectors 1"
FILES: dict[str, Callable[[], list[Json]]] = {
    "closing": make_period.make_closing,
    "compact": make_compact.make_compact,
    "drbg": make_cipher.make_drbg,
    "fields": make_record.make_fields,
    "frames": make_frames.make_frames,
    "group": make_cipher.make_group,
    "noise": make_cipher.make_noise,
    "prf": make_cipher.make_prf,
    "ratchet": make_cipher.make_ratchet,
    "record": make_record.make_record,
    "registration": make_period.make_registration,
    "slot": make_period.make_slot,
    "stuffing": make_frames.make_stuffing,
    "table": make_cipher.make_table,
}


def make_all() -> dict[str, str]:
    """File name -> contents."""
    out = {}
    for name, make in FILES.items():
        document = {"format": FORMAT, "file": name, "vectors": make()}
        out[f"{name}.json"] = json.dumps(document, indent=1) + "\n"
    return out


def write(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    made = make_all()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return sorted(made)
