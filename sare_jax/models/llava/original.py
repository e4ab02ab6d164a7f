"""The original published form of LLaVA-1.5 (liuhaotian) and ShareGPT4V (protocols 7.1 and 7.2).

Its config.json is flat, its tensors are called otherwise than on the hub, and its vision tower lies in a CLIP
folder of its own, or inside the checkpoint where it was tuned and saved.
"""

import re
from pathlib import Path
from typing import Any, Literal

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig, feature_layer
from sare_jax.models.llava.names import TOWER
from sare_jax.models.shared.config import require, text_config, vision_config

INSIDE = "model.vision_tower.vision_tower."
PROJECTOR = "model.mm_projector."
SHAREGPT4V_TOWER = "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12"
# Name here -> name on the hub, by their beginnings.
_PREFIXES = {
    f"{PROJECTOR}0.": "multi_modal_projector.linear_1.",
    f"{PROJECTOR}2.": "multi_modal_projector.linear_2.",
    "model.embed_tokens.": "language_model.model.embed_tokens.",
    "model.layers.": "language_model.model.layers.",
    "model.norm.": "language_model.model.norm.",
    "model.rotary_emb.": "language_model.model.rotary_emb.",
    "lm_head.": "language_model.lm_head.",
}
_TOWER_PARTS = ("embeddings.", "pre_layrnorm.", "encoder.", "post_layernorm.")
_CLIP_TEXT = re.compile(r"(text_model|text_projection|visual_projection)\.|logit_scale$")
_SHAREGPT4V = re.compile(r"share-?(gpt)?-?4v", re.IGNORECASE)
_MODEL_TYPES = re.compile(
    r"llama|(llava|share4v|sharegpt4v)(_llama)?|(llava|share4v|sharegpt4v)?llamaforcausallm", re.IGNORECASE
)
_OPENAI = re.compile(r"openai[-_/]+clip|(^|/)clip-vit-large-patch14(-336)?/?$", re.IGNORECASE)


def is_original(raw: dict[str, Any]) -> bool:
    """Whether a parsed config.json is of this form: flat, with the keys of LLaVA's own code."""
    return "vision_config" not in raw and ("mm_vision_tower" in raw or "mm_projector_type" in raw)


def original_config(
    raw: dict[str, Any], source: str, tower: dict[str, Any], tower_source: str
) -> tuple[LlavaConfig, Literal["pad", "center_crop"]]:
    """Reads the config.json of a model and that of its vision tower.

    Args:
      raw: the model's parsed config.json.
      source: how error messages call that file.
      tower: the tower's parsed config.json: a CLIPVisionConfig, or a CLIPConfig with `vision_config`.
      tower_source: how error messages call that file.

    Returns:
      Shapes and constants, and how pictures are made square (`image_aspect_ratio`).

    Raises:
      UserError: a setting that this implementation does not compute; names the key.
    """
    _refuse_other_decoders(raw, source)
    require(raw, "mm_use_im_start_end", False, source)
    projector = raw.get("mm_projector_type", "linear")
    if projector != "mlp2x_gelu":
        raise UserError(f"{source}: mm_projector_type is {projector!r}, only 'mlp2x_gelu' is computed here")
    features = raw.get("mm_vision_select_feature", "patch")
    if features not in ("patch", "cls_patch"):
        raise UserError(f"{source}: mm_vision_select_feature is {features!r}, need 'patch' or 'cls_patch'")
    aspect = raw.get("image_aspect_ratio") or "square"
    if aspect not in ("pad", "square"):
        raise UserError(f"{source}: image_aspect_ratio is {aspect!r}, need 'pad' or 'square'")
    vision = vision_config(tower.get("vision_config") or tower, tower_source)
    width = raw.get("mm_hidden_size", vision.width)
    if width != vision.width:
        raise UserError(
            f"{source}: mm_hidden_size is {width}, but hidden_size of the vision tower in {tower_source} is "
            f"{vision.width}"
        )
    text = text_config({key: value for key, value in raw.items() if key != "model_type"}, False, source)
    config = LlavaConfig(
        vision=vision,
        text=text,
        # The original puts a placeholder that is no token; here it is the first id behind the table (32000 of
        # the published models), which no tokenizer gives and no head can choose.
        image_token_id=text.vocab_size,
        feature_layer=feature_layer(raw, "mm_vision_select_layer", vision, source),
        keep_class_token=features == "cls_patch",
    )
    return config, "pad" if aspect == "pad" else "center_crop"


