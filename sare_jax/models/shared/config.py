"""Shapes of a CLIP vision tower and a LLaMA decoder, read from the sections of a Hugging Face `config.json`.

Nothing here imports jax, so text and image code can use it alone.
"""

import sys
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.schema import LARGEST, checked

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
_MOST_LAYERS = 10_000  # far more than any model has; names are listed layer by layer
VISION_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclass(frozen=True)
class VisionConfig:
    """A CLIP vision transformer.

    Attributes:
      width: D_v, size of a token's vector.
      mlp: F, width inside the MLP.
      num_layers: layers in the checkpoint; a model may run fewer of them.
      num_heads: attention heads.
      channels: colour channels of the input.
      image_size: side of the square input, pixels.
      patch_size: side of a patch, pixels.
      activation: "quick_gelu" or "gelu" (exact).
      eps: added to the variance in every LayerNorm.
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
      width: D, size of a token's vector.
      mlp: F, width inside the MLP.
      num_layers: L, number of layers.
      num_heads: N, query heads.
      num_kv_heads: K, key and value heads; N / K query heads share one.
      head_size: H, size of a head's query, key and value.
      rope_theta: base of the rotary frequencies.
      eps: added to the mean square in every RMSNorm.
      tied: whether the head is the embedding table, so that no head is stored.
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


def vision_config(given: Any, where: str) -> VisionConfig:
    """Reads the keys of a CLIPVisionConfig; `where` is how error messages call the section."""
    values = {**_VISION_DEFAULTS, **section(given, where)}
    require(values, "model_type", "clip_vision_model", where)
    if values["hidden_act"] not in VISION_ACTIVATIONS:
        raise UserError(f"{where}: hidden_act is {values['hidden_act']!r}, need one of {VISION_ACTIVATIONS}")
    width, heads = size(values, "hidden_size", where), size(values, "num_attention_heads", where)
    _divides(heads, width, f"{where}: hidden_size")
    return VisionConfig(
        width=width,
        mlp=size(values, "intermediate_size", where),
        num_layers=layer_count(values, "num_hidden_layers", where),
        num_heads=heads,
        channels=size(values, "num_channels", where),
        image_size=size(values, "image_size", where),
        patch_size=size(values, "patch_size", where),
        activation=values["hidden_act"],
        eps=positive(values["layer_norm_eps"], f"{where}: layer_norm_eps"),
    )


def text_config(given: Any, tied: bool, where: str) -> TextConfig:
    """Reads the keys of a LlamaConfig.

    Args:
      given: the section of config.json.
      tied: `tie_word_embeddings` of the level above; the section's own is followed too.
      where: how error messages call the section.

    Raises:
      UserError: a setting that is not implemented, or a value out of range; names the key.
    """
    values = {**_TEXT_DEFAULTS, **section(given, where)}
    for key, value in {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }.items():
        require(values, key, value, where)
    width, heads = size(values, "hidden_size", where), size(values, "num_attention_heads", where)
    _divides(heads, width, f"{where}: hidden_size")
    for key, meant in (("num_key_value_heads", heads), ("head_dim", width // heads)):
        values[key] = meant if values.get(key) is None else values[key]
    kv_heads = size(values, "num_key_value_heads", where)
    _divides(kv_heads, heads, f"{where}: num_attention_heads")
    return TextConfig(
        vocab_size=size(values, "vocab_size", where),
        width=width,
        mlp=size(values, "intermediate_size", where),
        num_layers=layer_count(values, "num_hidden_layers", where),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=size(values, "head_dim", where),
        rope_theta=_rope_theta(values, where),
        eps=positive(values["rms_norm_eps"], f"{where}: rms_norm_eps"),
        tied=tied or flag(values, "tie_word_embeddings", where),
    )


def _rope_theta(values: dict[str, Any], where: str) -> float:
    """Base of the rotary frequencies: `rope_parameters` in transformers 5, flat keys in 4."""
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        rope = section(values.get(key) or {}, f"{where}: {key}") or rope
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f"{where}: rope type is {kind!r}, only 'default' (no scaling) is computed here")
    return float(positive(rope.get("rope_theta", values.get("rope_theta", 10000.0)), f"{where}: rope_theta"))


def require(values: dict[str, Any], key: str, needed: Any, where: str) -> None:
    """Refuses any value of `key` but `needed`, the only one implemented; a missing key counts as `needed`."""
    if values.get(key, needed) != needed:
        raise UserError(f"{where}: {key} is {values[key]!r}, only {needed!r} is computed here")


def size(values: dict[str, Any], key: str, where: str) -> int:
    """A count of things, of which there is at least one.

    Raises:
      UserError: the key's value is no whole number above 0.
    """
    value = values.get(key)
    if type(value) is not int or not 1 <= value <= LARGEST:
        raise UserError(f"{where}: {key} is {value!r}, need a whole number above 0")
    return value


def layer_count(values: dict[str, Any], key: str, where: str) -> int:
    """A number of layers, of which each has names of its own.

    Raises:
      UserError: the key's value is no whole number above 0, or absurdly large.
    """
    count = size(values, key, where)
    if count > _MOST_LAYERS:
        raise UserError(f"{where}: {key} is {count}, need {_MOST_LAYERS} at the most")
    return count


def positive(value: Any, where: str) -> float:
    """A number above 0.

    Raises:
      UserError: it is something else; `where` names it.
    """
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
        raise UserError(f"{where} is {value!r}, need a number above 0")
    return value


def section(given: Any, where: str) -> dict[str, Any]:
    """A section of keys; where the file leaves it out or says null, an empty one.

    Raises:
      UserError: it is something else.
    """
    return checked({} if given is None else given, dict[str, Any], where)


def flag(values: dict[str, Any], key: str, where: str) -> bool:
    """A truth value, false where the file leaves it out.

    Raises:
      UserError: it is something else.
    """
    given = values.get(key)
    return checked(False if given is None else given, bool, f"{where}: {key}")


def _divides(parts: int, whole: int, where: str) -> None:
    if whole % parts:
        raise UserError(f"{where} is {whole}, which {parts} heads do not divide")
