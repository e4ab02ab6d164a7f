"""Texts into an open_clip model: what does not fit, and features without work on padding."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import open_clip
import torch


class Tokenizer(Protocol):
    """What open_clip's tokenizers have in common."""

    context_length: int

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor:
        """Token numbers int64[n, context length], padded with zeros."""


def is_cut(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Which texts are longer than the tokenizer's context, bool[n].

    open_clip's tokenizers cut such a text at the end and put the end token in the last place. With one place
    more, another token stands there.
    """
    if not texts:
        return np.zeros(0, bool)
    length = tokenizer.context_length
    with_room = tokenizer(list(texts), context_length=length + 1)
    return (tokenizer(list(texts)) != with_room[:, :length]).any(dim=1).numpy()


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """`model.encode_text`, without the padding where that changes nothing.

    In CLIP's own architecture a token sees those before it alone, and the feature is read at the end token
    (the highest number); so the padding, seven eighths of a short phrase's row, need not be computed.

    Args:
      model: an open_clip model.
      tokens: int64[n, context length].

    Returns:
      float[n, D], not normalised.
    """
    is_causal = isinstance(model, open_clip.CLIP) and model.attn_mask is not None
    if not is_causal or model.text_pool_type != "argmax":
        return model.encode_text(tokens)
    length = int(tokens.argmax(dim=-1).max()) + 1
    shorter = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    return torch.func.functional_call(
        _Text(model), {f"model.{k}": v for k, v in shorter.items()}, (tokens[:, :length],)
    )


class _Text(torch.nn.Module):
    """The text half of a model as a module of its own, which `functional_call` needs."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(tokens)
