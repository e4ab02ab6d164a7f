"""Small random MiniGPT-4s in the published layout: a LLaMA folder, and torch files beside it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sare_jax.models.minigpt4.config import QFormerConfig, Towers
from sare_jax.models.minigpt4.family import family_of
from sare_jax.models.shared.config import VisionConfig
from sare_jax.settings import ModelConfig
from tests.models.minigpt4 import oracle
from tests.tiny_sentencepiece import write_sentencepiece

Tensors = dict[str, torch.Tensor]

SMALL = Towers(
    vision=VisionConfig(24, 40, 2, 2, 3, 28, 7, "gelu", 1e-6),
    qformer=QFormerConfig(width=16, mlp=24, num_layers=2, num_heads=2, num_queries=3, eps=1e-12),
)
WIDE = Towers(
    vision=VisionConfig(40, 56, 3, 5, 3, 40, 10, "gelu", 1e-6),
    qformer=QFormerConfig(width=24, mlp=40, num_layers=4, num_heads=3, num_queries=5, eps=1e-12),
)
DEEP = Towers(
    vision=VisionConfig(32, 48, 4, 4, 3, 56, 14, "gelu", 1e-6),
    qformer=QFormerConfig(width=32, mlp=56, num_layers=6, num_heads=4, num_queries=7, eps=1e-12),
)
FEW = Towers(
    vision=VisionConfig(16, 24, 2, 1, 3, 16, 8, "gelu", 1e-6),
    qformer=QFormerConfig(width=8, mlp=20, num_layers=2, num_heads=1, num_queries=2, eps=1e-12),
)
SMALL_FAMILY, WIDE_FAMILY = family_of(SMALL), family_of(WIDE)
DEEP_FAMILY, FEW_FAMILY = family_of(DEEP), family_of(FEW)
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 464,
}
GROUPED = {"num_key_value_heads": 2, "num_hidden_layers": 3, "rms_norm_eps": 1e-5}


@dataclass(frozen=True)
class Shape:
    """One small model.

    Attributes:
      towers: see `config.Towers`.
      vicuna: whether it has the Q-Former.
      norm: whether `ln_vision` lies beside `llama_proj`.
      text: keys of the LLaMA that differ from `TEXT`.
    """

    towers: Towers
    vicuna: bool = False
    norm: bool = False
    text: dict = dataclasses.field(default_factory=dict)


SHAPES = {
    "llama2": Shape(SMALL),
    "llama2_norm": Shape(SMALL, norm=True, text=GROUPED),
    "llama2_wide": Shape(WIDE, text={"hidden_size": 80, "num_attention_heads": 5}),
    "llama2_deep": Shape(DEEP, text={"num_hidden_layers": 1}),
    "vicuna": Shape(SMALL, vicuna=True),
    "vicuna_wide": Shape(WIDE, vicuna=True, text=GROUPED),
    "vicuna_deep": Shape(DEEP, vicuna=True, text={"num_hidden_layers": 1}),
    "vicuna_few": Shape(FEW, vicuna=True, text={"hidden_size": 64}),
}


@dataclass(frozen=True)
class Written:
    """A model on disk, and the same in torch.

    Attributes:
      settings: that open it.
      tensors: MiniGPT-4's own names, without the LLaMA's.
      llama: in torch.
      towers: what the oracle needs to know.
    """

    settings: ModelConfig
    tensors: Tensors
    llama: LlamaForCausalLM
    towers: oracle.Towers


def write_minigpt4(folder: Path, name: str = "llama2", *, dtype: torch.dtype = torch.float32) -> Written:
    """Writes a whole model.

    Args:
      folder: which gets the LLaMA's folder and the torch files.
      name: of `SHAPES`.
      dtype: of the tensors in the torch files.
    """
    shape = SHAPES[name]
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**TEXT | shape.text)).eval()
    with torch.no_grad():
        for parameter in llama.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 0.2 if parameter.ndim > 1 else parameter + 0.1 * noise)
    llama.save_pretrained(folder / "llama")
    write_sentencepiece(folder / "llama" / "tokenizer.model")
    vision, qformer = shape.towers.vision, shape.towers.qformer
    tower, norm, bert = (
        eva_tensors(vision),
        norm_tensors("ln_vision", vision.width),
        qformer_tensors(shape.towers),
    )
    inner = qformer.width if shape.vicuna else 4 * vision.width
    projector = linear_tensors("llama_proj", inner, llama.config.hidden_size)
    tower, norm, bert, projector = (
        {key: value.to(dtype) for key, value in part.items()} for part in (tower, norm, bert, projector)
    )
    files = {"eva_vit": write_eva(folder / "eva_vit_g.pth", tower, vision)}
    files["pretrained"] = write_pretrained(
        folder / "pretrained_minigpt4.pth", projector | (norm if shape.norm else {})
    )
    tensors = {f"visual_encoder.{key}": value for key, value in tower.items()} | projector
    if shape.vicuna:
        files["qformer"] = write_blip2(folder / "blip2_pretrained_flant5xxl.pth", bert | norm, qformer)
        tensors |= bert
    if shape.vicuna or shape.norm:
        tensors |= norm
    family = {SMALL: "SMALL", WIDE: "WIDE", DEEP: "DEEP", FEW: "FEW"}[shape.towers]
    settings = ModelConfig(
        folder=str(folder / "llama"),
        family=f"{__name__}:{family}_FAMILY",
        dtype="float32",
        files={key: str(path) for key, path in files.items()},
    )
    return Written(
        settings,
        {key: value.float() for key, value in tensors.items()},
        llama,
        oracle.Towers(vision.num_heads, qformer.num_heads if shape.vicuna else None),
    )


def write_eva(file: Path, tensors: Tensors, config: VisionConfig) -> Path:
    """eva_vit_g.pth: a flat dict, with a last block, a norm and a head that nobody reads."""
    first = {key: value for key, value in tensors.items() if key.startswith("blocks.0.")}
    last = {key.replace("blocks.0.", f"blocks.{config.num_layers}."): value for key, value in first.items()}
    rest = norm_tensors("norm", config.width) | linear_tensors("head", config.width, 5)
    torch.save(tensors | last | rest, file)
    return file


def write_blip2(file: Path, tensors: Tensors, config: QFormerConfig) -> Path:
    """blip2_pretrained_flant5xxl.pth: under `model`, with what BERT and T5 have for text."""
    layer = "Qformer.bert.encoder.layer.0"
    rest = linear_tensors(f"{layer}.intermediate.dense", config.width, config.mlp)
    rest |= linear_tensors("t5_proj", config.width, 7)
    rest["Qformer.bert.embeddings.position_ids"] = torch.arange(9)[None]
    torch.save({"model": tensors | rest}, file)
    return file


def write_pretrained(file: Path, tensors: Tensors) -> Path:
    """pretrained_minigpt4*.pth: under `model`, with a buffer, beside what a training keeps."""
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}
    buffer = {"llama_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    kept = {
        "model": tensors | buffer,
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-5, "betas": (0.9, 0.999)}]},
        "config": {"run": {"amp": True, "max_epoch": 5}, "model": {"arch": "minigpt4"}},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0},
        "epoch": 4,
    }
    torch.save(kept, file)
    return file


def eva_tensors(config: VisionConfig) -> Tensors:
    width = config.width
    tensors = {
        "cls_token": 0.2 * torch.randn(1, 1, width),
        "pos_embed": 0.2 * torch.randn(1, config.num_patches + 1, width),
        "patch_embed.proj.weight": 0.1 * torch.randn(width, 3, config.patch_size, config.patch_size),
        "patch_embed.proj.bias": 0.1 * torch.randn(width),
    }
    for number in range(config.num_layers):
        block = f"blocks.{number}"
        tensors |= norm_tensors(f"{block}.norm1", width) | norm_tensors(f"{block}.norm2", width)
        tensors[f"{block}.attn.qkv.weight"] = 0.2 * torch.randn(3 * width, width)
        tensors |= {f"{block}.attn.{part}_bias": 0.3 * torch.randn(width) for part in "qv"}
        tensors |= linear_tensors(f"{block}.attn.proj", width, width)
        tensors |= linear_tensors(f"{block}.mlp.fc1", width, config.mlp)
        tensors |= linear_tensors(f"{block}.mlp.fc2", config.mlp, width)
    return tensors


def qformer_tensors(towers: Towers) -> Tensors:
    config, width = towers.qformer, towers.qformer.width
    tensors = {"query_tokens": 0.5 * torch.randn(1, config.num_queries, width)}
    tensors |= norm_tensors("Qformer.bert.embeddings.LayerNorm", width)
    for number in range(config.num_layers):
        layer = f"Qformer.bert.encoder.layer.{number}"
        looks = {"attention": width} | ({"crossattention": towers.vision.width} if number % 2 == 0 else {})
        for kind, inner in looks.items():
            tensors |= linear_tensors(f"{layer}.{kind}.self.query", width, width)
            for part in ("key", "value"):
                tensors |= linear_tensors(f"{layer}.{kind}.self.{part}", inner, width)
            tensors |= linear_tensors(f"{layer}.{kind}.output.dense", width, width)
            tensors |= norm_tensors(f"{layer}.{kind}.output.LayerNorm", width)
        tensors |= linear_tensors(f"{layer}.intermediate_query.dense", width, config.mlp)
        tensors |= linear_tensors(f"{layer}.output_query.dense", config.mlp, width)
        tensors |= norm_tensors(f"{layer}.output_query.LayerNorm", width)
    return tensors


def linear_tensors(name: str, inner: int, outer: int) -> Tensors:
    return {f"{name}.weight": 0.2 * torch.randn(outer, inner), f"{name}.bias": 0.1 * torch.randn(outer)}


def norm_tensors(name: str, width: int) -> Tensors:
    return {f"{name}.weight": 1 + 0.1 * torch.randn(width), f"{name}.bias": 0.1 * torch.randn(width)}


def changed(tensors: Tensors, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    """The tensors with one of them changed."""
    return {**tensors, name: change(tensors[name])}
