"""Image files -> RGB pictures -> normalised arrays, equal to Hugging Face's CLIP and LLaVA processors.

The reference, value by value, is the Pillow form of those processors (`CLIPImageProcessorPil` and
`LlavaImageProcessorPil` in transformers 5, the only one in 4): the published models were trained and measured
with Pillow's bicubic filter. The torchvision form, which transformers 5 takes where torchvision is installed,
rounds a few pixels in a thousand to the next of the 256 levels.

Before that, and on purpose unlike those processors, pictures are turned upright by their EXIF tag and 16-bit
gray is scaled rather than clipped (`load_image`).
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from sare_jax.errors import UserError
from sare_jax.files import read_json
from sare_jax.models.llava.source import Source
from sare_jax.progress import track

Mode = Literal["auto", "pad", "center_crop"]

_THREADS = 4  # decoding releases the interpreter lock
# How to turn a picture upright, by the value of its orientation tag (EXIF 2.3, 4.6.4 A).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class ImageError(UserError):
    """An image file that cannot be used; names the file and the reason.

    Attributes:
      reason: a few words without the path, the same for all files with the same trouble.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def load_image(path: Path) -> Image.Image:
    """Reads a picture as RGB, turned upright by its EXIF tag; the one place where that tag is applied.

    Gray, palette, one-bit and CMYK pictures are converted, and transparent ones laid on white, as Hugging
    Face's processors do it (since transformers 5; 4 and the original LLaVA drop the transparency). Two things
    differ from a plain `Image.open`, on which those processors work: the orientation tag is applied, as every
    viewer does, and 16-bit gray is scaled by 1/257, where Pillow's conversion would make everything from 256
    on white. A broken tag is ignored. Of several frames the first is read.

    Raises:
      ImageError: the file is missing, no image, truncated, or of a kind that has no colours to show.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode == "F":
                raise ImageError(path, "floating-point pixels, whose range is not known")
            return to_rgb(_upright(image))
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnidentifiedImageError:
        raise ImageError(path, "unidentified, not an image that can be read") from None
    except Image.DecompressionBombError:
        raise ImageError(path, "too many pixels to be opened safely") from None
    except ImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # on broken data Pillow's decoders raise nearly every kind there is
        raise ImageError(path, f"damaged ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode but "F" in mode RGB; what shines through is white."""
    if image.mode in _SIXTEEN_BIT:
        # Pillow would clip at 255: full scale is 65535 = 257 * 255.
        gray = np.clip((np.asarray(image).astype(np.int64) + 128) // 257, 0, 255)
        image = Image.fromarray(gray.astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the tags anew, and raises whatever there is on a broken one.
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's reader raises all kinds too; the pixels are whole, and lie as they lie
        return image
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    # The tag goes with its deed, so that nobody turns the picture again.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def usable_images(images_dir: Path, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Opens every image once, so that bad ones are known before any work is spent.

    Args:
      images_dir: folder of the images.
      names: file names in it.

    Returns:
      The names that can be used, in the order given, and name -> reason of the others.
    """
    names = list(names)

    def trouble(name: str) -> str | None:
        try:
            load_image(Path(images_dir) / name)
        except ImageError as error:
            return error.reason
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = track(pool.map(trouble, names), "check images", total=len(names), unit="image")
        reasons = dict(zip(names, found, strict=True))
    bad = {name: reason for name, reason in reasons.items() if reason is not None}
    return [name for name in names if name not in bad], bad


def require_images(images_dir: Path, names: Iterable[str]) -> None:
    """Checks that all images are there.

    Raises:
      UserError: lists all that are missing.
    """
    paths = [Path(images_dir) / name for name in dict.fromkeys(names)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(paths)} images are missing: {', '.join(missing)}")


@dataclass(frozen=True)
class ImageProcessor:
    """Resizes, crops and normalises pictures.

    Attributes:
      mode: "pad" (to a square in the mean colour, the original LLaVA) or "center_crop" (llava-hf, EFUF).
      resize_to: length of the shorter side after resizing, or (height, width).
      crop: (height, width) of the result.
      resample: Pillow's number of the filter; 3 is bicubic.
      scale: factor from a byte to the scale of `mean`.
      mean: of each channel.
      std: of each channel.
    """

    mode: Literal["pad", "center_crop"]
    resize_to: int | tuple[int, int]
    crop: tuple[int, int]
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_source(cls, source: Source, mode: Mode = "auto") -> "ImageProcessor":
        """Reads preprocessor_config.json, or processor_config.json as transformers 5 writes it.

        Args:
          source: the base model. The original LLaVA and ShareGPT4V have the file beside their vision tower.
          mode: "auto" takes the checkpoint's own: `image_aspect_ratio` of an original config.json, else
            `do_pad` of the processor's file.

        Raises:
          UserError: no such file, a step that is switched off, or a size that is not the vision tower's.
        """
        raw, path = _read_settings(source.processor_folder)
        for step in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            if not raw.get(step, True):
                raise UserError(f"{path}: {step} is false; only the whole CLIP preprocessing is done here")
        if mode == "auto":
            mode = source.image_mode
        if mode == "auto":
            mode = "pad" if raw.get("do_pad", False) else "center_crop"
        elif mode not in ("pad", "center_crop"):
            raise UserError(f"image mode is {mode!r}, need 'auto', 'pad' or 'center_crop'")
        crop, side = _height_width(raw.get("crop_size", 224)), source.config.vision.image_size
        if crop != (side, side):
            raise UserError(
                f"{path}: crop_size is {crop[0]}x{crop[1]}, but the vision tower's image_size is {side} "
                f"(vision_config.image_size, {source.tower or source.folder})"
            )
        return cls(
            mode=mode,
            resize_to=_resize_to(raw.get("size", 224)),
            crop=crop,
            resample=int(raw.get("resample", Image.Resampling.BICUBIC)),
            scale=raw.get("rescale_factor", 1 / 255),
            mean=tuple(raw["image_mean"]),
            std=tuple(raw["image_std"]),
        )

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

    def load(self, images_dir: Path, names: Sequence[str]) -> np.ndarray:
        """Files -> float32[n, H, W, 3]; errors as in `load_image`."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(lambda name: self(load_image(Path(images_dir) / name)), names)))

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


def _read_settings(folder: Path) -> tuple[dict[str, Any], Path]:
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return _with_means(read_json(path), path), path
    path = folder / "processor_config.json"
    if path.is_file() and "image_processor" in (nested := read_json(path)):
        return _with_means(nested["image_processor"], path), path
    raise UserError(
        f"{folder}: no image processor; looked for preprocessor_config.json and for 'image_processor' in "
        "processor_config.json. Copy the file from the model's page on the hub"
    )


def _with_means(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("image_mean", "image_std"):
        if not isinstance(raw.get(key), list) or len(raw[key]) != 3:
            raise UserError(f"{path}: {key} is {raw.get(key)!r}, need three numbers")
    return raw


def _resize_to(size: int | dict[str, int]) -> int | tuple[int, int]:
    if isinstance(size, dict):
        return size["shortest_edge"] if size.get("shortest_edge") else (size["height"], size["width"])
    return size


def _height_width(size: int | dict[str, int]) -> tuple[int, int]:
    return (size["height"], size["width"]) if isinstance(size, dict) else (size, size)
