"""The eight Fair Information Practice Principles that CPUC D.11-07-056 builds on, as Westrich,
section 8.2, reports them; the decision itself was not read. docs/FIPP_MAP.md says more.

what: what the gateway does for it. kinds: the log's entries that are evidence of it.
limits: what it does not do, which somebody else has to.
"""

from __future__ import annotations

from typing import NamedTuple


class Principle(NamedTuple):
    """One principle."""

    name: str
    asks: str
    what: str
    kinds: tuple[str, ...]
    limits: str


PRINCIPLES = (
    Principle(
        "Transparency",
        "Customers can know what is done with their data, by whom and why.",
        "Every answer states its epsilon, whom it protects and its log entry; each customer can "
        "have a report of every answer the own data went into.",
        ("release", "report"),
        "The notice that customers get is the utility's to write.",
    ),
    Principle(
        "Individual Participation",
        "Customers see their own data, and consent to other uses or do not.",
        "Own data as Green Button XML, consent with its history, own report.",
        ("consent", "report"),
        "A disputed reading is corrected in the metering system, then ingested again.",
    ),
    Principle(
        "Purpose Specification",
        "Each use has a purpose that was named before.",
        "No request without a purpose of the list in config.toml; the decision and the rule are "
        "logged before anything is read.",
        ("decision",),
        "Whether the purpose named is the true one is beyond a program.",
    ),
    Principle(
        "Data Minimization",
        "No more data, no finer and no longer than the purpose needs.",
        "Group minima, coarser time for secondary purposes, granular data deleted after the "
        "retention time, aggregates kept.",
        ("deletion", "anonymise"),
        "What the meters send in the first place is decided elsewhere.",
    ),
    Principle(
        "Use Limitation",
        "No use beyond the purpose.",
        "Only protected answers leave: differentially private ones charged to a ledger that is "
        "never refunded, or exact sums of large, even groups; refusals are logged with their rule.",
        ("spend", "release", "refusal"),
        "What happens to an answer that was handed out is a matter of contract.",
    ),
    Principle(
        "Data Quality and Integrity",
        "Data are accurate and complete.",
        "Rejected lines are reported with their reason; sealed rows are bound to pseudonym, day and "
        "version, so that none can be changed, swapped or put back; noise is in answers only.",
        ("ingest",),
        "Accuracy of the meter itself.",
    ),
    Principle(
        "Security",
        "Data are protected from loss and from unauthorised eyes.",
        "AES-GCM at rest, identities in a store of their own under another key, key rotation, each "
        "person authenticated with a secret of the own, raw series of a home linked again by two "
        "persons of two roles only.",
        ("vault", "key", "role", "approval"),
        "The machine, its operator and its back-ups are trusted: docs/THREAT_MODEL.md.",
    ),
    Principle(
        "Accountability and Auditing",
        "Whoever holds the data can show that the rules were kept.",
        "This log: a Merkle tree with signed heads and a witness, checked by a script of its own; "
        "alarms for the privacy officer; this report.",
        ("alarm", "alarm-seen", "approval", "budget", "report"),
        "A witness kept by somebody else, and somebody who looks at the alarms.",
    ),
)
