"""Shapes and constants of an mPLUG-Owl, read once from its `config.json`.

Nothing here imports jax, so text and image code can use it alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.config import (
    TextConfig,
    VisionConfig,
    layer_count,
    positive,
    require,
    section,
    size,
    text_config,
    vision_config,
)

MODEL_TYPE = "mplug-owl"
# What a key means when a config.json leaves it out: the defaults of the published classes.
_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-6,
}
_ABSTRACTOR = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "layer_norm_eps": 1e-6,
}


@dataclass(frozen=True)
class AbstractorConfig:
    """The visual abstractor: learned queries that look at an image's tokens.

    Attributes:
      mlp: F, width inside the MLP.
      num_layers: layers, each with an attention and an MLP.
      num_heads: attention heads; divides the width.
      num_queries: learned queries, one for each image token but the end token.
      eps: added to the variance in the LayerNorm inside the MLP; the layer's other norms have 1e-5.
    """

    mlp: int
    num_layers: int
    num_heads: int
    num_queries: int
    eps: float


@dataclass(frozen=True)
class OwlConfig:
    """An mPLUG-Owl: a vision tower of CLIP's kind, the visual abstractor, LLaMA.

    Attributes:
      vision: shapes of the vision tower.
      abstractor: shapes of the visual abstractor, which is as wide as the tower.
      text: shapes and constants of the LLaMA.
    """

    vision: VisionConfig
    abstractor: AbstractorConfig
    text: TextConfig

    @property
    def num_image_features(self) -> int:
        """Tokens of the tower, the class token among them: 257."""
        return self.vision.num_patches + 1

    @property
    def num_image_tokens(self) -> int:
        """P, image slots that one image takes in the text: one a query and the end token, 65."""
        return self.abstractor.num_queries + 1

    @property
    def image_token_id(self) -> int:
        """Stands in the image slots: the first id beyond the vocabulary; mPLUG-Owl's own code has -1."""
        return self.text.vocab_size

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], where: str = "config.json") -> "OwlConfig":
        """Reads the dictionary of an mPLUG-Owl's `config.json`.

        Args:
          raw: the parsed file.
          where: how error messages call the file.

        Raises:
          UserError: a setting that is not implemented; names the key.
        """
        if raw.get("model_type") != MODEL_TYPE:
            raise UserError(f"{where}: model_type is {raw.get('model_type')!r}, need {MODEL_TYPE!r}")
        vision = _vision(raw.get("vision_config"), f"{where}: vision_config")
        part = f"{where}: visual_abstractor_config"
        own = {**_ABSTRACTOR, **section(raw.get("visual_abstractor_config"), part)}
        require(own, "model_type", "mplug_owl_visual_abstract", part)
        for key in ("hidden_size", "encoder_hidden_size"):
            if own.get(key, vision.width) != vision.width:
                raise UserError(f"{part}: {key} is {own[key]}, need the tower's {vision.width}")
        heads = size(own, "num_attention_heads", part)
        if vision.width % heads:
            raise UserError(f"{part}: {heads} heads do not divide {vision.width}")
        text = text_config(raw.get("text_config"), False, f"{where}: text_config")
        if text.tied:
            raise UserError(
                f"{where}: text_config.tie_word_embeddings is true; mPLUG-Owl has a head of its own"
            )
        abstractor = AbstractorConfig(
            mlp=size(own, "intermediate_size", part),
            num_layers=layer_count(own, "num_hidden_layers", part),
            num_heads=heads,
            num_queries=size({"num_query_tokens": 64, **raw}, "num_query_tokens", where),
            eps=positive(own["layer_norm_eps"], f"{part}: layer_norm_eps"),
        )
        return cls(vision, abstractor, text)


def _vision(given: Any, where: str) -> VisionConfig:
    values = section(given, where)
    require(values, "model_type", "mplug_owl_vision_model", where)
    return vision_config({**_VISION, **values, "model_type": "clip_vision_model"}, where)
