"""Shapes and constants of a Qwen3-VL, read once from its config.json and preprocessor_config.json.

Nothing here imports jax, so text and image code can use it alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.config import TextConfig, flag, layer_count, require, section, size
from sare_jax.models.shared.qwen_vl.config import (
    DIGITS,
    PatchConfig,
    layer_numbers,
    patch_config,
    rotary_axes,
    text_config,
    tower_heads,
)

MODEL_TYPE = "qwen3_vl"


@dataclass(frozen=True)
class VisionConfig:
    """The vision transformer.

    Attributes:
      width: D_v, size of a patch's vector.
      mlp: F, width inside the MLP.
      num_layers: layers.
      num_heads: attention heads.
      table_side: side of the square grid of learned positions, from which those of any grid are interpolated.
      taps: numbers of the layers behind which DeepStack reads, rising; layers count from 0.
    """

    width: int
    mlp: int
    num_layers: int
    num_heads: int
    table_side: int
    taps: tuple[int, ...]


@dataclass(frozen=True)
class Qwen3VLConfig:
    """A Qwen3-VL.

    Attributes:
      vision: shapes of the vision tower.
      patches: how pictures are cut up, and how large they may be.
      text: shapes and constants of the language model.
      axes: for each rotary frequency the axis that turns it: 0 time, 1 height, 2 width.
      image_token_id: the id that stands in every image slot.
    """

    vision: VisionConfig
    patches: PatchConfig
    text: TextConfig
    axes: tuple[int, ...]
    image_token_id: int

    @property
    def feature_width(self) -> int:
        """Numbers of an image feature: its patches at the tower's end and behind each tap, and its place."""
        return (1 + len(self.vision.taps)) * self.vision.width * self.patches.merge**2 + DIGITS

    @classmethod
    def from_hf(
        cls, raw: Mapping[str, Any], processor: dict[str, Any], mode: str, where: str
    ) -> "Qwen3VLConfig":
        """Reads the dictionaries of config.json and preprocessor_config.json.

        Args:
          raw: the parsed config.json.
          processor: the parsed preprocessor_config.json, for the range of pixels.
          mode: `model.image_mode`.
          where: how error messages call config.json.

        Raises:
          UserError: a setting that is not implemented; names the key.
        """
        raw = dict(raw)
        if raw.get("model_type") != MODEL_TYPE:
            raise UserError(f"{where}: model_type is {raw.get('model_type')!r}, need {MODEL_TYPE!r}")
        part, inner = f"{where}: vision_config", f"{where}: text_config"
        seen, given = section(raw.get("vision_config"), part), section(raw.get("text_config"), inner)
        require(given, "attention_bias", False, inner)
        text = text_config(given, flag(raw, "tie_word_embeddings", where), inner)
        vision = _vision(seen, text, part)
        patches = patch_config(seen, processor, mode, part)
        axes = rotary_axes(given, text.head_size // 2, "interleaved", inner)
        return cls(vision, patches, text, axes, size(raw, "image_token_id", where))


def _vision(seen: dict[str, Any], text: TextConfig, where: str) -> VisionConfig:
    require(seen, "hidden_act", "gelu_pytorch_tanh", where)
    require(seen, "in_channels", 3, where)
    if seen.get("out_hidden_size") != text.width:
        raise UserError(f"{where}: out_hidden_size is {seen.get('out_hidden_size')!r}, need {text.width}")
    places = size(seen, "num_position_embeddings", where)
    side = math.isqrt(places)
    if side * side != places:
        raise UserError(f"{where}: num_position_embeddings is {places}, need the square of a number")
    layers = layer_count(seen, "depth", where)
    taps = layer_numbers(seen, "deepstack_visual_indexes", layers, where)
    if len(taps) >= text.num_layers:
        raise UserError(
            f"{where}: deepstack_visual_indexes has {len(taps)} of them, need fewer than decoder layers"
        )
    width, heads = tower_heads(seen, where)
    return VisionConfig(width, size(seen, "intermediate_size", where), layers, heads, side, taps)
