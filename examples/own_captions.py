"""Your own images, captions and thresholds in; a folder of an unlearned model out.

    python -m examples.own_captions --out tuned
    python -m examples.own_captions --model FOLDER --clip ViT-B-32-quickgelu --images IMAGES --captions FILE \
        --thresholds 32 23 27.5 --out tuned

Without options it takes the small model that comes along, draws a few images and describes them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sare_jax
from sare_jax.demo import world

WEIGHTS = "sare_jax/demo/weights"


def main(arguments: Sequence[str] | None = None) -> sare_jax.Model:
    """Curates, unlearns and saves; returns the tuned model."""
    given = parser().parse_args(arguments)
    model = sare_jax.load(given.model, dtype=given.dtype)
    images, captions = given.images, given.captions
    if images is None:
        drawn = given.out.with_name("world")
        world.build(drawn, train=12, val=0, test=0)
        images = drawn / "images"
    if captions is None:
        pictures = sorted(images.iterdir())
        captions = dict(zip([path.name for path in pictures], model.caption(pictures), strict=True))
    clip: dict[str, Any] = {"clip": given.clip}
    if given.clip.startswith("local-dir:"):  # the small CLIP model sees small pictures
        clip |= {"clip_pretrained": "", "patch": 16}
    t0, t1, t2 = given.thresholds
    limits = {"kind": "fixed", "t0": t0, "t1": t1, "t2": t2}
    sets = sare_jax.curate(captions, images, given.out.with_name("curated"), thresholds=limits, **clip)
    curated = sets.read()
    print(f"D_neg {len(curated.neg)}, D_pos {len(curated.pos)}, D_sent {len(curated.sent)}")
    tuned = sare_jax.unlearn(model, sets, preset=given.preset, steps=given.steps)
    print(f"written to {tuned.save_pretrained(given.out)}")
    return tuned


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--model", default=f"{WEIGHTS}/llava", help="folder or hub id")
    options.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options.add_argument("--clip", default=f"local-dir:{WEIGHTS}/clip", help="model that scores objects")
    options.add_argument("--images", type=Path, help="folder of images")
    options.add_argument("--captions", type=Path, help="JSON lines of image and caption, of these images")
    options.add_argument("--thresholds", type=float, nargs=3, default=(6.7, 4.0, 6.4), metavar="T")
    options.add_argument("--preset", default="sare", help="efuf, sare or robust")
    options.add_argument("--steps", type=int, default=4, help="optimizer steps")
    options.add_argument("--out", type=Path, default=Path("tuned"))
    return options


if __name__ == "__main__":
    main()
