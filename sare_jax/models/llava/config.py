"""Shapes and constants of a LLaVA-type model, read once from a Hugging Face `config.json`.

Nothing here imports jax, so text and image code can use it alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.files import read_json

# What a key means when a config.json leaves it out: the defaults of Hugging Face's CLIPVisionConfig and
# LlamaConfig, which the published files rely on (llava-1.5-7b-hf names only five keys of its text model).
_VISION_DEFAULTS = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_TEXT_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
}
VISION_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclass(frozen=True)
class VisionConfig:
    """A CLIP vision transformer.

    Attributes:
      width: D_v, size of a token's vector.
      mlp: F, width inside the MLP.
      num_layers: layers in the checkpoint; how many are run follows from `LlavaConfig.feature_layer`.
      num_heads: attention heads.
      channels: colour channels of the input.
      image_size: side of the square input, pixels.
      patch_size: side of a patch, pixels.
      activation: "quick_gelu" or "gelu" (exact).
      eps: of every LayerNorm.
    """

    width: int
    mlp: int
    num_layers: int
    num_heads: int
    channels: int
    image_size: int
    patch_size: int
    activation: str
    eps: float

    @property
    def num_patches(self) -> int:
        """Patches of an image, without the class token."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class TextConfig:
    """A LLaMA decoder.

    Attributes:
      vocab_size: V, rows of the embedding table.
      width: D.
      mlp: F.
      num_layers: L.
      num_heads: N, query heads.
      num_kv_heads: K, key and value heads; N / K queries share one.
      head_size: H.
      rope_theta: base of the rotary frequencies.
      eps: of every RMSNorm.
      tied: the head is the embedding table.
    """

    vocab_size: int
    width: int
    mlp: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    rope_theta: float
    eps: float
    tied: bool


@dataclass(frozen=True)
class LlavaConfig:
    """A LLaVA: CLIP tower, two-layer projector with exact GELU, LLaMA.

    Attributes:
      vision: the tower.
      text: the language model.
      image_token_id: the token whose embedding is replaced by an image feature.
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
        """P, the places that one image takes in the text: 576 for LLaVA-1.5."""
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
          source: what errors call it.

        Raises:
          UserError: a setting that this implementation does not compute; names the key.
        """
        if raw.get("model_type") != "llava":
            raise UserError(f"{source}: model_type is {raw.get('model_type')!r}, need 'llava'")
        if "mm_vision_tower" in raw and "vision_config" not in raw:
            raise UserError(f"{source}: is of LLaVA's original form, which has the tower's shape elsewhere")
        vision = vision_config(raw.get("vision_config") or {}, f"{source}: vision_config")
        tied = bool(raw.get("tie_word_embeddings", False))
        text = text_config(raw.get("text_config") or {}, tied, f"{source}: text_config")
        require(raw, "projector_hidden_act", "gelu", source)
        require(raw, "multimodal_projector_bias", True, source)
        layer = feature_layer(raw, "vision_feature_layer", vision, source)
        strategy = raw.get("vision_feature_select_strategy", "default")
        if strategy not in ("default", "full"):
            raise UserError(
                f"{source}: vision_feature_select_strategy is {strategy!r}, need 'default' or 'full'"
            )
        image_token = raw.get("image_token_index", raw.get("image_token_id", 32000))
        return cls(vision, text, int(image_token), layer, strategy == "full")


def read_config(folder: Path) -> LlavaConfig:
    """Reads `folder`/config.json; errors as in `LlavaConfig.from_hf`."""
    path = Path(folder) / "config.json"
    return LlavaConfig.from_hf(read_json(path), str(path))


def image_slots(image_size: int, patch_size: int, additional: int, strategy: str) -> int:
    """Number of image tokens an image takes in the text.

    Args:
      image_size: side of the square input, pixels.
      patch_size: side of a patch, pixels.
      additional: tokens that the encoder adds to the patches (1: a class token; 0: none).
      strategy: "default" drops one of them, "full" keeps all.
    """
    return (image_size // patch_size) ** 2 + additional - (strategy == "default")


def vision_config(given: dict[str, Any], where: str) -> VisionConfig:
    """Reads the keys of a CLIPVisionConfig; `where` is what errors call them."""
    values = {**_VISION_DEFAULTS, **given}
    require(values, "model_type", "clip_vision_model", where)
    if values["hidden_act"] not in VISION_ACTIVATIONS:
        raise UserError(f"{where}.hidden_act is {values['hidden_act']!r}, need one of {VISION_ACTIVATIONS}")
    for key in ("image_size", "patch_size"):
        if not isinstance(values[key], int):
            raise UserError(f"{where}.{key} is {values[key]!r}, need one number")
    _divides(values["num_attention_heads"], values["hidden_size"], f"{where}.hidden_size")
    return VisionConfig(
        width=values["hidden_size"],
        mlp=values["intermediate_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=values["num_attention_heads"],
        channels=values["num_channels"],
        image_size=values["image_size"],
        patch_size=values["patch_size"],
        activation=values["hidden_act"],
        eps=values["layer_norm_eps"],
    )


def text_config(given: dict[str, Any], tied: bool, where: str) -> TextConfig:
    """Reads the keys of a LlamaConfig; `where` is what errors call them, `tied` as a level above says."""
    values = {**_TEXT_DEFAULTS, **given}
    for key, value in {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }.items():
        require(values, key, value, where)
    heads = values["num_attention_heads"]
    _divides(heads, values["hidden_size"], f"{where}.hidden_size")
    kv_heads = values.get("num_key_value_heads") or heads
    _divides(kv_heads, heads, f"{where}.num_attention_heads")
    return TextConfig(
        vocab_size=values["vocab_size"],
        width=values["hidden_size"],
        mlp=values["intermediate_size"],
        num_layers=values["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=values.get("head_dim") or values["hidden_size"] // heads,
        rope_theta=_rope_theta(values, where),
        eps=values["rms_norm_eps"],
        tied=tied or bool(values.get("tie_word_embeddings", False)),
    )


def _rope_theta(values: dict[str, Any], where: str) -> float:
    """Base of the rotary frequencies: `rope_parameters` in transformers 5, flat keys in 4."""
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f"{where}: rope type is {kind!r}, only 'default' (no scaling) is computed here")
    return float(rope.get("rope_theta", values.get("rope_theta", 10000.0)))


def feature_layer(raw: dict[str, Any], key: str, vision: VisionConfig, where: str) -> int:
    """Which of the tower's hidden states is read, -2 where `key` is missing."""
    layer = raw.get(key, -2)
    if not isinstance(layer, int) or not -vision.num_layers - 1 <= layer <= vision.num_layers:
        raise UserError(
            f"{where}: {key} is {layer!r}, need one number within the {vision.num_layers} layers of the "
            "vision tower"
        )
    return layer


def require(values: dict[str, Any], key: str, needed: Any, where: str) -> None:
    """Refuses a setting other than the one that is computed; a missing one counts as that."""
    if values.get(key, needed) != needed:
        raise UserError(f"{where}: {key} is {values[key]!r}, only {needed!r} is computed here")


def _divides(parts: int, whole: int, where: str) -> None:
    if whole % parts:
        raise UserError(f"{where} is {whole}, which {parts} heads do not divide")
