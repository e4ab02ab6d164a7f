"""What the config files of the Qwen-VLs have in common.

Nothing here imports jax, so text and image code can use it alone.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sare_jax.errors import UserError
from sare_jax.models.shared.config import TextConfig, flag, layer_count, positive, require, section, size
from sare_jax.schema import checked, whole_number

AXES = 3  # time, height, width
DIGITS = 4  # columns of the row and the column of an image token, see `positions`
_GROWTH = 1.25  # of the numbers of image tokens to which images are padded
_MOST_SLENDER = 200  # longer side by shorter side, of images that are resized
_RANGE = re.compile(r"(\d+)-(\d+)")


@dataclass(frozen=True)
class PatchConfig:
    """How pictures are cut up, and into how many image tokens at most.

    Attributes:
      side: side of a patch, pixels.
      frames: frames that a patch reaches over; those of a picture are all the same.
      merge: patches along either side of the square that becomes one image token.
      fewest_pixels: smaller pictures are enlarged to this area.
      most_pixels: larger pictures are reduced to this area.
    """

    side: int
    frames: int
    merge: int
    fewest_pixels: int
    most_pixels: int

    @property
    def factor(self) -> int:
        """Side of the square of one image token, pixels; divides the sides of resized pictures."""
        return self.side * self.merge

    @property
    def largest_picture(self) -> tuple[int, int]:
        """Shape of the largest picture as the image processor gives it: patches, and the numbers of each."""
        return self.most_tokens * self.merge**2, 3 * self.side**2 + 2

    @property
    def most_tokens(self) -> int:
        """Image tokens of the largest image. A slender one may have more pixels than `most_pixels`."""
        fewest, slender = math.sqrt(self.fewest_pixels) / self.factor, math.sqrt(_MOST_SLENDER)
        enlarged = math.ceil(fewest**2 + fewest * (slender + 1 / slender) + 1)
        reduced = math.floor(math.sqrt(self.most_pixels) * slender / self.factor)
        whole = self.most_pixels // self.factor**2
        return max(whole, enlarged, reduced)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The few numbers of tokens to which images are padded, rising, each a quarter above the last."""
        lengths = [max(1, self.fewest_pixels // self.factor**2)]
        while lengths[-1] < self.most_tokens:
            lengths.append(math.ceil(lengths[-1] * _GROWTH))
        return (*lengths[:-1], self.most_tokens)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to: `smart_resize` of the published processors.

        Raises:
          ValueError: one side is more than 200 times as long as the other.
        """
        factor, area = self.factor, height * width
        if max(height, width) > _MOST_SLENDER * min(height, width):
            raise ValueError(f"{width} x {height} pixels: one side is over {_MOST_SLENDER} times the other")
        sides = tuple(round(side / factor) * factor for side in (height, width))
        if sides[0] * sides[1] > self.most_pixels:
            shrink = math.sqrt(area / self.most_pixels)
            sides = tuple(max(factor, math.floor(s / shrink / factor) * factor) for s in (height, width))
        elif sides[0] * sides[1] < self.fewest_pixels:
            grow = math.sqrt(self.fewest_pixels / area)
            sides = tuple(math.ceil(side * grow / factor) * factor for side in (height, width))
        return sides[0], sides[1]


class QwenConfig(Protocol):
    """What the shared code needs to know of a family's config."""

    @property
    def patches(self) -> PatchConfig:
        """How pictures are cut up."""
        ...

    @property
    def text(self) -> TextConfig:
        """Shapes of the language model."""
        ...

    @property
    def axes(self) -> tuple[int, ...]:
        """For each of the H / 2 rotary frequencies the axis that turns it: 0 time, 1 height, 2 width."""
        ...

    @property
    def image_token_id(self) -> int:
        """Stands in every image slot."""
        ...


def pixel_range(raw: dict[str, Any], mode: str, where: str) -> tuple[int, int]:
    """Fewest and most pixels of a resized picture.

    Args:
      raw: the parsed preprocessor_config.json.
      mode: `model.image_mode`: `auto` for the file's, or `FEWEST-MOST`.
      where: how error messages call the file.

    Raises:
      UserError: another mode; or the file has no range.
    """
    area = section(raw.get("size"), f"{where}: size")
    keys = (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge"))
    if mode == "auto":
        # As in transformers, null is as if the key were not there.
        given = ((own, area.get(edge) if raw.get(own) is None else raw[own]) for own, edge in keys)
        fewest, most = (checked(value, int, f"{where}: {own}") for own, value in given)
        called = where
    else:
        match = _RANGE.fullmatch(mode)
        ends = [whole_number(digits) for digits in match.groups()] if match else [None, None]
        if ends[0] is None or ends[1] is None:
            raise UserError(
                f"config.model.image_mode: is {mode!r}, need 'auto' or 'FEWEST-MOST' pixels for a Qwen-VL, "
                "such as '65536-409600'"
            )
        fewest, most = ends[0], ends[1]
        called = "config.model.image_mode"
    if not 0 < fewest <= most:
        raise UserError(f"{called}: {fewest} to {most} pixels, need the fewest first, and above 0")
    return fewest, most


def patch_config(seen: dict[str, Any], processor: dict[str, Any], mode: str, where: str) -> PatchConfig:
    """How pictures are cut up.

    Args:
      seen: the section of the vision tower in config.json.
      processor: the parsed preprocessor_config.json, for the range of pixels.
      mode: `model.image_mode`.
      where: how error messages call the section.

    Raises:
      UserError: a size is missing or out of range, or there is no range of pixels.
    """
    fewest, most = pixel_range(processor, mode, "preprocessor_config.json")
    return PatchConfig(
        side=size(seen, "patch_size", where),
        frames=size(seen, "temporal_patch_size", where),
        merge=size(seen, "spatial_merge_size", where),
        fewest_pixels=fewest,
        most_pixels=most,
    )


def layer_numbers(seen: dict[str, Any], key: str, layers: int, where: str) -> tuple[int, ...]:
    """Rising numbers of the vision tower's layers, which count from 0; at least one.

    Raises:
      UserError: it is something else.
    """
    numbers = checked(seen.get(key), tuple[int, ...], f"{where}: {key}")
    if not numbers or list(numbers) != sorted({number for number in numbers if 0 <= number < layers}):
        raise UserError(
            f"{where}: {key} is {list(numbers)}, need rising numbers of the tower's {layers} layers"
        )
    return numbers


def tower_heads(seen: dict[str, Any], where: str) -> tuple[int, int]:
    """Width and heads of the vision tower, whose rotary positions need heads of four equal parts.

    Raises:
      UserError: the heads do not divide the width so.
    """
    width, heads = size(seen, "hidden_size", where), size(seen, "num_heads", where)
    if width % (4 * heads):
        raise UserError(f"{where}: hidden_size is {width}, which {heads} heads of four parts do not divide")
    return width, heads


def text_config(given: dict[str, Any], tied: bool, where: str) -> TextConfig:
    """Shapes of a Qwen's language model.

    Args:
      given: its section of config.json, or the top level of an older file.
      tied: `tie_word_embeddings` of the level above; the section's own is followed too.
      where: how error messages call the section.

    Raises:
      UserError: a setting that is not implemented, or a value out of range; names the key.
    """
    require(given, "hidden_act", "silu", where)
    require(given, "use_sliding_window", False, where)
    width, heads = size(given, "hidden_size", where), size(given, "num_attention_heads", where)
    values = {"num_key_value_heads": heads, "head_dim": width // heads}
    values |= {key: value for key, value in given.items() if value is not None}
    kv_heads = size(values, "num_key_value_heads", where)
    if heads % kv_heads or width % heads:
        raise UserError(f"{where}: {heads} heads, {kv_heads} of keys, do not divide hidden_size {width}")
    return TextConfig(
        vocab_size=size(values, "vocab_size", where),
        width=width,
        mlp=size(values, "intermediate_size", where),
        num_layers=layer_count(values, "num_hidden_layers", where),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=size(values, "head_dim", where),
        rope_theta=positive(_rope(values, where).get("rope_theta"), f"{where}: rope_theta"),
        eps=positive(values.get("rms_norm_eps"), f"{where}: rms_norm_eps"),
        tied=tied or flag(values, "tie_word_embeddings", where),
    )


def rotary_axes(
    given: dict[str, Any], half: int, order: Literal["interleaved", "sections"], where: str
) -> tuple[int, ...]:
    """The axis that turns each rotary frequency.

    Args:
      given: as in `text_config`.
      half: H / 2, number of frequencies.
      order: `interleaved` deals them to time, height and width in turn, and what is left to time; `sections`
        gives each axis a run of its own.
      where: how error messages call the section.

    Raises:
      UserError: mrope_section is missing, or does not fit the number of frequencies.
    """
    key = f"{where}: mrope_section"
    counts = checked(_rope(given, where).get("mrope_section"), tuple[int, int, int], key)
    if sum(counts) != half or min(counts) < 0:
        raise UserError(f"{key} is {list(counts)}, need {AXES} counts whose sum is {half}")
    if order == "sections":
        return tuple(axis for axis, count in enumerate(counts) for _ in range(count))
    axes = [0] * half
    for axis in (1, 2):
        axes[axis : AXES * counts[axis] : AXES] = [axis] * len(axes[axis : AXES * counts[axis] : AXES])
    return tuple(axes)


def _rope(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Settings of rotary positions: `rope_parameters` in transformers 5, `rope_scaling` and flat keys in 4.

    Raises:
      UserError: positions are scaled.
    """
    rope: dict[str, Any] = {"rope_theta": values.get("rope_theta")}
    for key in ("rope_scaling", "rope_parameters"):
        rope |= section(values.get(key), f"{where}: {key}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise UserError(f"{where}: rope type is {kind!r}, only 'default' (no scaling) is computed here")
    return rope
