"""Pictures as LLaVA's vision tower wants them: the preprocessing of Hugging Face's CLIP and LLaVA processors.

The reference, value by value, is the Pillow form of those processors (`CLIPImageProcessorPil` and
`LlavaImageProcessorPil` in transformers 5, the only one in 4): the published models were trained and measured
with Pillow's bicubic filter. The torchvision form, which transformers 5 takes where torchvision is installed,
rounds a few pixels in a thousand to the next of the 256 levels.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from sare_jax.data.images import THREADS, read_image
from sare_jax.errors import UserError
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.processor_file import read_processor
from sare_jax.schema import checked


@dataclass(frozen=True)
class LlavaImageProcessor:
    """Resizes, crops and normalises pictures.

    Attributes:
      mode: "pad" (to a square in the mean colour, the original LLaVA) or "center_crop" (llava-hf, EFUF).
      resize_to: length of the shorter side after resizing, or (height, width).
      crop: (height, width) of the result.
      resample: Pillow's number of the filter; 3 is bicubic.
      scale: factor from a byte to the scale of `mean`.
      mean: subtracted from each channel, on the scale of 0 to 1.
      std: divides each channel after that.
      image_tokens: P, image slots that every image takes.
    """

    mode: Literal["pad", "center_crop"]
    resize_to: int | tuple[int, int]
    crop: tuple[int, int]
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_tokens: int

    @classmethod
    def from_source(cls, source: LlavaSource, mode: str = "auto") -> "LlavaImageProcessor":
        """Reads preprocessor_config.json, or processor_config.json as transformers 5 writes it.

        Args:
          source: the base model. The original LLaVA and ShareGPT4V have the file beside their vision tower.
          mode: "auto" takes the checkpoint's own: `image_aspect_ratio` of an original config.json, else
            `do_pad` of the processor's file.

        Raises:
          UserError: no such file, a step that is switched off, or a size that is not the vision tower's.
        """
        raw, path = read_processor(source.processor_folder)
        for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            if not raw.get(step, True):
                raise UserError(f"{path}: {step} is false; only the whole CLIP preprocessing is done here")
        chosen = source.image_mode if mode == "auto" else mode
        if chosen == "auto":
            chosen = "pad" if raw.get("do_pad", False) else "center_crop"
        if chosen not in ("pad", "center_crop"):
            raise UserError(
                f"config.model.image_mode: is {mode!r}, need 'auto', 'pad' or 'center_crop' for a LLaVA"
            )
        where = str(path)
        crop, side = (
            _height_width(raw.get("crop_size", 224), f"{where}: crop_size"),
            source.config.vision.image_size,
        )
        if crop != (side, side):
            raise UserError(
                f"{path}: crop_size is {crop[0]}x{crop[1]}, but the vision tower's image_size is {side} "
                f"(vision_config.image_size, {source.tower or source.folder})"
            )
        return cls(
            mode="pad" if chosen == "pad" else "center_crop",
            resize_to=_resize_to(raw.get("size", 224), f"{where}: size"),
            crop=crop,
            resample=_resampling(raw.get("resample", int(Image.Resampling.BICUBIC)), where),
            scale=checked(raw.get("rescale_factor", 1 / 255), float, f"{where}: rescale_factor"),
            mean=checked(raw["image_mean"], tuple[float, float, float], f"{where}: image_mean"),
            std=checked(raw["image_std"], tuple[float, float, float], f"{where}: image_std"),
            image_tokens=source.config.num_image_tokens,
        )

    @property
    def feature_lengths(self) -> tuple[int, ...]:
        """All images have the same number of features."""
        return (self.image_tokens,)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the arrays depend on."""
        return asdict(self)

    def num_image_tokens(self, path: Path) -> int:
        """The same for every picture, which therefore is not opened."""
        del path
        return self.image_tokens

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB picture -> float32[H, W, 3]."""
        if self.mode == "pad":
            image = pad_to_square(image, tuple(int(part * 255) for part in self.mean))
        width, height = _target(image.size, self.resize_to)
        image = image.resize((width, height), resample=self.resample)
        crop_height, crop_width = self.crop
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        pixels = np.asarray(image.crop((left, top, left + crop_width, top + crop_height)))
        table = self._table()
        return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-1)

    def load(self, images_dir: Path, names: Sequence[str]) -> list[np.ndarray]:
        """Files -> float32[H, W, 3] each, all of one size; errors as in `read_image`."""
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(lambda name: self(read_image(images_dir, name)), names))

    def _table(self) -> np.ndarray:
        """What each byte becomes, float32[3, 256], by the operations and precisions used on pixels."""
        scaled = (np.arange(256, dtype=np.float64) * self.scale).astype(np.float32)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return (scaled[None] - mean[:, None]) / std[:, None]


def pad_to_square(image: Image.Image, color: tuple[int, ...]) -> Image.Image:
    """Puts a picture in the middle of a square; an odd pixel goes below or to the right."""
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    square = Image.new("RGB", (side, side), color)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def _target(size: tuple[int, int], resize_to: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) after resizing."""
    if isinstance(resize_to, tuple):
        return resize_to[1], resize_to[0]
    width, height = size
    if width <= height:
        return resize_to, int(resize_to * height / width)
    return int(resize_to * width / height), resize_to


def _resize_to(size: Any, where: str) -> int | tuple[int, int]:
    if isinstance(size, dict) and size.get("shortest_edge"):
        return _pixels(size["shortest_edge"], where)
    return _height_width(size, where) if isinstance(size, dict) else _pixels(size, where)


def _height_width(size: Any, where: str) -> tuple[int, int]:
    if not isinstance(size, dict):
        return (_pixels(size, where),) * 2
    return _pixels(size.get("height"), f"{where}: height"), _pixels(size.get("width"), f"{where}: width")


def _pixels(value: Any, where: str) -> int:
    if checked(value, int, where) < 1:
        raise UserError(f"{where}: is {value}, need a number of pixels")
    return value


def _resampling(value: Any, where: str) -> int:
    if checked(value, int, f"{where}: resample") not in list(Image.Resampling):
        raise UserError(f"{where}: resample is {value}, which is no filter of Pillow's")
    return value
