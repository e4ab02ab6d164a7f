"""Stage 1: the base model describes the training images."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sare_jax import files
from sare_jax.data.images import usable_images
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.records.splits import Image
from sare_jax.stages import imported
from sare_jax.stages.context import Context


def tasks(context: Context) -> Iterator[Task]:
    """Makes `captions/captions.jsonl`, one record per training image, and `captions/manifest.json`.

    Sets from `config.curate.folder` bring their captions along, so that nothing is made then.
    """
    settings = context.config.caption
    if context.config.curate.folder:
        return
    images = context.training_images
    if settings.file:
        yield imported.task(context, images)
        return
    yield Task(
        name="caption",
        inputs=context.model_inputs()
        | {
            "images": context.images_hash(images),
            "max_pixels": context.config.data.max_pixels,
            "prompt": settings.prompt,
            "max_new_tokens": settings.max_new_tokens,
            "decoding": dataclasses.asdict(context.config.decoding),
        },
        outputs=(context.captions,),
        scratch=(_partial(context),),
        run=lambda: _describe(context, images),
    )


def _describe(context: Context, images: Sequence[Image]) -> None:
    settings = context.config.caption
    if not images:
        raise UserError(f"{context.workdir / 'splits.json'}: holds no training image")
    usable, bad = usable_images(
        context.images, [image.file for image in images], context.config.data.max_pixels
    )
    if not usable:
        raise UserError(f"{context.images}: none of {len(images)} training images can be read")
    kept = set(usable)
    requests = [
        {"id": image.id, "image_id": image.id, "image": image.file, "instruction": settings.prompt}
        for image in images
        if image.file in kept
    ]
    partial = _partial(context)
    partial.mkdir(exist_ok=True)
    answers = context.ask(
        context.loaded.params,
        requests,
        partial / "answers.jsonl",
        name="caption",
        max_new_tokens=settings.max_new_tokens,
        size="caption.batch_size",
        decoding=context.config.decoding,
    )
    with files.replacing(context.captions) as folder:
        folder.mkdir()
        files.write_jsonl(folder / "captions.jsonl", (_record(answer) for answer in answers))
        manifest = {
            "images": len(answers),
            "skipped": bad,
            "max_pixels": context.config.data.max_pixels,
            "prompt": settings.prompt,
            "max_new_tokens": settings.max_new_tokens,
            "decoding": dataclasses.asdict(context.config.decoding),
            "finish_reasons": dict(Counter(answer["finish_reason"] for answer in answers)),
            **context.model_inputs(),
        }
        files.write_json(folder / "manifest.json", manifest)
    files.remove(partial)


def _record(answer: dict) -> dict:
    return {
        "image_id": answer["image_id"],
        "image": answer["image"],
        "caption": answer["text"],
        "finish_reason": answer["finish_reason"],
    }


def _partial(context: Context) -> Path:
    return context.captions.with_name(".captions.partial")
