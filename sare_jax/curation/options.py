"""What the commands of curation share: which options there are, and what they mean."""

import argparse
from pathlib import Path

from sare_jax import files
from sare_jax.curation.clip import ClipConfig
from sare_jax.curation.extractor import Extractor
from sare_jax.curation.llm_extractor import llm_extractor
from sare_jax.curation.objects import DEFAULT_MODEL, load_tagger, spacy_extractor
from sare_jax.curation.scored import Work
from sare_jax.curation.select import PAPER, Quantiles, Thresholds
from sare_jax.curation.truth import Marks, Truth, coco_truth, plain_captions, read_marks
from sare_jax.curation.windows import Windows
from sare_jax.errors import UserError


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Adds what captions are scored with and what they are scored by."""
    add = parser.add_argument
    add(
        "--captions", type=Path, help="captions: JSON lines with image and caption, or lines `image ### text`"
    )
    add("--images", type=Path, required=True, help="folder of the images")
    add("--out", type=Path, required=True, help="folder to write; scores are kept beside it")
    add("--clip", default=ClipConfig.model, help="open_clip model name, or local-dir:FOLDER")
    add("--pretrained", default=ClipConfig.pretrained, help="tag or weights file of a named model")
    add("--device", default=ClipConfig.device)
    add("--precision", default=ClipConfig.precision, choices=("fp32", "bf16", "fp16"))
    add("--tagger", default=DEFAULT_MODEL, help="spaCy model that finds objects, by package name or folder")
    add(
        "--llm", default="", help="finds them instead: deepseek, openai, an address, or a transformers folder"
    )
    add("--llm-model", default="", help="name of the model at that address")
    add("--key-variable", default="", help="environment variable with the key of that address")
    add("--mode", default="windows", choices=("windows", "whole"))
    add("--patch", type=int, default=Windows.patch, help="side of a patch in pixels")
    add("--window", type=int, default=Windows.window, help="side of a window in patches")
    add("--top-patches", type=int, default=Windows.top_patches, help="best patches that make the score")
    add("--bad-images", default="skip", choices=("skip", "raise"))
    add("--image-batch", type=int, default=Work.image_batch)
    add("--view-batch", type=int, default=Work.view_batch)
    add("--engine", default="local", choices=("local", "ray"), help="ray: all machines of a Ray cluster")
    add("--workers", type=int, default=Work.workers, help="threads that decode images")


def add_limits(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Adds thresholds and quantiles, of which one can be given."""
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--thresholds", type=float, nargs=3, metavar=("T0", "T1", "T2"))
    limits.add_argument("--quantiles", type=float, nargs=3, metavar=("Q0", "Q1", "Q2"))
    return limits


def add_truth(parser: argparse.ArgumentParser) -> None:
    """Adds the two kinds of truth, of which one can be given."""
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--truth", type=Path, help="COCO annotations folder, or JSON {id: [category, …]}")
    truth.add_argument("--labels", type=Path, help="captions with marks: {in the image}, [not in it]")


def add_draw(parser: argparse.ArgumentParser) -> None:
    """Adds how many labelled objects an audit uses."""
    parser.add_argument("--labelled", type=int, default=400, help="labelled objects that an audit uses")
    parser.add_argument("--seed", type=int, default=0, help="of their draw")


def captions_of(options: argparse.Namespace) -> Path:
    """The captions' file; those of the labels, without their marks, where none is given.

    Raises:
      UserError: neither is given.
    """
    if options.captions is not None:
        return options.captions
    if options.labels is None:
        raise UserError("--captions is missing; name the file of the captions")
    path = options.out.with_name(f"{options.out.name}_captions.jsonl")
    files.write_jsonl(path, plain_captions(options.labels))
    return path


def truth_of(options: argparse.Namespace) -> Truth | Marks | None:
    """The truth that the options name; None where they name none.

    Raises:
      UserError: it cannot be read.
    """
    if options.labels is not None:
        return read_marks(options.labels)
    return coco_truth(options.truth) if options.truth is not None else None


def limits_of(options: argparse.Namespace) -> Thresholds | Quantiles:
    """Limits or quantiles that the options name; the paper's limits where they name none."""
    if options.quantiles:
        return Quantiles(*options.quantiles)
    return Thresholds(*options.thresholds) if options.thresholds else PAPER


def clip_of(options: argparse.Namespace) -> ClipConfig:
    """The CLIP model that the options name."""
    return ClipConfig(options.clip, options.pretrained, device=options.device, precision=options.precision)


def windows_of(options: argparse.Namespace) -> Windows | None:
    """The geometry of mode `windows`; None for whole images."""
    windows = Windows(options.patch, options.window, options.top_patches)
    return windows if options.mode == "windows" else None


def extractor_of(options: argparse.Namespace) -> Extractor:
    """What finds objects.

    Raises:
      UserError: it is not there.
    """
    if options.llm:
        return llm_extractor(options.llm, options.llm_model, key_variable=options.key_variable)
    return spacy_extractor(load_tagger(options.tagger))


def work_of(options: argparse.Namespace) -> Work:
    """Batch sizes and threads."""
    return Work(options.image_batch, options.view_batch, options.workers)
