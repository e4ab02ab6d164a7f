"""Captions from a file instead of stage 1's own, as EFUF trains every model on MiniGPT-4's captions."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.pipeline import Task
from sare_jax.records.splits import Image
from sare_jax.stages.context import Context


def task(context: Context, images: Sequence[Image]) -> Task:
    """The task that fills `captions/` from a file.

    Args:
      context: settings and paths; `config.caption.file` names the file.
      images: the training images; captions of other images are counted and left out.

    Raises:
      UserError: the file does not exist.
    """
    path = Path(context.config.caption.file)
    if not path.is_file():
        raise UserError(f"config.caption.file: {path}: no such file")
    return Task(
        name="caption",
        inputs={
            "file": files.hash_file(path),
            "images": files.hash_value([[image.id, image.file] for image in images]),
        },
        outputs=(context.captions,),
        run=lambda: _take(context, path, images),
    )


def _take(context: Context, path: Path, images: Sequence[Image]) -> None:
    from sare_jax.curation.captions import read_captions, told  # spaCy's word lists take a second to load

    captions, left_out = read_captions(path, context.images)
    by_name = {image.file: image for image in images}
    by_id = {image.id: image for image in images}
    kept = []
    for caption in captions:
        image = by_name.get(Path(caption.image).name) or by_id.get(caption.image_id)
        if image is None:
            left_out["image not for training"] += 1
            continue
        reason = "length" if caption.cut_off else "stop"
        kept.append(
            {"image_id": image.id, "image": image.file, "caption": caption.text, "finish_reason": reason}
        )
    if not kept:
        raise UserError(f"{path}: holds no caption of a training image ({told(left_out)})")
    with files.replacing(context.captions) as folder:
        folder.mkdir()
        files.write_jsonl(folder / "captions.jsonl", kept)
        manifest = {
            "file": path.name,
            "captions": len(kept),
            "left_out": dict(left_out),
            "finish_reasons": dict(Counter(record["finish_reason"] for record in kept)),
        }
        files.write_json(folder / "manifest.json", manifest)
    print(
        f"captions: {len(kept)} from {path}; left out: {told(left_out) if left_out else 'none'}", flush=True
    )
