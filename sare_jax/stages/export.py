"""Stage 6: exports the tuned model, and checks an export that transformers can load."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sare_jax import files, hosts
from sare_jax.config import ORIGIN
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.progress import track
from sare_jax.settings import DecodingConfig
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import saved_settings

if TYPE_CHECKING:
    from sare_jax.models.interface import Answering


def tasks(context: Context) -> Iterator[Task]:
    """Makes `export/<run>/` and, where asked for, `export_check.json`."""
    run, form = context.config.export.run, context.config.export.form
    weights, _ = measuring.tuned(context, run)
    folder = context.workdir / "export" / run
    yield Task(
        name=f"export/{run}",
        inputs=context.model_inputs() | weights | {"form": form},
        outputs=(folder,),
        run=lambda: _export(context, run, folder),
        on="all",
    )
    count = context.config.export.check_captions
    if count and _answers(context):
        _require_comparable(context.config.decoding)
        answers = context.answers(run, ORIGIN)
        yield Task(
            name="export/check",
            inputs={
                "folder": files.digest(folder),
                "answers": context.digest(answers, "evaluate"),
                "count": count,
                "decoding": dataclasses.asdict(context.config.decoding),
            },
            outputs=(context.workdir / "export_check.json",),
            run=lambda: _check(context, folder, answers / "captions.jsonl", count),
        )


def _export(context: Context, run: str, folder: Path) -> None:
    """All hosts read the weights; the first writes them."""
    from jax.sharding import NamedSharding, PartitionSpec

    from sare_jax.export import export_model, verify
    from sare_jax.export.checkpoint import find_step, read_tuned

    form = context.config.export.form
    checkpoint, step = find_step(context.checkpoints(run))
    params = read_tuned(checkpoint, step, context.source, NamedSharding(context.mesh, PartitionSpec()))
    if hosts.is_first():
        settings = saved_settings(checkpoint)
        export_model(context.source, params, folder, form, step=step, settings=settings)
        print(verify(context.source, params, folder, form, step=step))
        print(f"exported to {folder}", flush=True)


def _answers(context: Context) -> "Answering | None":
    from sare_jax.export import export_form

    return export_form(context.source, context.config.export.form).answers


def _check(context: Context, folder: Path, captions: Path, count: int) -> None:
    """Captions images with transformers from the exported folder and counts captions equal to ours."""
    from sare_jax.inference.stopping import cut

    answering, decoding = _answers(context), context.config.decoding
    if answering is None:
        raise ValueError(f"{context.config.export.form} is no form that another program answers with")
    ours = files.read_jsonl(captions)[:count]
    theirs = answering(
        folder,
        ours,
        images_dir=context.images,
        prompter=context.prompter,
        processor=context.processor,
        max_new_tokens=context.config.evaluate.max_new_tokens,
        decoding=decoding,
    )
    texts = [
        cut(text, decoding.stop).strip()
        for text in track(theirs, "transformers", total=len(ours), unit="caption")
    ]
    different = [
        {"image_id": answer["image_id"], "jax": answer["text"], "transformers": text}
        for answer, text in zip(ours, texts, strict=True)
        if answer["text"] != text
    ]
    rule = (
        f"{_kind(decoding)} captions, exported folder in transformers against the JAX model, equal to the "
        "letter"
    )
    if (quantization := context.config.model.quantization) != "none":
        rule += f"; the JAX model's kernels were {quantization}, the folder's are not"
    result = {
        "rule": rule,
        "n": len(ours),
        "equal": len(ours) - len(different),
        "different": different,
    }
    files.write_json(context.workdir / "export_check.json", result)
    print(
        f"export check: {result['equal']} of {result['n']} captions are the same in transformers", flush=True
    )


def _kind(decoding: DecodingConfig) -> str:
    return f"{decoding.num_beams}-beam" if decoding.num_beams > 1 else "greedy"


def _require_comparable(decoding: DecodingConfig) -> None:
    if decoding.temperature > 0 or (decoding.stop and decoding.num_beams > 1):
        raise UserError(
            "config.export.check_captions: drawn captions, and beams that end at a stop string, are not the "
            "same in two programs; set it to 0"
        )
