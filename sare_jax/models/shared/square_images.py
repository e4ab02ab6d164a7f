"""Pictures resized straight to a square, as BLIP-2's processor and mPLUG-Owl's do.

Nothing is cut off, and the proportions are not kept.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sare_jax.data.images import THREADS, read_image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class SquareImageProcessor:
    """Resizes by Pillow's bicubic filter, and normalises by CLIP's mean and deviation.

    Attributes:
      side: side of the square, pixels.
      image_tokens: P, image slots that every image takes.
      image_features: F, number of image features that the model computes of every image.
    """

    side: int
    image_tokens: int
    image_features: int

    @property
    def feature_lengths(self) -> tuple[int, ...]:
        """All images have the same number of features."""
        return (self.image_features,)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the arrays depend on."""
        return {"resize": "square, bicubic", "mean": CLIP_MEAN, "std": CLIP_STD, **asdict(self)}

    def num_image_tokens(self, path: Path) -> int:
        """The same for every picture, which therefore is not opened."""
        del path
        return self.image_tokens

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB picture -> float32[side, side, 3]."""
        pixels = np.asarray(image.resize((self.side, self.side), resample=Image.Resampling.BICUBIC))
        scaled = pixels.astype(np.float32) / np.float32(255)
        return (scaled - np.asarray(CLIP_MEAN, np.float32)) / np.asarray(CLIP_STD, np.float32)

    def load(self, images_dir: Path, names: Sequence[str]) -> list[np.ndarray]:
        """Files -> float32[side, side, 3] each; errors as in `read_image`."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda name: self(read_image(images_dir, name)), names))
