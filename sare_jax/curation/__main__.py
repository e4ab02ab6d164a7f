"""Curates without the rest of the project: `python -m sare_jax.curation --captions … --images … --out …`."""

import argparse
from pathlib import Path

from sare_jax.command import guarded
from sare_jax.curation.clip import ClipConfig
from sare_jax.curation.engines import engine_of
from sare_jax.curation.objects import DEFAULT_MODEL, load_tagger, spacy_extractor
from sare_jax.curation.scored import Work
from sare_jax.curation.select import PAPER, Quantiles, Thresholds
from sare_jax.curation.stage import curate
from sare_jax.curation.windows import Windows


def main() -> None:
    """Parses the command line, curates, and says what came of it."""
    options = _parser().parse_args()
    if options.quantiles:
        thresholds = Quantiles(*options.quantiles)
    else:
        thresholds = Thresholds(*options.thresholds) if options.thresholds else PAPER
    windows = Windows(options.patch, options.window, options.top_patches)
    manifest = curate(
        options.captions,
        options.images,
        options.out,
        clip=ClipConfig(options.clip, options.pretrained, device=options.device, precision=options.precision),
        rule=options.rule,
        thresholds=thresholds,
        windows=windows if options.mode == "windows" else None,
        conflicts=options.conflicts,
        bad_images=options.bad_images,
        extractor=spacy_extractor(load_tagger(options.tagger)),
        work=Work(options.image_batch, options.view_batch, options.workers),
        engine=engine_of(options.engine),
    )
    print(summary(manifest))


def summary(manifest: dict) -> str:
    """What a person wants to know of a curation, in a few lines."""
    counts, limits = manifest["counts"], manifest["thresholds"]
    lines = [
        "{captions} captions, {captions_scored} scored; {objects} objects, {phrases} phrases".format(
            **counts
        ),
        "T0 {t0:.3f}, T1 {t1:.3f}, T2 {t2:.3f}".format(**limits) + f" ({limits['chosen']['how']})",
        "D_neg {neg}, D_pos {pos}, D_sent {sent}".format(**counts),
    ]
    for what, reasons in manifest["dropped"].items():
        if reasons:
            lines.append(f"left out, {what}: " + ", ".join(f"{n} {reason}" for reason, n in reasons.items()))
    if "audit" in manifest:
        lines.append(_audit_line(manifest["audit"]))
    return "\n".join(lines)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sare_jax.curation", description=__doc__.split(":")[0] + "."
    )
    add = parser.add_argument
    add("--captions", type=Path, required=True, help="JSON lines with image_id, image and caption")
    add("--images", type=Path, required=True, help="folder of the images")
    add("--out", type=Path, required=True, help="folder to write")
    add("--clip", default=ClipConfig.model, help="open_clip model name, or local-dir:FOLDER")
    add("--pretrained", default=ClipConfig.pretrained, help="tag or weights file of a named model")
    add("--device", default=ClipConfig.device)
    add("--precision", default=ClipConfig.precision, choices=("fp32", "bf16", "fp16"))
    add("--tagger", default=DEFAULT_MODEL, help="spaCy model, by package name or folder")
    add("--mode", default="windows", choices=("windows", "whole"))
    add("--patch", type=int, default=Windows.patch, help="side of a patch in pixels")
    add("--window", type=int, default=Windows.window, help="side of a window in patches")
    add("--top-patches", type=int, default=Windows.top_patches, help="best patches that make the score")
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--thresholds", type=float, nargs=3, metavar=("T0", "T1", "T2"))
    limits.add_argument("--quantiles", type=float, nargs=3, metavar=("Q0", "Q1", "Q2"))
    add("--rule", default="paper", choices=("paper", "efuf"), help="which captions D_sent takes")
    add("--conflicts", default="keep", choices=("keep", "drop", "neg_wins"))
    add("--bad-images", default="skip", choices=("skip", "raise"))
    add("--image-batch", type=int, default=Work.image_batch)
    add("--view-batch", type=int, default=Work.view_batch)
    add("--engine", default="local", choices=("local", "ray"), help="ray: all machines of a Ray cluster")
    add("--workers", type=int, default=Work.workers, help="threads that decode images")
    return parser


if __name__ == "__main__":
    guarded(main)()