def _refuse_other_decoders(raw: dict[str, Any], source: str) -> None:
    """LLaVA's code has other language models than LLaMA, whose config.json has the same keys."""
    for key, value in (("model_type", raw.get("model_type")), ("architectures", raw.get("architectures"))):
        for name in value if isinstance(value, list) else [value]:
            if name is not None and _MODEL_TYPES.fullmatch(str(name)) is None:
                raise UserError(
                    f"{source}: {key} is {name!r}, whose language model is not computed here; a LLaVA of "
                    "this form needs a LLaMA"
                )
    require(raw, "sliding_window", None, source)


def hub_name(name: str) -> str:
    """The hub's name of a tensor that the checkpoint calls `name`."""
    if name.startswith(INSIDE):
        return tower_hub_name(name.removeprefix(INSIDE))
    for prefix, theirs in _PREFIXES.items():
        if name.startswith(prefix):
            return theirs + name.removeprefix(prefix)
    return _unknown(name)


def tower_hub_name(name: str) -> str:
    """The hub's name of a tensor that a CLIP folder calls `name`, as transformers 4 or 5 writes it."""
    if name.startswith("vision_model."):
        return f"{TOWER}.{name.removeprefix('vision_model.')}"
    return f"{TOWER}.{name}" if name.startswith(_TOWER_PARTS) else _unknown(name)


def is_text_side(name: str) -> bool:
    """Whether a tensor of a CLIP folder belongs to its other half, which LLaVA has no use for."""
    return bool(_CLIP_TEXT.match(name))


def written_name(name: str, tower: Path | None) -> str:
    """How the files of this form call the hub's `name`; `tower` is the CLIP folder, if there is one."""
    if name.startswith(f"{TOWER}."):
        return f"{'' if tower else INSIDE}vision_model.{name.removeprefix(f'{TOWER}.')}"
    for prefix, theirs in _PREFIXES.items():
        if name.startswith(theirs):
            return prefix + name.removeprefix(theirs)
    return name


def is_sharegpt4v(folder: Path, raw: dict[str, Any]) -> bool:
    """Whether a checkpoint is a ShareGPT4V, also where its config was renamed to load in LLaVA's code."""
    keys = ("model_type", "architectures", "_name_or_path", "mm_vision_tower")
    return any(names_sharegpt4v(str(part)) for part in (folder.name, *(raw.get(key) for key in keys)))


def names_sharegpt4v(text: str) -> bool:
    """Whether a name or path means a ShareGPT4V."""
    return bool(_SHAREGPT4V.search(text))


def refuse_openai_tower(model: Path, name: str, folder: Path, tower: dict[str, Any]) -> None:
    """Refuses CLIP as OpenAI published it for a ShareGPT4V, whose tower was tuned from its layer 12 on.

    Raises:
      UserError: the name given, the folder, or `_name_or_path` of its config.json is OpenAI's.
    """
    for text in (name, str(folder), str(tower.get("_name_or_path", ""))):
        if _OPENAI.search(text):
            raise UserError(
                f"{model}: a ShareGPT4V needs its own tuned vision tower, and {folder} is OpenAI's ({text}). "
                f"Get it with: hf download {SHAREGPT4V_TOWER} --local-dir TOWER; then set "
                "--config.model.vision_tower=TOWER"
            )


def _unknown(name: str) -> str:
    # Not `name` itself: that could be a name of the hub, which does not belong in this form.
    return f"unknown:{name}"
