"""mPLUG-Owl-7B in plain torch functions, from the facts in docs/protocols.md.

Nothing here is taken from the Flax code, nor the other way round. Tensors are a dictionary by their published
names; sizes are read from them, but for what a tensor does not tell.
"""

import math

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

Tensors = dict[str, torch.Tensor]


def norm(w: Tensors, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def linear(w: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[B, heads, T, size] queries over [B, heads, S, size] -> [B, T, heads * size]."""
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def vision(w: Tensors, pixels: torch.Tensor, *, heads: int, layers: int) -> torch.Tensor:
    """Pixels [B, 3, H, W] -> all tokens of the last layer, class token first, behind the last norm."""
    eps, stem = 1e-6, "vision_model.embeddings"
    kernel = w[f"{stem}.patch_embed.weight"]
    patches = functional.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([w[f"{stem}.cls_token"].expand(len(pixels), -1, -1), patches], dim=1)
    x = norm(w, f"{stem}.pre_layernorm", x + w[f"{stem}.position_embedding"], eps)
    for number in range(layers):
        layer = f"vision_model.encoder.layers.{number}"
        fused = linear(w, f"{layer}.self_attn.query_key_value", norm(w, f"{layer}.input_layernorm", x, eps))
        size = x.shape[-1] // heads
        # The fused output is heads × (query, key, value) × size.
        q, k, v = fused.reshape(*fused.shape[:2], heads, 3, size).permute(3, 0, 2, 1, 4)
        x = x + linear(w, f"{layer}.self_attn.dense", softmax_attention(q, k, v))
        inner = linear(w, f"{layer}.mlp.fc1", norm(w, f"{layer}.post_attention_layernorm", x, eps))
        x = x + linear(w, f"{layer}.mlp.fc2", inner * torch.sigmoid(1.702 * inner))
    return norm(w, "vision_model.post_layernorm", x, eps)


def abstractor(w: Tensors, image: torch.Tensor, *, heads: int, layers: int) -> torch.Tensor:
    """Tokens of the tower [B, P, D_v] -> [B, queries + 1, D], the last row is the end token."""
    x = w["query_tokens"].expand(len(image), -1, -1)
    for number in range(layers):
        layer = f"abstractor.encoder.layers.{number}.crossattention"
        h = norm(w, f"{layer}.norm1", x, 1e-5)
        both = torch.cat([h, norm(w, f"{layer}.normk", image, 1e-5)], dim=1)
        q, k, v = (
            linear(w, f"{layer}.attention.{part}", given).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, given in (("query", h), ("key", both), ("value", both))
        )
        x = h + linear(w, f"{layer}.output.out_proj", softmax_attention(q, k, v))
        z = norm(w, f"{layer}.output.norm2", x, 1e-5)
        mlp = f"{layer}.output.mlp"
        inner = functional.silu(linear(w, f"{mlp}.w1", z)) * linear(w, f"{mlp}.w3", z)
        x = x + linear(w, f"{mlp}.w2", norm(w, f"{mlp}.ffn_ln", inner, 1e-6))
    x = linear(w, "abstractor.visual_fc", x)
    return torch.cat([x, w["abstractor.vit_eos"].expand(len(x), -1, -1)], dim=1)


def llama(w: Tensors, config: LlamaConfig) -> LlamaForCausalLM:
    """The language model, by transformers."""
    model = LlamaForCausalLM(config).eval()
    prefix = "language_model."
    own = {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}
    model.load_state_dict({name: t for name, t in own.items() if "inv_freq" not in name}, strict=True)
    return model


def embeddings(model: LlamaForCausalLM, ids: torch.Tensor, images: torch.Tensor, slot: int) -> torch.Tensor:
    """Ids [T] -> [1, T, D], the rows of `images` [n, P, D] in order where `slot` stands."""
    is_slot = ids == slot
    words = model.get_input_embeddings()(torch.where(is_slot, 0, ids)).clone()
    words[is_slot] = images.flatten(0, 1)
    return words[None]


def greedy(model: LlamaForCausalLM, words: torch.Tensor, steps: int, eos: int) -> list[int]:
    """Ids that follow embeddings [1, T, D], up to and without `eos`."""
    ids: list[int] = []
    table = model.get_input_embeddings()
    for _ in range(steps):
        token = int(model(inputs_embeds=words).logits[0, -1].argmax())
        if token == eos:
            break
        ids.append(token)
        words = torch.cat([words, table(torch.tensor([[token]]))], dim=1)
    return ids
