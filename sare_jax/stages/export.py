"""Stage 6: the tuned model for others, read back by transformers where it is a whole folder."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from sare_jax import files, hosts
from sare_jax.config import ORIGIN
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.progress import track
from sare_jax.settings import DecodingConfig
from sare_jax.stages import measuring
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import saved_settings


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
    count = context.config.export.check_captions if form == "folder" else 0
    if count:
        _require_comparable(context.config.decoding)
        said = context.answers(run, ORIGIN)
        yield Task(
            name="export/check",
            inputs={
                "folder": files.digest(folder),
                "answers": context.digest(said, "evaluate"),
                "count": count,
                "decoding": dataclasses.asdict(context.config.decoding),
            },
            outputs=(context.workdir / "export_check.json",),
            run=lambda: _check(context, folder, said / "captions.jsonl", count),
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


def _check(context: Context, folder: Path, captions: Path, count: int) -> None:
    """Lets transformers describe images again and counts the captions that are the same."""
    answers = files.read_jsonl(captions)[:count]
    said = list(_asked(context, folder, answers))
    different = [
        {"image_id": answer["image_id"], "jax": answer["text"], "transformers": text}
        for answer, text in zip(answers, said, strict=True)
        if answer["text"] != text
    ]
    result = {
        "rule": f"{_kind(context.config.decoding)} captions, exported folder in transformers against the JAX "
        "model, equal to the letter",
        "n": len(answers),
        "equal": len(answers) - len(different),
        "different": different,
    }
    files.write_json(context.workdir / "export_check.json", result)
    print(
        f"export check: {result['equal']} of {result['n']} captions are the same in transformers", flush=True
    )


def _asked(context: Context, folder: Path, answers: list[dict]) -> Iterator[str]:
    import torch
    from transformers import LlavaForConditionalGeneration

    from sare_jax.inference.stopping import cut

    decoding = context.config.decoding
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    for answer in track(answers, "transformers", total=len(answers), unit="caption"):
        ids = torch.tensor([context.prompter.prompt(answer["instruction"])])
        pixels = context.processor.load(context.images, [answer["image"]])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
                max_new_tokens=context.config.evaluate.max_new_tokens,
                do_sample=False,
                num_beams=decoding.num_beams,
                **(_beam_settings(decoding) if decoding.num_beams > 1 else {}),
                pad_token_id=context.prompter.pad_id,
                eos_token_id=context.prompter.eos_id,
            )
        yield cut(context.prompter.decode(out[0, ids.shape[1] :].tolist()), decoding.stop).strip()


def _beam_settings(decoding: DecodingConfig) -> dict:
    early = {"no": False, "yes": True, "never": "never"}[decoding.early_stopping]
    return {"length_penalty": decoding.length_penalty, "early_stopping": early}


def _kind(decoding: DecodingConfig) -> str:
    return f"{decoding.num_beams}-beam" if decoding.num_beams > 1 else "greedy"


def _require_comparable(decoding: DecodingConfig) -> None:
    if decoding.temperature > 0 or (decoding.stop and decoding.num_beams > 1):
        raise UserError(
            "config.export.check_captions: drawn captions, and beams that end at a stop string, are not the "
            "same in two programs; set it to 0"
        )
