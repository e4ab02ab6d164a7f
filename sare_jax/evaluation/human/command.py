"""People's marks as a metric, and `python -m sare_jax.evaluation human serve|score|agree|convert …`."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path
from typing import TextIO

from sare_jax.errors import UserError
from sare_jax.evaluation import console
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.human import agree, marks, score
from sare_jax.evaluation.human.audit import Audit, claim, find_images, resume, sample, whole_session
from sare_jax.evaluation.human.server import AuditServer
from sare_jax.evaluation.metrics.metric import Metric
from sare_jax.records.annotations import read_annotations, write_annotations
from sare_jax.records.texts import Dropped, read_records

SHOWN = ["human_s", "human_i", "mean_objects", "mean_words", "empty_rate"]
_FILE = "annotations: JSON lines, or lines `image ### text` with {correct} and [hallucinated] objects"


def main(argv: list[str] | None = None) -> None:
    """Runs one of the four commands."""
    parser = console.parser("human", "Captions audited by people (MHumanEval)")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_serve, _add_score, _add_agree, _add_convert):
        add(commands)
    options = parser.parse_args(argv)
    options.run(options)


def _add_serve(commands: argparse._SubParsersAction) -> None:
    parser = console.add_command(commands, "serve", "a page on this machine to mark objects on")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--captions", help="JSON lines of image_id and caption, of which some are drawn")
    given.add_argument("--session", help="WORKDIR/human/session.jsonl: all its captions, in its order")
    parser.add_argument("--images", required=True, type=Path, help="folder of the images")
    parser.add_argument("--out", required=True, type=Path, help="JSON lines, saved after every step")
    parser.add_argument("--annotator", default="", help="whose marks these are")
    parser.add_argument("--sample", type=int, default=100, help="captions to draw; 0 takes all")
    parser.add_argument("--seed", type=console.seed, default=0, help="of the draw")
    parser.add_argument("--port", type=int, default=8737, help="0 takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    if options.sample < 0:
        raise UserError(f"--sample {options.sample}: give a number of captions, or 0 for all")
    if options.out.suffix == ".txt":
        raise UserError(
            f"--out {options.out}: give a .jsonl name; `convert` writes brackets from it afterwards"
        )
    records, dropped = read_records(options.captions or options.session)
    if options.session:
        drawn = whole_session(records, dropped)
    else:
        drawn = sample(records, options.sample, options.seed, dropped)
    images = find_images(drawn, options.images)
    lost = [str(item.image) for item, image in zip(drawn, images, strict=True) if image is None]
    with claim(options.out):
        audit = Audit(options.out, resume(options.out, drawn, options.annotator), images)
        with AuditServer(audit, options.port) as server:
            _say_left_out(dropped, sys.stdout)
            if lost:
                print(f"no image found for {len(lost)} captions: {', '.join(lost[:10])}")
            print(f"{len(audit.items)} captions, {audit.done} finished; annotations go to {options.out}")
            print(f"{server.address}   (Ctrl-C ends)", flush=True)
            if not options.no_browser and _has_screen():
                webbrowser.open(server.address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print(f"\n{audit.done} of {len(audit.items)} finished; the same command goes on from here")


def _has_screen() -> bool:
    """Whether there is a screen to open a page on; a text browser would take this terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = console.add_command(commands, "score", "hallucination rates of one person's annotations")
    parser.add_argument("--annotations", required=True, help=_FILE)
    console.add_common(parser)
    parser.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> None:
    items, dropped = read_annotations(options.annotations)
    result = score.score(items, dropped=dropped, draws=options.draws, seed=options.seed)
    result["settings"] = {"annotations": console.file_identity(options.annotations)}
    if options.json:
        console.print_json(result)
        return
    console.print_table("HUMAN", result, SHOWN)
    print(f"  human_s: {result['n_hallucinated']} of {result['n']} captions", end="; ")
    print(f"human_i: {result['n_objects_hallucinated']} of {result['n_objects']} objects", end="; ")
    print(f"{result['n_no_object']} captions without an object")


def _add_agree(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("agree", help="how far two people agree", description=agree.RULE)
    parser.add_argument("a", metavar="A", help=_FILE)
    parser.add_argument("b", metavar="B", help="annotations of the same captions")
    console.add_common(parser)
    parser.set_defaults(run=_agree)


def _agree(options: argparse.Namespace) -> None:
    (first, left_out), (second, more) = read_annotations(options.a), read_annotations(options.b)
    dropped = Dropped({f"A, {reason}": which for reason, which in left_out.items()})
    dropped.update({f"B, {reason}": which for reason, which in more.items()})
    result = agree.agree(first, second, dropped=dropped, draws=options.draws, seed=options.seed)
    result["settings"] = {"a": console.file_identity(options.a), "b": console.file_identity(options.b)}
    if options.json:
        console.print_json(result)
    else:
        print("\n".join(agree.lines(result)))


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = console.add_command(commands, "convert", "between JSON lines and brackets (*.txt)")
    parser.add_argument("source", metavar="FROM", help=_FILE)
    parser.add_argument(
        "target", metavar="TO", type=Path, help="brackets where it ends in .txt, else JSON lines"
    )
    parser.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> None:
    items, dropped = read_annotations(options.source)
    if options.target.suffix == ".txt":
        items = score.finished(items, dropped)
    write_annotations(options.target, items)
    print(f"{options.target}: {len(items)} captions")
    _say_left_out(dropped, sys.stderr)


def _say_left_out(dropped: Dropped, stream: TextIO) -> None:
    for reason, which in dropped.items():
        print(f"left out, {reason}: {len(which)} ({', '.join(which[:10])})", file=stream)


HUMAN_S = Measure(
    "human_s",
    "Human_S",
    ("human", "human_s"),
    "lower",
    help="Share of captions, in percent, in which people find an object that is not in the picture.",
)
HUMAN_I = Measure(
    "human_i",
    "Human_I",
    ("human", "human_i"),
    "lower",
    help="Share of the objects that people marked, in percent, that are not in the picture.",
)

METRIC = Metric(
    name="human",
    title="Human audit",
    about="a local page on which people mark objects; rates and agreement of annotators",
    measure=marks.measure,
    command=main,
    settings=marks.HumanSettings,
    check=marks.check,
    depends_on=marks.depends_on,
    counts={"human": ungrouped(score.COLUMNS, score.METRICS)},
    columns=(HUMAN_S, HUMAN_I),
    detail=(
        HUMAN_S,
        HUMAN_I,
        Measure("human_n", "captions marked", ("human", "n"), digits=0),
        Measure("human_n_drawn", "captions to mark", ("human", "n_drawn"), digits=0),
        Measure("human_objects", "objects marked", ("human", "n_objects"), digits=0),
    ),
    detail_title="What people marked; a session is done where as many captions are marked as were to be",
    rules={"": "Human"},
    counted={
        "captions that people marked": (("human", "n"),),
        "captions that people were to mark": (("human", "n_drawn"),),
    },
)
