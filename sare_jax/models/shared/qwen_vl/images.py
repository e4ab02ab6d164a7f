"""Pictures of any size as the Qwen-VLs' vision towers want them: patches, and the size of their grid.

The reference, value by value, is the Pillow form of Hugging Face's processor (`Qwen2VLImageProcessorPil` in
transformers 5); the torchvision form rounds some pixels to the next of the 256 levels.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sare_jax.data.images import THREADS, ImageError, find_image, image_size, load_image
from sare_jax.errors import UserError
from sare_jax.models.shared.processor_file import read_processor
from sare_jax.models.shared.qwen_vl.config import PatchConfig
from sare_jax.schema import checked

GRID = 2  # columns behind a patch's pixels: height and width of its picture's grid
_STEPS = ("do_resize", "do_rescale", "do_normalize")


@dataclass(frozen=True)
class QwenImageProcessor:
    """Resizes pictures, normalises them and cuts them up.

    Attributes:
      patches: how they are cut up, and how large they may be.
      resample: Pillow's number of the filter; 3 is bicubic.
      scale: factor from a byte to the scale of `mean`.
      mean: subtracted from each channel, on the scale of 0 to 1.
      std: divides each channel after that.
    """

    patches: PatchConfig
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, patches: PatchConfig) -> "QwenImageProcessor":
        """Reads preprocessor_config.json, or processor_config.json as transformers 5 writes it.

        Raises:
          UserError: no such file, a step that is switched off, or other patches than config.json says.
        """
        raw, path = read_processor(folder)
        for step in _STEPS:
            if not raw.get(step, True):
                raise UserError(f"{path}: {step} is false; only the whole preprocessing is done here")
        own = (("patch_size", patches.side), ("merge_size", patches.merge))
        for key, needed in (*own, ("temporal_patch_size", patches.frames)):
            if raw.get(key, needed) != needed:
                raise UserError(f"{path}: {key} is {raw[key]!r}, but {needed} in config.json")
        resample = checked(raw.get("resample", int(Image.Resampling.BICUBIC)), int, f"{path}: resample")
        if resample not in list(Image.Resampling):
            raise UserError(f"{path}: resample is {resample}, which is no filter of Pillow's")
        return cls(
            patches=patches,
            resample=resample,
            scale=checked(raw.get("rescale_factor", 1 / 255), float, f"{path}: rescale_factor"),
            mean=checked(raw["image_mean"], tuple[float, float, float], f"{path}: image_mean"),
            std=checked(raw["image_std"], tuple[float, float, float], f"{path}: image_std"),
        )

    @property
    def feature_lengths(self) -> tuple[int, ...]:
        """The numbers of image tokens to which images are padded, rising."""
        return self.patches.lengths

    @property
    def identity(self) -> dict[str, Any]:
        """All that the arrays depend on."""
        return asdict(self)

    def num_image_tokens(self, path: Path) -> int:
        """Image slots of the picture in a file, by its header."""
        width, height = image_size(path)
        return self._grid(path, height, width) // self.patches.factor**2

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB picture -> patches float32[h · w, 3 · side²], the patches of an image token side by side."""
        height, width = self.patches.resized(image.height, image.width)
        pixels = np.asarray(image.resize((width, height), resample=self.resample))
        table, side, merge = self._table(), self.patches.side, self.patches.merge
        channels = np.stack([table[channel][pixels[..., channel]] for channel in range(3)])
        cut = channels.reshape(3, height // side // merge, merge, side, width // side // merge, merge, side)
        return cut.transpose(1, 4, 2, 5, 0, 3, 6).reshape(-1, 3 * side * side)

    def load(self, images_dir: Path, names: Sequence[str]) -> list[np.ndarray]:
        """Files -> float32[N, 3 · side² + 2] each; errors as in `read_image`.

        N is the number of patches of the first of `feature_lengths` that holds the picture. Behind each patch
        stand height and width of the picture's grid, in patches; what fills up to N is 0.

        Raises:
          ImageError: a picture cannot be read, or is more than 200 times as long as it is wide.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(functools.partial(self._load, images_dir), names))

    def _load(self, images_dir: Path, name: str) -> np.ndarray:
        path = find_image(images_dir, name)
        image = load_image(path)
        self._grid(path, image.height, image.width)
        height, width = self.patches.resized(image.height, image.width)
        patches, square = self(image), self.patches.merge**2
        length = next(length for length in self.feature_lengths if length * square >= len(patches))
        filled = np.zeros((length * square, patches.shape[1] + GRID), np.float32)
        filled[: len(patches), :-GRID] = patches
        filled[: len(patches), -GRID:] = height // self.patches.side, width // self.patches.side
        return filled

    def _grid(self, path: Path, height: int, width: int) -> int:
        """Pixels of the resized picture."""
        try:
            sides = self.patches.resized(height, width)
        except ValueError as error:
            raise ImageError(path, f"{error}; no Qwen-VL takes such an image, leave it out") from None
        return sides[0] * sides[1]

    def _table(self) -> np.ndarray:
        """What each byte becomes, float32[3, 256], by the operations and precisions used on pixels."""
        scaled = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (scaled[None] - mean[:, None]) / std[:, None]
