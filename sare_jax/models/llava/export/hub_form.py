"""A base in the original form (LLaVA's own code, ShareGPT4V) as a folder of llava-hf's form.

What changes on the way:

- Tensors get the hub's names; those of the vision tower, which may lie in a folder of its own, come in.
- The original form has no token for the image. Here it is the first id behind the vocabulary (32000 in the
  published models), padding the one behind it (32001), and the rows are filled up to a multiple of 64
  (32064), as in llava-hf's files.
- The rows added to embedding and head are the mean of the rows that were there. So the logit of such a token
  is the mean of all the others': it is never the largest, and nothing that is generated changes.
- The tokenizer becomes a tokenizer.json that gives the same ids; the image processor keeps the checkpoint's
  way to make pictures square (`image_aspect_ratio`); the chat template is `vicuna_v1`.
- What the base's files say on generation stays, but for the padding token.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.export.shards import Output
from sare_jax.files import write_json, write_text
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.export.hub_tokenizer import IMAGE, write_tokenizer
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.names import EMBEDDING
from sare_jax.models.llava.prompts import TEMPLATES
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.generation import FILE, stated_generation
from sare_jax.rounding import round_up
from sare_jax.schema import read_object

_ROW_MULTIPLE = 64
_ROWS_AT_ONCE = 4096

# Turns as `vicuna_v1` writes them; of one user turn with an image it makes the text of `prompts.TEMPLATES`.
_CHAT_TEMPLATE = """\
{%- macro text_of(content) -%}
{%- if content is string -%}{{- content -}}{%- else -%}
{%- for part in content if part.type == 'image' -%}{{- '<image>\\n' -}}{%- endfor -%}
{%- for part in content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- if messages[0].role == 'system' -%}{{- text_of(messages[0].content) -}}
{%- else -%}{{- SYSTEM -}}{%- endif -%}{{- ' ' -}}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{- 'USER: ' + text_of(message.content) + ' ' -}}
{%- elif message.role == 'assistant' -%}{{- 'ASSISTANT: ' + text_of(message.content) + '</s>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""


def num_rows(config: LlavaConfig) -> int:
    """Rows of embedding and head with the two new tokens: the next multiple of 64."""
    return round_up(config.image_token_id + 2, _ROW_MULTIPLE)


def padded(table: Output, rows: int) -> Output:
    """A table [V, D] with rows added that are the mean of the others, in the table's dtype."""

    def read() -> np.ndarray:
        values = table.read()
        total = np.zeros(values.shape[1], np.float64)
        for start in range(0, len(values), _ROWS_AT_ONCE):
            total += values[start : start + _ROWS_AT_ONCE].astype(np.float32).sum(axis=0, dtype=np.float64)
        mean = (total / len(values)).astype(table.dtype)
        return np.concatenate([values, np.broadcast_to(mean, (rows - len(values), len(mean)))])

    return Output(table.name, table.dtype, (rows, table.shape[1]), read)


def write_files(source: LlavaSource, folder: Path) -> None:
    """Writes everything of the hub's form but the weights.

    Raises:
      UserError: the base has no tokenizer or image processor, or its tokenizer has another `<image>`.
    """
    ids = write_tokenizer(source, folder)
    _write_config(source, folder, ids)
    _write_image_processor(source, folder)
    write_json(folder / "processor_config.json", _processor_fields(source))
    stated = stated_generation(source.folder)
    write_json(folder / FILE, ids | stated | {"pad_token_id": ids["pad_token_id"]})
    system = TEMPLATES["vicuna_v1"][0].removesuffix(" USER: ")
    write_text(folder / "chat_template.jinja", _CHAT_TEMPLATE.replace("SYSTEM", json.dumps(system)))


def complete_processor(source: LlavaSource, folder: Path) -> None:
    """Adds the keys to processor_config.json that transformers needs and that older folders lack."""
    path = folder / "processor_config.json"
    there = read_object(path) if path.is_file() else {}
    fields = {key: value for key, value in _processor_fields(source).items() if there.get(key) is None}
    if fields:
        write_json(path, {**there, **fields})


def _write_config(source: LlavaSource, folder: Path, ids: dict[str, int]) -> None:
    """config.json, as transformers 4 writes it and 5 reads it."""
    config, raw = source.config, read_object(source.folder / "config.json")
    text, vision = config.text, config.vision
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100,
            "image_seq_length": config.num_image_tokens,
            "image_token_index": config.image_token_id,
            "model_type": "llava",
            "multimodal_projector_bias": True,
            "pad_token_id": ids["pad_token_id"],
            "projector_hidden_act": "gelu",
            "text_config": {
                "architectures": ["LlamaForCausalLM"],
                "head_dim": text.head_size,
                "hidden_act": "silu",
                "hidden_size": text.width,
                "intermediate_size": text.mlp,
                "max_position_embeddings": raw.get("max_position_embeddings", 2048),
                "model_type": "llama",
                "num_attention_heads": text.num_heads,
                "num_hidden_layers": text.num_layers,
                "num_key_value_heads": text.num_kv_heads,
                "rms_norm_eps": text.eps,
                "rope_theta": text.rope_theta,
                "tie_word_embeddings": text.tied,
                "vocab_size": num_rows(config),
                **ids,
            },
            "tie_word_embeddings": text.tied,
            "torch_dtype": source.tensors[EMBEDDING].dtype.name,
            "vision_config": {
                "hidden_act": vision.activation,
                "hidden_size": vision.width,
                "image_size": vision.image_size,
                "intermediate_size": vision.mlp,
                "layer_norm_eps": vision.eps,
                "model_type": "clip_vision_model",
                "num_attention_heads": vision.num_heads,
                "num_channels": vision.channels,
                "num_hidden_layers": vision.num_layers,
                "patch_size": vision.patch_size,
            },
            "vision_feature_layer": config.feature_layer,
            "vision_feature_select_strategy": _strategy(source),
        },
    )


def _processor_fields(source: LlavaSource) -> dict[str, Any]:
    return {
        "image_token": IMAGE,
        "num_additional_image_tokens": 1,
        "patch_size": source.config.vision.patch_size,
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": _strategy(source),
    }


def _strategy(source: LlavaSource) -> str:
    return "full" if source.config.keep_class_token else "default"


def _write_image_processor(source: LlavaSource, folder: Path) -> None:
    own = LlavaImageProcessor.from_source(source)
    size: dict[str, Any] = {"shortest_edge": own.resize_to}
    if isinstance(own.resize_to, tuple):
        size = {"height": own.resize_to[0], "width": own.resize_to[1]}
    kind = {"center_crop": "CLIPImageProcessor", "pad": "LlavaImageProcessor"}[own.mode]
    fields = {
        "crop_size": {"height": own.crop[0], "width": own.crop[1]},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        **({"do_pad": True} if own.mode == "pad" else {}),
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(own.mean),
        "image_processor_type": kind,
        "image_std": list(own.std),
        "processor_class": "LlavaProcessor",
        "resample": own.resample,
        "rescale_factor": own.scale,
        "size": size,
    }
    write_json(folder / "preprocessor_config.json", fields)
