"""The image preprocessing of an mPLUG-Owl: pictures are resized straight to a square."""

from sare_jax.errors import UserError
from sare_jax.models.mplug_owl.source import OwlSource
from sare_jax.models.shared.square_images import CLIP_MEAN, CLIP_STD, SquareImageProcessor
from sare_jax.schema import checked, read_object

_BICUBIC = 3  # Pillow's number


def image_processor(source: OwlSource, mode: str = "auto") -> SquareImageProcessor:
    """The processor that turns pictures into arrays.

    mPLUG-Owl's own processor resizes to a square of `shortest_edge` without keeping the proportions; the
    cropping that preprocessor_config.json asks for then changes nothing.

    Args:
      source: the base model, whose folder holds preprocessor_config.json.
      mode: `model.image_mode`; only `auto` is allowed.

    Raises:
      UserError: another mode; or preprocessor_config.json has a size, filter, mean or deviation that is not
        implemented.
    """
    if mode != "auto":
        raise UserError(f"config.model.image_mode: is {mode!r}, but an mPLUG-Owl knows only 'auto'")
    path, side = source.folder / "preprocessor_config.json", source.config.vision.image_size
    raw = read_object(path)
    size = raw.get("size", side)
    found = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    stated = (
        ("size", found, side),
        ("resample", raw.get("resample", _BICUBIC), _BICUBIC),
        *(
            (key, checked(raw.get(key, own), tuple[float, float, float], f"{path}: {key}"), own)
            for key, own in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD))
        ),
    )
    for key, value, own in stated:
        if value != own:
            raise UserError(f"{path}: {key} is {value}, only {own} is computed here")
    config = source.config
    return SquareImageProcessor(side, config.num_image_tokens, config.num_image_features)
