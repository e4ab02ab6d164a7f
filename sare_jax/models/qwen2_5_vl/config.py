"""Shapes and constants of a Qwen2.5-VL, read once from its config.json and preprocessor_config.json.

Nothing here imports jax, so text and image code can use it alone.
"""

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

MODEL_TYPE = "qwen2_5_vl"


@dataclass(frozen=True)
class VisionConfig:
    """The vision transformer.

    Attributes:
      width: D_v, size of a patch's vector.
      mlp: F, width inside the MLP.
      num_layers: layers.
      num_heads: attention heads.
      window: side of the square within which most layers attend, in image tokens.
      whole: numbers of the layers that attend to the whole picture, rising; layers count from 0.
    """

    width: int
    mlp: int
    num_layers: int
    num_heads: int
    window: int
    whole: tuple[int, ...]


@dataclass(frozen=True)
class Qwen25VLConfig:
    """A Qwen2.5-VL.

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
        """Numbers of an image feature: its patches at the tower's end, and its place."""
        return self.vision.width * self.patches.merge**2 + DIGITS

    @classmethod
    def from_hf(
        cls, raw: Mapping[str, Any], processor: dict[str, Any], mode: str, where: str
    ) -> "Qwen25VLConfig":
        """Reads the dictionaries of config.json and preprocessor_config.json.

        Args:
          raw: the parsed config.json; the language model's keys stand in `text_config`, or at the top level
            as in the published files.
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
        seen = section(raw.get("vision_config"), part)
        given = section(raw.get("text_config"), inner) or raw
        text = text_config(given, flag(raw, "tie_word_embeddings", where), inner)
        patches = patch_config(seen, processor, mode, part)
        vision = _vision(seen, text, patches, part)
        axes = rotary_axes(given, text.head_size // 2, "sections", inner)
        return cls(vision, patches, text, axes, size(raw, "image_token_id", where))


def _vision(seen: dict[str, Any], text: TextConfig, patches: PatchConfig, where: str) -> VisionConfig:
    require(seen, "hidden_act", "silu", where)
    for key in ("in_channels", "in_chans"):
        require(seen, key, 3, where)
    if seen.get("out_hidden_size") != text.width:
        raise UserError(f"{where}: out_hidden_size is {seen.get('out_hidden_size')!r}, need {text.width}")
    side = size(seen, "window_size", where)
    if side % patches.factor:
        raise UserError(f"{where}: window_size is {side}, need a multiple of {patches.factor} pixels")
    layers = layer_count(seen, "depth", where)
    width, heads = tower_heads(seen, where)
    return VisionConfig(
        width=width,
        mlp=size(seen, "intermediate_size", where),
        num_layers=layers,
        num_heads=heads,
        window=side // patches.factor,
        whole=layer_numbers(seen, "fullatt_block_indexes", layers, where),
    )
