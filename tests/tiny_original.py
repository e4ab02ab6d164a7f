"""Small random models in the original published form: the tensors of a transformers model, by the names that
liuhaotian's LLaVA-1.5, ShareGPT4V and OpenAI's CLIP give them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from tests.tiny_llava import IMAGE_TOKEN, llama_tokenizer, torch_llava, write_tokenizer

Tensors = dict[str, torch.Tensor]
Weights = Literal["bin", "bin_shards", "safetensors", "safetensors_shards"]
INSIDE = "model.vision_tower.vision_tower."
TOWER_NAME = "clip-vit-tiny-patch7"
SHARE_TOWER_NAME = "ShareGPT4V-7B_Pretrained_vit-large336-l12"


def write_original(
    folder: Path,
    tower: Path,
    shape: str = "plain",
    *,
    weights: Weights = "bin",
    tower_weights: Weights = "bin",
    inside: Literal["nothing", "tower"] = "nothing",
    dtype: torch.dtype = torch.float32,
    **config,
) -> LlavaForConditionalGeneration:
    """Writes a whole model as LLaVA's own code publishes it; returns the transformers model of these tensors.

    Args:
      folder: of the language model and the projector.
      tower: of the CLIP, which has config.json and the image processor in any case.
      shape: see `tiny_llava.SHAPES`.
      weights: files of `folder`.
      tower_weights: files of `tower`.
      inside: "tower" puts the tower's tensors into the checkpoint and leaves the other folder without any.
      dtype: of the stored tensors; the model's own are float32 of the same values.
      config: keys of config.json that differ from LLaVA's.
    """
    model = torch_llava(shape)
    with torch.no_grad():
        for parameter in model.parameters():  # not its buffers: rotary frequencies are never stored
            parameter.copy_(parameter.to(dtype))
    tensors, vision = language_tensors(model) | projector_tensors(model), tower_tensors(model)
    tower.mkdir(parents=True)
    (tower / "config.json").write_text(json.dumps(tower_config(model)))
    (tower / "preprocessor_config.json").write_text(json.dumps(clip_processor(model)))
    tensors, vision = cast(tensors, dtype), cast(vision, dtype)
    if inside == "tower":
        tensors |= {f"{INSIDE}{name}": tensor for name, tensor in vision.items()}
    else:
        write_weights(tower, vision, tower_weights)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(original_config(model, tower) | config))
    write_tokenizer(folder, tokenizer_without_image())
    write_weights(folder, tensors, weights)
    return model


def write_sharegpt4v(folder: Path, tower: Path, **settings) -> LlavaForConditionalGeneration:
    """As `write_original`, called as ShareGPT4V calls its own."""
    named = {"model_type": "share4v", "architectures": ["Share4VLlamaForCausalLM"]}
    return write_original(folder, tower, dtype=torch.bfloat16, **named | settings)


def language_tensors(model: LlavaForConditionalGeneration) -> Tensors:
    """LLaMA's names, as its first releases have them, with their buffer."""
    llama = model.model.language_model
    tensors = {"model.embed_tokens.weight": llama.embed_tokens.weight, "model.norm.weight": llama.norm.weight}
    if not model.config.text_config.tie_word_embeddings:
        tensors["lm_head.weight"] = model.lm_head.weight
    for number, layer in enumerate(llama.layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            key = f"model.layers.{number}.self_attn.{name}.weight"
            tensors[key] = getattr(layer.self_attn, name).weight
        for name in ("gate_proj", "up_proj", "down_proj"):
            tensors[f"model.layers.{number}.mlp.{name}.weight"] = getattr(layer.mlp, name).weight
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{number}.{name}.weight"] = getattr(layer, name).weight
        tensors[f"model.layers.{number}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return detached(tensors)


def projector_tensors(model: LlavaForConditionalGeneration) -> Tensors:
    """The projector is a torch Sequential of linear, GELU, linear."""
    projector = model.model.multi_modal_projector
    return detached(
        {
            "model.mm_projector.0.weight": projector.linear_1.weight,
            "model.mm_projector.0.bias": projector.linear_1.bias,
            "model.mm_projector.2.weight": projector.linear_2.weight,
            "model.mm_projector.2.bias": projector.linear_2.bias,
        }
    )


def tower_tensors(model: LlavaForConditionalGeneration) -> Tensors:
    """CLIP's vision half in transformers 4's names, with its buffer."""
    vision = model.model.vision_tower
    embeddings = vision.embeddings
    tensors = {
        "vision_model.embeddings.class_embedding": embeddings.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": embeddings.patch_embedding.weight,
        "vision_model.embeddings.position_embedding.weight": embeddings.position_embedding.weight,
        "vision_model.embeddings.position_ids": torch.arange(embeddings.num_positions)[None],
        "vision_model.pre_layrnorm.weight": vision.pre_layrnorm.weight,
        "vision_model.pre_layrnorm.bias": vision.pre_layrnorm.bias,
        "vision_model.post_layernorm.weight": vision.post_layernorm.weight,
        "vision_model.post_layernorm.bias": vision.post_layernorm.bias,
    }
    for number, layer in enumerate(vision.encoder.layers):
        parts = {f"self_attn.{name}_proj": getattr(layer.self_attn, f"{name}_proj") for name in "qkv"}
        parts |= {"self_attn.out_proj": layer.self_attn.out_proj}
        parts |= {"mlp.fc1": layer.mlp.fc1, "mlp.fc2": layer.mlp.fc2}
        parts |= {"layer_norm1": layer.layer_norm1, "layer_norm2": layer.layer_norm2}
        for name, part in parts.items():
            for leaf in ("weight", "bias"):
                tensors[f"vision_model.encoder.layers.{number}.{name}.{leaf}"] = getattr(part, leaf)
    return detached(tensors)


def text_side_tensors() -> Tensors:
    """What OpenAI's folder holds besides, and LLaVA has no use for."""
    return {
        "logit_scale": torch.tensor(2.6),
        "text_model.embeddings.token_embedding.weight": torch.zeros(5, 4),
        "text_model.embeddings.position_ids": torch.arange(3)[None],
        "text_projection.weight": torch.zeros(4, 4),
        "visual_projection.weight": torch.zeros(4, 4),
    }


def original_config(model: LlavaForConditionalGeneration, tower: Path) -> dict:
    """config.json of liuhaotian/llava-v1.5-7b, with this model's sizes."""
    text, top = model.config.text_config, model.config
    strategy = {"default": "patch", "full": "cls_patch"}[top.vision_feature_select_strategy]
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "freeze_mm_mlp_adapter": False,
        "hidden_act": "silu",
        "hidden_size": text.hidden_size,
        "image_aspect_ratio": "pad",
        "intermediate_size": text.intermediate_size,
        "max_position_embeddings": 4096,
        "mm_hidden_size": top.vision_config.hidden_size,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": strategy,
        "mm_vision_select_layer": top.vision_feature_layer,
        "mm_vision_tower": str(tower),
        "model_type": "llava",
        "num_attention_heads": text.num_attention_heads,
        "num_hidden_layers": text.num_hidden_layers,
        "num_key_value_heads": text.num_key_value_heads,
        "pad_token_id": 0,
        "rms_norm_eps": text.rms_norm_eps,
        "rope_scaling": None,
        "tie_word_embeddings": text.tie_word_embeddings,
        "torch_dtype": "float16",
        "use_mm_proj": True,
        "vocab_size": text.vocab_size,
    }
    theta = text.rope_parameters["rope_theta"]
    config |= {"rope_theta": theta} if theta != 1e4 else {}
    own_size = text.head_dim != text.hidden_size // text.num_attention_heads
    return config | ({"head_dim": text.head_dim} if own_size else {})


def tower_config(model: LlavaForConditionalGeneration) -> dict:
    """config.json of a CLIPVisionModel."""
    vision = model.config.vision_config
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")
    sizes = {key: getattr(vision, key) for key in (*keys, "patch_size", "hidden_act", "layer_norm_eps")}
    return {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model", **sizes}


def clip_processor(model: LlavaForConditionalGeneration) -> dict:
    """preprocessor_config.json as OpenAI's CLIP has it."""
    side = model.config.vision_config.image_size
    return {
        "crop_size": side,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": side,
    }


def tokenizer_without_image() -> Tokenizer:
    """The original form has no token for the image."""
    settings = json.loads(llama_tokenizer().to_str())
    kept = [token for token in settings["added_tokens"] if token["content"] != IMAGE_TOKEN]
    kept[-1]["id"] -= 1  # <pad>, which comes behind it
    settings["added_tokens"] = kept
    return Tokenizer.from_str(json.dumps(settings))


def write_weights(folder: Path, tensors: Tensors, weights: Weights) -> None:
    """Writes one file, or three and their index."""
    kind, _, shards = weights.partition("_")
    single = {"bin": "pytorch_model.bin", "safetensors": "model.safetensors"}[kind]
    if not shards:
        save(folder / single, tensors)
        return
    stem, weight_map = single.removesuffix(f".{kind}"), {}
    names = list(tensors)
    for number in range(3):
        file = f"{stem}-{number + 1:05d}-of-00003.{kind}"
        part = names[number::3]
        save(folder / file, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / f"{single}.index.json").write_text(json.dumps(index))


def save(file: Path, tensors: Tensors) -> None:
    """Writes one file in the format of its ending."""
    if file.suffix == ".bin":
        torch.save(tensors, file)
    else:
        save_file(tensors, file, metadata={"format": "pt"})


def edit(file: Path, change: Callable[[Tensors], object]) -> None:
    """Lets `change` alter the tensors of a torch file."""
    tensors = torch.load(file, weights_only=True)
    change(tensors)
    torch.save(tensors, file)


def edit_config(folder: Path, **values) -> None:
    """Sets keys of a config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }


def detached(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
