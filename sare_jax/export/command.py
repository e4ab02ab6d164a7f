"""Command line: `python -m sare_jax.export` writes a checkpoint for others to load."""

import argparse
from pathlib import Path

import jax

from sare_jax.command import called
from sare_jax.export import export_model, verify
from sare_jax.export.checkpoint import find_step, read_tuned
from sare_jax.locks import writing_into
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.shared.partition import hash_params
from sare_jax.settings import ModelConfig
from sare_jax.training.checkpoints import saved_settings


def main(argv: list[str] | None = None) -> None:
    """Exports, reads the result back, and prints what differs from the base."""
    options = _parser().parse_args(argv)
    checkpoint, step = find_step(options.checkpoint)
    model = ModelConfig(
        folder=options.base,
        family=options.family,
        vision_tower=options.vision_tower,
        files=dict(options.file),
    )
    source = open_source(model_folder(model), model)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = read_tuned(checkpoint, step, source, sharding)
    settings = saved_settings(checkpoint)
    with writing_into(options.out):
        export_model(source, params, options.out, options.form, step=step, settings=settings)
    print(verify(source, params, options.out, options.form, step=step))
    print(f"exported step {step} of {checkpoint}, parameters {hash_params(params)[:12]}, to {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=called("python -m sare_jax.export"),
        description="Writes a checkpoint of the unlearn stage, or of a relearning, for others to load.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="WORKDIR/checkpoints/RUN for the newest, with /STEP for another",
    )
    parser.add_argument("--base", required=True, help="the model that was tuned: folder or model id")
    parser.add_argument("--family", default="auto", help="its family, where config.json does not tell")
    parser.add_argument(
        "--vision-tower",
        default="",
        help="its vision tower, where it lies apart and config.json does not tell where",
    )
    parser.add_argument(
        "--file",
        type=_named_path,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a file of a base whose parts are published apart, by its name in config.model.files; once for "
        "each of them",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--form",
        default="folder",
        help="a form of the model's family; of LLaVA's: folder (the whole Hugging Face folder, default), "
        "projector (tuned tensors as safetensors), efuf (EFUF's .pth of them) or peft (the LoRA attack's "
        "adapters, and the projector with them); "
        "of MiniGPT-4's: published",
    )
    return parser


def _named_path(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path
