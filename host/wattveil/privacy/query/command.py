"""`wattveil query`: ask about a group, see the error first, and get an answer with its band."""

from __future__ import annotations

import argparse

from wattveil.privacy.command import (
    add_common,
    add_person,
    add_purpose,
    answering,
    person_of,
    refusal,
)
from wattveil.privacy.contracts import Json
from wattveil.privacy.gateway import Gateway
from wattveil.privacy.query.ask import KINDS, make
from wattveil.privacy.refusals import Refused
from wattveil.privacy.state import State


def options(parse: argparse.ArgumentParser) -> None:
    """The command line's options."""
    parse.add_argument("kind", choices=KINDS)
    parse.add_argument("--from", dest="start", required=True, metavar="T",
                       help="ISO 8601 with an offset, or a date (its UTC midnight)")  # fmt: skip
    parse.add_argument("--to", dest="end", required=True, metavar="T", help="the end, exclusive")
    parse.add_argument("--segment", action="append", default=[], metavar="K=V",
                       help="tariff, region or type; repeatable; default: all meters")  # fmt: skip
    parse.add_argument("--technique", default="dp", metavar="NAME",
                       help="dp (default) or aggregate")  # fmt: skip
    parse.add_argument("--epsilon", metavar="E", help="what the answer costs each household")
    parse.add_argument(
        "--dp-delta", metavar="D", help="above 0: Gaussian instead of Laplace noise"
    )
    parse.add_argument("--clip", type=int, metavar="WH",
                       help="bound of one reading; default: the connection limit")  # fmt: skip
    parse.add_argument("--resolution", type=int, metavar="S",
                       help="seconds of a curve's steps; default: the stored interval")  # fmt: skip
    parse.add_argument("--quantile", default="0.5", metavar="Q", help="default 0.5, the median")
    parse.add_argument("--bins", metavar="WH,WH,...",
                       help="a histogram's edges, of the meters' mean reading; 0 to the clip")  # fmt: skip
    parse.add_argument("--above", type=int, metavar="WH",
                       help="count: meters that used more over the range; default: that have any "
                       "reading")  # fmt: skip
    parse.add_argument("--consistent", action="store_true",
                       help="post-process: not negative, sums as they are known")  # fmt: skip
    parse.add_argument("--preview", action="store_true", help="the error to expect; costs nothing")
    add_person(parse)
    add_purpose(parse)
    add_common(parse)


def run(args: argparse.Namespace) -> int:
    """Ask; 0 for a refusal, too. ValueError for what cannot be asked."""
    gateway = Gateway(State.open(args.state_dir))
    query = make(
        gateway.state.config,
        args.kind,
        args.start,
        args.end,
        args.purpose,
        technique=args.technique,
        segment=args.segment,
        epsilon=args.epsilon,
        delta=args.dp_delta,
        clip=args.clip,
        resolution=args.resolution,
        at=args.quantile,
        edges=args.bins,
        above=args.above,
        consistent=args.consistent,
    )

    def act() -> Json:
        try:
            person = person_of(args, gateway)
        except Refused as no:
            return query.template(gateway.state.config.release.group_min) | {
                "refused": no.reason,
                "refused_because": str(no).partition(": ")[2],
            }
        return gateway.query(person, query, preview=args.preview)

    return answering(args, act, show)


def show(answer: Json) -> str:
    """An answer for people."""
    if answer["refused"]:
        return refusal(answer)
    lines = [f"{answer['query']}, {answer['group_min']} or more homes, {answer['technique']}"]
    if answer["epsilon"] is not None:
        lines.append(
            f"epsilon {answer['epsilon']:g}, delta {answer['delta']:g}, for {answer['unit']}"
        )
    if answer["scale"] is not None:
        norm = answer["norm"]
        lines.append(
            f"{answer['mechanism']} of scale {answer['scale']:,.6g} {answer['scale_unit']}; a meter "
            f"moves it by at most {norm['bound']:,.6g} {norm['unit']} ({norm['kind']}), since a "
            f"reading is clipped at {answer['clip_wh']:,} Wh"
        )
    if "preview" in answer:
        error = answer["preview"]
        lines.append(
            f"to expect: {error['mean_abs_error']:,.6g} {error['unit']} off on average, 95 % within "
            f"{error['half_width_95']:,.6g}; nothing was spent"
        )
    for row in answer["values"]:
        bins = (
            "".join(f"  [{low}, {high}) Wh" for low, high in [row["bin_wh"]])
            if "bin_wh" in row
            else ""
        )
        value, low, high = (_number(row[name]) for name in ("value", "low", "high"))
        band = "" if low == high else f"  [{low}, {high}]"
        lines.append(f"{row['start']}  {row['end']}{bins}  {value}{band} {answer['value_unit']}")
    if answer["post_processing"]:
        lines.append(f"post-processed: {', '.join(answer['post_processing'])}")
    if answer["budget"]:
        lines.append(f"{answer['budget']}: spent {answer['spent']}, left {answer['remaining']}")
    lines.append(f"log entry {answer['log_index']}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
