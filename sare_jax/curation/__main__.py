"""Curates without the rest of the project: `python -m sare_jax.curation --captions … --images … --out …`.

Other commands: `calibrate` chooses thresholds by labelled objects, `histogram` draws the scores of grounded
and of hallucinated objects, `import-efuf` and `export-efuf` read and write EFUF's training files.
"""

import argparse
import sys
from pathlib import Path

from sare_jax.command import guarded
from sare_jax.curation import calibrate, histogram, options
from sare_jax.curation.calibrate import Audit
from sare_jax.curation.clip import Clip
from sare_jax.curation.efuf_files import read_efuf, write_efuf
from sare_jax.curation.engines import engine_of
from sare_jax.curation.select import PAPER, Quantiles, Thresholds
from sare_jax.curation.stage import Evidence, curate, gather, look
from sare_jax.curation.truth import Marks, Truth
from sare_jax.errors import UserError
from sare_jax.records.curated import write_curated

_PROGRAM = "python -m sare_jax.curation"


def main() -> None:
    """Runs the command that the first word names; without one it curates."""
    commands = {
        "curate": _curate,
        "calibrate": _calibrate,
        "histogram": _histogram,
        "import-efuf": _import,
        "export-efuf": _export,
    }
    name, arguments = "curate", sys.argv[1:]
    if arguments and arguments[0] in commands:
        name, *arguments = arguments
    commands[name](arguments)


def _curate(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Curates D_neg, D_pos and D_sent from captions and their images.",
        epilog="Other commands, each with --help: calibrate, histogram, import-efuf, export-efuf.",
    )
    options.add_scoring(parser)
    limits = options.add_limits(parser)
    limits.add_argument(
        "--audit",
        type=float,
        nargs=3,
        metavar=("P0", "P1", "P2"),
        help="limits by labelled objects (--truth or --labels): wanted precision of D_pos, D_neg, D_sent",
    )
    options.add_truth(parser)
    options.add_draw(parser)
    parser.add_argument(
        "--rule", default="paper", choices=("paper", "efuf"), help="which captions D_sent takes"
    )
    parser.add_argument("--conflicts", default="keep", choices=("keep", "drop", "neg_wins"))
    given = parser.parse_args(arguments)
    truth = options.truth_of(given)
    limits = _audit(given, truth, given.audit) if given.audit else options.limits_of(given)
    manifest = curate(
        options.captions_of(given),
        given.images,
        given.out,
        clip=options.clip_of(given),
        rule=given.rule,
        thresholds=limits,
        windows=options.windows_of(given),
        conflicts=given.conflicts,
        bad_images=given.bad_images,
        extractor=options.extractor_of(given),
        truth=truth,
        work=options.work_of(given),
        engine=engine_of(given.engine),
    )
    print(summary(manifest))


def _calibrate(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} calibrate",
        description="Chooses thresholds by labelled objects, for a wanted precision of each set.",
    )
    options.add_scoring(parser)
    options.add_truth(parser)
    options.add_draw(parser)
    wanted = (Audit.p0, Audit.p1, Audit.p2)
    parser.add_argument("--wanted", type=float, nargs=3, metavar=("P0", "P1", "P2"), default=wanted)
    given = parser.parse_args(arguments)
    audit = _audit(given, options.truth_of(given), given.wanted)
    evidence, clip_id = _gather(given, audit.truth)
    limits = audit.thresholds(evidence.kept, clip_id)
    print(f"{limits.chosen['how']}, CLIP model {clip_id}")
    print("\n".join(calibrate.told(limits)))
    print(f"--thresholds {limits.t0:.4f} {limits.t1:.4f} {limits.t2:.4f}")


def _histogram(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} histogram",
        description="Draws the scores of objects that are in their image and of objects that are not.",
    )
    options.add_scoring(parser)
    options.add_limits(parser)
    options.add_truth(parser)
    parser.add_argument(
        "--figure", type=Path, required=True, help=f"file to write: {', '.join(histogram.FORMATS)}"
    )
    given = parser.parse_args(arguments)
    truth = options.truth_of(given)
    if truth is None:
        raise UserError("--truth or --labels is missing; a histogram needs to know what is in the images")
    evidence, clip_id = _gather(given, truth)
    scores, present = histogram.judged_scores(evidence.kept, truth)
    limits = options.limits_of(given)
    if isinstance(limits, Quantiles):
        limits = limits.thresholds([s.scores for s in evidence.kept], clip_id)
    lines = {"T1": limits.t1, "T0": limits.t0} if limits is not PAPER or clip_id == PAPER.model else {}
    histogram.draw(scores, present, given.figure, model=clip_id, limits=lines)
    print(histogram.described(scores, present))
    print(f"figure in {given.figure}")


