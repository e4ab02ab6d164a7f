"""Pictures from files, upright and in RGB.

Two things are on purpose unlike Hugging Face's processors: pictures are turned upright by their EXIF tag, and
16-bit gray is scaled rather than clipped (`load_image`).
"""

import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from sare_jax.errors import UserError
from sare_jax.progress import track

MOST_PIXELS = 50_000_000
"""Pixels of the largest image that is read, where nothing else is asked for: 150 MB when it is decoded."""
LARGEST = 178_956_970
"""The most that can be asked for: from there on Pillow refuses."""
T = TypeVar("T")
THREADS = 4  # decoding releases the interpreter lock
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
_SIDEWAYS = (5, 6, 7, 8)  # values of the tag that make the width the height
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class ImageError(UserError):
    """An image file that cannot be used; names the file and the reason.

    Attributes:
      reason: a few words without the path, the same for all files with the same trouble.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def image_path(folder: Path, name: str) -> Path:
    """The path of a name in a folder, also where this process's locale cannot spell it."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        name = os.fsdecode(name.encode("utf-8", "surrogatepass"))
    return Path(folder) / name


def find_image(folder: Path, name: str) -> Path:
    """The path of an image of an image folder: a regular file, which lies in it after links are followed.

    Raises:
      ImageError: it is none; `reason` is `outside the folder`, `missing`, `no regular file` or `name
        impossible`.
    """
    path = image_path(folder, name)
    try:
        if not path.resolve().is_relative_to(Path(folder).resolve()):
            raise ImageError(path, "outside the folder")
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(path, "no regular file")
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(path, "missing") from None
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL in it, or links that go in a circle
        raise ImageError(path, "name impossible") from None
    return path


def check_image(folder: Path, name: str, max_pixels: int = MOST_PIXELS) -> Path:
    """As `find_image`; also refuses what is no image or too large, by its header alone.

    Raises:
      ImageError: there is no such image.
    """
    path = find_image(folder, name)
    _opened(path, max_pixels, lambda image: None)
    return path


def read_image(folder: Path, name: str, max_pixels: int = LARGEST) -> Image.Image:
    """The picture of an image of an image folder; as `find_image` and `load_image`."""
    return load_image(find_image(folder, name), max_pixels)


def load_image(path: Path, max_pixels: int = LARGEST) -> Image.Image:
    """Reads a picture as RGB, turned upright by its EXIF tag; the one place where that tag is applied.

    Gray, palette, one-bit and CMYK pictures are converted, and transparent ones laid on white, as Hugging
    Face's processors do it (since transformers 5; 4 and the original LLaVA drop the transparency). Two things
    differ from a plain `Image.open`, on which those processors work: the orientation tag is applied, as every
    viewer does, and 16-bit gray is scaled by 1/257, where Pillow's conversion would make everything from 256
    on white. A broken tag is ignored. Of several frames the first is read.

    Args:
      path: the file; of an image folder's, `find_image` gives it.
      max_pixels: width times height beyond which it is not decoded.

    Raises:
      ImageError: the file is missing, no image, truncated, too large, or of a kind without colours to show.
    """

    def decoded(image: Image.Image) -> Image.Image:
        image.load()
        if image.mode == "F":
            raise ImageError(path, "floating-point pixels, whose range is not known")
        return to_rgb(_upright(image))

    return _opened(path, max_pixels, decoded)


def image_size(path: Path, max_pixels: int = LARGEST) -> tuple[int, int]:
    """Width and height of the picture that `load_image` gives, by the file's header; errors as there."""

    def size(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        if image.format == "TIFF":  # Pillow turns it itself, and its size with it
            return width, height
        return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)

    return _opened(path, max_pixels, size)


def _opened(path: Path, max_pixels: int, use: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    path, f"too many pixels ({width} x {height}; data.max_pixels allows {max_pixels})"
                )
            return use(image)
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
    """A picture of any mode but "F" in mode RGB, transparent parts on white."""
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
    orientation = _orientation(image)
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    # The tag is dropped, so that nobody turns the picture a second time.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def _orientation(image: Image.Image) -> int | None:
    """Value of the orientation tag; None where there is none, or a broken one."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's reader raises all kinds too; the pixels are whole, and lie as they lie
        return None


def usable_images(
    images_dir: Path, names: Iterable[str], max_pixels: int = MOST_PIXELS
) -> tuple[list[str], dict[str, str]]:
    """Opens every image once, so that bad ones are known before any work is spent.

    Args:
      images_dir: folder of the images.
      names: file names in it.
      max_pixels: the most that an image may have.

    Returns:
      The names that can be used, in the order given, and name -> reason of the others.
    """
    names = list(names)

    def trouble(name: str) -> str | None:
        try:
            read_image(images_dir, name, max_pixels)
        except ImageError as error:
            return error.reason
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            troubles = track(pool.map(trouble, names), "check images", total=len(names), unit="image")
            reasons = dict(zip(names, troubles, strict=True))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # or Ctrl-C would wait for all of them
            raise
    bad = {name: reason for name, reason in reasons.items() if reason is not None}
    return [name for name in names if name not in bad], bad


def require_images(images_dir: Path, names: Iterable[str], max_pixels: int = MOST_PIXELS) -> None:
    """Checks that all images are there, in the folder, and of a size that is read; their headers are opened.

    Raises:
      UserError: lists all that are not, with the reasons.
    """
    named = list(dict.fromkeys(names))
    refused = []
    for name in named:
        try:
            check_image(images_dir, name, max_pixels)
        except ImageError as error:
            refused.append(str(error))
    if refused:
        raise UserError(f"{len(refused)} of {len(named)} images cannot be used: {', '.join(refused)}")
