"""Captions, images and a running annotation page, small."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

from sare_jax.evaluation.human.audit import Audit, find_images, resume, sample
from sare_jax.evaluation.human.server import AuditServer
from sare_jax.records.texts import Dropped

CAPTIONS = {
    11: "A big dog runs after two red cats, near a tree. 😀 The sun shines.",
    12: "Three cups stand on a wooden table beside the window of a small kitchen.",
    13: "A man's well-lit room.",
}


def write_images(folder: Path, ids) -> Path:
    folder.mkdir(exist_ok=True)
    for number in ids:
        image = Image.new("RGB", (320, 240), (225, 220, 205))
        left = 60 + 8 * number
        ImageDraw.Draw(image).ellipse([left, 60, left + 120, 180], fill=(60, 110, 10 * number))
        image.save(folder / f"COCO_val2014_{number:012d}.jpg")
    return folder


def write_captions(path: Path, captions: dict[int, str]) -> Path:
    path.write_text("".join(json.dumps({"image_id": i, "caption": c}) + "\n" for i, c in captions.items()))
    return path


def make_audit(folder: Path, annotator: str = "Ada") -> Audit:
    """An audit of CAPTIONS in the order of the file, which goes on from what `folder` holds."""
    images = write_images(folder / "images", CAPTIONS)
    records = [{"image_id": number, "caption": text} for number, text in CAPTIONS.items()]
    drawn = sorted(sample(records, 0, 0, Dropped()), key=lambda item: item.image)
    path = folder / "annotations.jsonl"
    return Audit(path, resume(path, drawn, annotator), find_images(drawn, images))


@contextmanager
def serving(audit: Audit, port: int = 0) -> Iterator[AuditServer]:
    with AuditServer(audit, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
