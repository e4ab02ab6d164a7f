"""The tokenizer of a model in the original form, with tokens for image and padding, for transformers."""

import json
from pathlib import Path
from typing import Any

from tokenizers import processors

from sare_jax.errors import UserError
from sare_jax.files import write_json
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.sentencepiece_bpe import read_sentencepiece
from sare_jax.schema import read_object

IMAGE, PAD = "<image>", "<pad>"
_KINDS = ("bos_token", "eos_token", "unk_token", "pad_token")

Names = dict[str, str | None]


def write_tokenizer(source: LlavaSource, folder: Path) -> dict[str, int]:
    """Writes tokenizer.json and tokenizer_config.json.

    `<image>` gets the id that the model's config has for it, and `<pad>` the one behind, unless the tokenizer
    has a padding token of its own. That the original pads with its unknown piece is not kept: padding would
    be told apart from text by nothing.

    Args:
      source: the base model, in the original form.
      folder: the folder to write into.

    Returns:
      `bos_token_id`, `eos_token_id` and `pad_token_id`.

    Raises:
      UserError: there is no tokenizer, or it has an `<image>` with another id.
    """
    raw, names, length = _read(source.folder)
    image = source.config.image_token_id
    _add(raw, IMAGE, image, source.folder)
    if names["pad_token"] in (None, names["unk_token"]):
        names["pad_token"] = PAD
        if PAD not in _ids(raw):
            _add(raw, PAD, image + 1, source.folder)
    write_json(folder / "tokenizer.json", raw)
    settings = {
        **names,
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {"image_token": IMAGE},
        "model_max_length": length,
        "padding_side": "left",
        "processor_class": "LlavaProcessor",
        # Of this class transformers runs tokenizer.json as it stands. It rebuilds the class LlamaTokenizer,
        # and then drops the space piece behind the image.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", settings)
    ids = _ids(raw)
    special = {kind: names[kind] for kind in ("bos_token", "eos_token", "pad_token")}
    return {f"{kind}_id": ids[name] for kind, name in special.items() if name is not None}


def _read(folder: Path) -> tuple[dict[str, Any], Names, int]:
    """The content of tokenizer.json, how the special tokens are spelt, and the longest text."""
    path = folder / "tokenizer_config.json"
    settings = read_object(path) if path.is_file() else {}
    length = settings.get("model_max_length", 2048)
    if (folder / "tokenizer.json").is_file():
        names = {kind: _spelling(settings.get(kind)) for kind in _KINDS}
        return read_object(folder / "tokenizer.json"), names, length
    tokenizer, bos, eos, unknown = read_sentencepiece(folder / "tokenizer.model")
    start, end, other = (tokenizer.id_to_token(number) for number in (bos, eos, unknown))
    tokenizer.add_special_tokens([other, start, end])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, bos)]
    )
    names = dict(zip(_KINDS, (start, end, other, None), strict=True))
    return json.loads(tokenizer.to_str()), names, length


def _spelling(token: str | dict[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, dict) else token


def _ids(raw: dict[str, Any]) -> dict[str, int]:
    return {entry["content"]: entry["id"] for entry in raw["added_tokens"]} | raw["model"]["vocab"]


def _add(raw: dict[str, Any], token: str, number: int, folder: Path) -> None:
    """Adds a special token under a given id."""
    taken = _ids(raw)
    if token in taken:
        raise UserError(f"{folder}: its tokenizer has {token} already, as id {taken[token]}, need {number}")
    if number != len(taken):
        # Added tokens are numbered on end; behind a gap only entries of the vocabulary keep their ids.
        raw["model"]["vocab"][token] = number
    entry = {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
    raw["added_tokens"].append({**entry, "normalized": False, "special": True})