def _import(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} import-efuf", description="Makes a curated folder of EFUF's two training files."
    )
    parser.add_argument("--efuf", type=Path, required=True, help="folder of pos_neg.json and sentences.json")
    parser.add_argument("--out", type=Path, required=True, help="curated folder to write")
    parser.add_argument("--thresholds", type=float, nargs=3, metavar=("T0", "T1", "T2"))
    parser.add_argument(
        "--rule", default="efuf", choices=("paper", "efuf"), help="which captions D_sent takes"
    )
    given = parser.parse_args(arguments)
    limits = Thresholds(*given.thresholds) if given.thresholds else PAPER
    curated = read_efuf(given.efuf, thresholds=limits, rule=given.rule)
    write_curated(given.out, curated)
    print(_sets(curated.manifest))
    print(*_left_out(curated.manifest), sep="\n")


def _export(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} export-efuf", description="Writes a curated folder as EFUF's two training files."
    )
    parser.add_argument("--curated", type=Path, required=True, help="curated folder to read")
    parser.add_argument("--efuf", type=Path, required=True, help="folder to write the two files into")
    given = parser.parse_args(arguments)
    sizes = write_efuf(given.curated, given.efuf)
    print(", ".join(f"{name}: {rows} rows" for name, rows in sizes.items()) + f" in {given.efuf}")


def _audit(given: argparse.Namespace, truth: Truth | Marks | None, wanted: list[float]) -> Audit:
    if truth is None:
        raise UserError("--truth or --labels is missing; an audit needs labelled objects")
    return Audit(truth, *wanted, given.labelled, given.seed)


def _gather(given: argparse.Namespace, truth: Truth | Marks) -> tuple[Evidence, str]:
    """Scores the captions, or finds the scores that are kept; and the id of the CLIP model."""
    listed = look(options.captions_of(given), given.images, bad_images=given.bad_images, truth=truth)
    model = Clip(options.clip_of(given))
    evidence = gather(
        listed,
        given.out,
        model,
        windows=options.windows_of(given),
        extractor=options.extractor_of(given),
        work=options.work_of(given),
        engine=engine_of(given.engine),
    )
    return evidence, model.id


def summary(manifest: dict) -> str:
    """What a person wants to know of a curation, in a few lines."""
    counts, limits = manifest["counts"], manifest["thresholds"]
    lines = [
        "{captions} captions, {captions_scored} scored; {objects} objects, {phrases} phrases".format(
            **counts
        ),
        "T0 {t0:.3f}, T1 {t1:.3f}, T2 {t2:.3f}".format(**limits) + f" ({limits['chosen']['how']})",
        _sets(manifest),
        *_left_out(manifest),
    ]
    if counts["images_scored_whole"]:
        lines.append(f"images smaller than a window, scored whole: {counts['images_scored_whole']}")
    if manifest["cut_phrases"]:
        lines.append(f"phrases longer than the text encoder reads: {len(manifest['cut_phrases'])}")
    if "t0" in limits["chosen"]:
        lines.extend(calibrate.told(Thresholds(**limits)))
    if "audit" in manifest:
        lines.append(_audit_line(manifest["audit"]))
    return "\n".join(lines)


def _sets(manifest: dict) -> str:
    return "D_neg {neg}, D_pos {pos}, D_sent {sent}".format(**manifest["counts"])


def _left_out(manifest: dict) -> list[str]:
    return [
        f"left out, {what}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        for what, reasons in manifest["dropped"].items()
        if reasons
    ]


def _audit_line(audit: dict) -> str:
    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    neg, pos = audit["neg"], audit["pos"]
    area = "–" if audit["auc"] is None else f"{audit['auc']:.3f}"
    return (
        f"truth: {share(audit['hallucinated'])} of {audit['judged']} objects are absent, AUC {area}; "
        f"D_neg precision {share(neg['precision'])}, recall {share(neg['recall'])}; "
        f"D_pos precision {share(pos['precision'])}, recall {share(pos['recall'])}"
    )


if __name__ == "__main__":
    guarded(main)()
