"""Shapes and constants of a LLaVA-type model, read once from a Hugging Face `config.json`.

Nothing here imports jax, so text and image code can use it alone.
"""

from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.config import (
    TextConfig,
    VisionConfig,
    flag,
    require,
    size,
    text_config,
    vision_config,
)


@dataclass(frozen=True)
class LlavaConfig:
    """A LLaVA: CLIP tower, two-layer projector with exact GELU, LLaMA.

    Attributes:
      vision: shapes of the CLIP tower.
      text: shapes and constants of the LLaMA.
      image_token_id: the id that stands in every image slot.
      feature_layer: index into the tower's hidden states (the embeddings are number 0); -2 in LLaVA-1.5.
      keep_class_token: "full" strategy; "default" drops the class token.
    """

    vision: VisionConfig
    text: TextConfig
    image_token_id: int
    feature_layer: int
    keep_class_token: bool

    @property
    def num_image_tokens(self) -> int:
        """P, image slots that one image takes in the text: 576 for LLaVA-1.5."""
        strategy = "full" if self.keep_class_token else "default"
        return image_slots(self.vision.image_size, self.vision.patch_size, 1, strategy)

    @property
    def num_vision_layers_run(self) -> int:
        """Layers of the tower that lie before the chosen hidden state; the rest is never computed."""
        if self.feature_layer < 0:
            return self.vision.num_layers + 1 + self.feature_layer
        return self.feature_layer

    @classmethod
    def from_hf(cls, raw: dict[str, Any], source: str = "config.json") -> "LlavaConfig":
        """Reads the dictionary of a LLaVA `config.json`, as transformers 4 or 5 writes it.

        Args:
          raw: the parsed file.
          source: how error messages call the file.

        Raises:
          UserError: a setting that is not implemented; names the key.
        """
        if raw.get("model_type") != "llava":
            raise UserError(f"{source}: model_type is {raw.get('model_type')!r}, need 'llava'")
        if "mm_vision_tower" in raw and "vision_config" not in raw:
            raise UserError(f"{source}: is of LLaVA's original form, which has the tower's shape elsewhere")
        vision = vision_config(raw.get("vision_config"), f"{source}: vision_config")
        tied = flag(raw, "tie_word_embeddings", source)
        text = text_config(raw.get("text_config"), tied, f"{source}: text_config")
        require(raw, "projector_hidden_act", "gelu", source)
        require(raw, "multimodal_projector_bias", True, source)
        layer = feature_layer(raw, "vision_feature_layer", vision, source)
        strategy = raw.get("vision_feature_select_strategy", "default")
        if strategy not in ("default", "full"):
            raise UserError(
                f"{source}: vision_feature_select_strategy is {strategy!r}, need 'default' or 'full'"
            )
        return cls(vision, text, _image_token(raw, source), layer, strategy == "full")


def image_slots(image_size: int, patch_size: int, additional: int, strategy: str) -> int:
    """Number of image tokens an image takes in the text.

    Args:
      image_size: side of the square input, pixels.
      patch_size: side of a patch, pixels.
      additional: tokens that the encoder adds to the patches (1: a class token; 0: none).
      strategy: "default" drops one of them, "full" keeps all.
    """
    return (image_size // patch_size) ** 2 + additional - (strategy == "default")


def feature_layer(raw: dict[str, Any], key: str, vision: VisionConfig, where: str) -> int:
    """Index of the tower's hidden state that is read; -2 where `raw` lacks `key`.

    Raises:
      UserError: it is not the output of one of the tower's layers; the embeddings, number 0, are not read.
    """
    layer, last = raw.get(key, -2), vision.num_layers
    if type(layer) is not int or not 1 <= abs(layer) <= last:
        raise UserError(
            f"{where}: {key} is {layer!r}, need one number from 1 to {last} or from -{last} to -1, that of a "
            "layer of the vision tower"
        )
    return layer


def _image_token(raw: dict[str, Any], source: str) -> int:
    """The image token, which older and newer files call differently; 32000 where they leave it out."""
    keys = [key for key in ("image_token_index", "image_token_id") if raw.get(key) is not None]
    tokens = {key: size(raw, key, source) for key in keys} or {"image_token_index": 32000}
    if len(set(tokens.values())) > 1:
        raise UserError(f"{source}: image_token_index and image_token_id differ: {list(tokens.values())}")
    return next(iter(tokens.values()))
