"""MiniGPT-4 in plain torch, written from the published facts alone (docs/protocols.md 7.4).

Tensors go by MiniGPT-4's own names. Nothing here knows the package: what is compared with it must not come
from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Towers:
    """What the tensors do not say: attention heads of the tower and, where there is one, of the Q-Former."""

    heads: int
    qformer_heads: int | None = None


def eva(tensors: Tensors, pixels: torch.Tensor, heads: int) -> torch.Tensor:
    """Pixels [I, 3, H, W] -> what the last block gives, [I, 1 + patches, width]."""
    kernel = tensors["visual_encoder.patch_embed.proj.weight"]
    patches = functional.conv2d(
        pixels, kernel, tensors["visual_encoder.patch_embed.proj.bias"], stride=kernel.shape[-1]
    )
    patches = patches.flatten(2).transpose(1, 2)
    first = tensors["visual_encoder.cls_token"].expand(len(pixels), -1, -1)
    x = torch.cat([first, patches], dim=1) + tensors["visual_encoder.pos_embed"]
    number = 0
    while f"visual_encoder.blocks.{number}.norm1.weight" in tensors:
        block = f"visual_encoder.blocks.{number}."
        normal = _norm(tensors, f"{block}norm1", x, 1e-6)
        q_bias, v_bias = tensors[f"{block}attn.q_bias"], tensors[f"{block}attn.v_bias"]
        bias = torch.cat([q_bias, torch.zeros_like(v_bias), v_bias])
        qkv = functional.linear(normal, tensors[f"{block}attn.qkv.weight"], bias)
        images, length, _ = qkv.shape
        q, k, v = qkv.reshape(images, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = _softmax_attention(q, k, v)
        x = x + _linear(tensors, f"{block}attn.proj", attended)
        inner = functional.gelu(_linear(tensors, f"{block}mlp.fc1", _norm(tensors, f"{block}norm2", x, 1e-6)))
        x = x + _linear(tensors, f"{block}mlp.fc2", inner)
        number += 1
    return x


def vision_norm(tensors: Tensors, x: torch.Tensor) -> torch.Tensor:
    """`ln_vision`; without its tensors its scale is one and its bias zero."""
    weight, bias = tensors.get("ln_vision.weight"), tensors.get("ln_vision.bias")
    return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def looks(number: int) -> bool:
    """Whether a layer of the Q-Former looks at the image."""
    return number % 2 == 0


def qformer(tensors: Tensors, image: torch.Tensor, heads: int) -> torch.Tensor:
    """Image tokens [I, S, width] -> [I, queries, width of the Q-Former]."""
    queries = tensors["query_tokens"].expand(len(image), -1, -1)
    x = _norm(tensors, "Qformer.bert.embeddings.LayerNorm", queries, 1e-12)
    number = 0
    while f"Qformer.bert.encoder.layer.{number}.attention.self.query.weight" in tensors:
        layer = f"Qformer.bert.encoder.layer.{number}."
        x = _attend(tensors, f"{layer}attention.", x, x, heads)
        if looks(number):
            x = _attend(tensors, f"{layer}crossattention.", x, image, heads)
        inner = functional.gelu(_linear(tensors, f"{layer}intermediate_query.dense", x))
        made = _linear(tensors, f"{layer}output_query.dense", inner)
        x = _norm(tensors, f"{layer}output_query.LayerNorm", made + x, 1e-12)
        number += 1
    return x


def image_features(tensors: Tensors, pixels: torch.Tensor, towers: Towers) -> torch.Tensor:
    """What `llama_proj` reads: four neighbours of a row of patches side by side, or the Q-Former's output."""
    image = vision_norm(tensors, eva(tensors, pixels, towers.heads))
    if towers.qformer_heads is not None:
        return qformer(tensors, image, towers.qformer_heads)
    patches = image[:, 1:]
    images, count, width = patches.shape
    return torch.cat([patches[:, start::4] for start in range(4)], dim=2).reshape(
        images, count // 4, 4 * width
    )


def image_embeds(tensors: Tensors, pixels: torch.Tensor, towers: Towers) -> torch.Tensor:
    """Pixels [I, 3, H, W] -> [I, image tokens, width of the LLaMA]."""
    return _linear(tensors, "llama_proj", image_features(tensors, pixels, towers))


def embeddings(
    tensors: Tensors,
    llama: LlamaForCausalLM,
    ids: list[int],
    image: int,
    pixels: torch.Tensor,
    towers: Towers,
) -> torch.Tensor:
    """Embeddings of a row whose ids hold `image` in every slot, [1, T, width]."""
    row = torch.tensor(ids)
    slots = row == image
    words = llama.get_input_embeddings()(torch.where(slots, 0, row)).detach().clone()
    words[slots] = image_embeds(tensors, pixels, towers)[0]
    return words[None]


def greedy(llama: LlamaForCausalLM, embeds: torch.Tensor, steps: int, eos: int) -> list[int]:
    """Ids of the likeliest continuation, the end token included."""
    ids: list[int] = []
    with torch.no_grad():
        while len(ids) < steps and eos not in ids:
            logits = llama(inputs_embeds=embeds).logits[0, -1]
            ids.append(int(logits.argmax()))
            word = llama.get_input_embeddings()(torch.tensor([[ids[-1]]]))
            embeds = torch.cat([embeds, word], dim=1)
    return ids


def _attend(tensors: Tensors, prefix: str, x: torch.Tensor, keys: torch.Tensor, heads: int) -> torch.Tensor:
    parts = []
    for name, read in (("query", x), ("key", keys), ("value", keys)):
        made = _linear(tensors, f"{prefix}self.{name}", read)
        parts.append(made.reshape(*made.shape[:2], heads, -1).transpose(1, 2))
    made = _linear(tensors, f"{prefix}output.dense", _softmax_attention(*parts))
    return _norm(tensors, f"{prefix}output.LayerNorm", made + x, 1e-12)


def _softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[I, N, T, H] -> [I, T, N H]."""
    weights = torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2), dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def _linear(tensors: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _norm(tensors: Tensors, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)
