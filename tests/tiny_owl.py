"""Small random mPLUG-Owls in the published form: config.json, pytorch_model.bin, tokenizer.model."""

import json
from pathlib import Path

import torch
from transformers import LlamaConfig

from tests.models.mplug_owl import oracle
from tests.tiny_sentencepiece import write_sentencepiece

VOCABULARY = 460
VISION = {
    "model_type": "mplug_owl_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-6,
}
ABSTRACTOR = {
    "model_type": "mplug_owl_visual_abstract",
    "hidden_size": 32,
    "encoder_hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-6,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 40,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
# Other heads, layers, queries, widths, image sizes.
SHAPES = {
    "plain": {},
    "wide": {
        "vision": {"hidden_size": 48, "num_attention_heads": 6},
        "abstractor": {"num_attention_heads": 3},
    },
    "deep": {
        "vision": {"image_size": 42, "num_hidden_layers": 2},
        "abstractor": {"num_hidden_layers": 3, "intermediate_size": 72},
        "text": {"num_hidden_layers": 3},
    },
    "few": {"top": {"num_query_tokens": 3}, "text": {"hidden_size": 64, "rms_norm_eps": 1e-5}},
}


def owl_config(shape: str = "plain") -> dict:
    """The content of config.json."""
    parts = SHAPES[shape]
    vision = VISION | parts.get("vision", {})
    width = vision["hidden_size"]
    own = {"hidden_size": width, "encoder_hidden_size": width}
    return {
        "model_type": "mplug-owl",
        "architectures": ["MplugOwlForConditionalGeneration"],
        "num_query_tokens": 8,
        "vision_config": vision,
        "visual_abstractor_config": ABSTRACTOR | own | parts.get("abstractor", {}),
        "text_config": TEXT | parts.get("text", {}),
    } | parts.get("top", {})


def owl_shapes(config: dict, mlp: int | None = None) -> dict[str, tuple[int, ...]]:
    """Every tensor of the published file by its name; `mlp` is the abstractor's where config.json errs."""
    vision, own, text = (config[key] for key in ("vision_config", "visual_abstractor_config", "text_config"))
    width, mlp = vision["hidden_size"], mlp or own["intermediate_size"]
    deep, side, words = vision["intermediate_size"], vision["patch_size"], text["hidden_size"]
    tokens = (vision["image_size"] // side) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {"query_tokens": (1, config["num_query_tokens"], width)}

    def both(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    stem = "vision_model.embeddings"
    shapes[f"{stem}.cls_token"] = (1, 1, width)
    shapes[f"{stem}.patch_embed.weight"] = (width, 3, side, side)
    shapes[f"{stem}.position_embedding"] = (1, tokens, width)
    both(f"{stem}.pre_layernorm", width)
    for number in range(vision["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{number}"
        both(f"{layer}.input_layernorm", width)
        both(f"{layer}.self_attn.query_key_value", 3 * width, width)
        both(f"{layer}.self_attn.dense", width, width)
        both(f"{layer}.post_attention_layernorm", width)
        both(f"{layer}.mlp.fc1", deep, width)
        both(f"{layer}.mlp.fc2", width, deep)
    both("vision_model.post_layernorm", width)
    for number in range(own["num_hidden_layers"]):
        layer = f"abstractor.encoder.layers.{number}.crossattention"
        for name in ("norm1", "normk", "output.norm2"):
            both(f"{layer}.{name}", width)
        for name in ("attention.query", "attention.key", "attention.value", "output.out_proj"):
            both(f"{layer}.{name}", width, width)
        both(f"{layer}.output.mlp.w1", mlp, width)
        both(f"{layer}.output.mlp.w3", mlp, width)
        both(f"{layer}.output.mlp.ffn_ln", mlp)
        both(f"{layer}.output.mlp.w2", width, mlp)
    both("abstractor.visual_fc", words, width)
    shapes["abstractor.vit_eos"] = (1, 1, words)
    prefix = "language_model.model"
    shapes[f"{prefix}.embed_tokens.weight"] = (text["vocab_size"], words)
    for number in range(text["num_hidden_layers"]):
        layer = f"{prefix}.layers.{number}"
        for name in "qkvo":
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (words, words)
        for name in ("gate", "up"):
            shapes[f"{layer}.mlp.{name}_proj.weight"] = (text["intermediate_size"], words)
        shapes[f"{layer}.mlp.down_proj.weight"] = (words, text["intermediate_size"])
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{name}.weight"] = (words,)
    shapes[f"{prefix}.norm.weight"] = (words,)
    shapes["language_model.lm_head.weight"] = (text["vocab_size"], words)
    return shapes


def owl_tensors(config: dict, seed: int = 0) -> oracle.Tensors:
    """Random weights, large enough that greedy text varies and no two logits nearly tie."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in owl_shapes(config).items():
        noise = torch.randn(shape, generator=draw)
        is_scale = name.endswith("weight") and len(shape) == 1
        size = 0.02 if name == "query_tokens" else 0.2  # small queries show the norms' epsilons
        tensors[name] = 1 + 0.1 * noise if is_scale else size * noise
    return tensors


def write_owl(folder: Path, shape: str = "plain", seed: int = 0, dtype=torch.float32) -> oracle.Tensors:
    """Writes a whole model folder; returns its tensors in float32."""
    config = owl_config(shape)
    tensors = {name: tensor.to(dtype) for name, tensor in owl_tensors(config, seed).items()}
    folder.mkdir(parents=True, exist_ok=True)
    buffers = {
        f"language_model.model.layers.{number}.self_attn.rotary_emb.inv_freq": torch.ones(5)
        for number in range(config["text_config"]["num_hidden_layers"])
    }
    torch.save(tensors | buffers, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    write_processor(folder, config["vision_config"]["image_size"])
    write_sentencepiece(folder / "tokenizer.model", vocab_size=VOCABULARY)
    return {name: tensor.float() for name, tensor in tensors.items()}


def write_processor(folder: Path, side: int) -> None:
    fields = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "crop_size": {"height": side, "width": side},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))


def torch_llama(tensors: oracle.Tensors, config: dict):
    """The language model by transformers."""
    text = {key: value for key, value in config["text_config"].items() if key != "model_type"}
    return oracle.llama(tensors, LlamaConfig(**text))
