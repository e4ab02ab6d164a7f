"""A causal language model that scores texts, in PyTorch; torch is imported when the model is loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sare_jax import online
from sare_jax.errors import UserError
from sare_jax.files import hash_file
from sare_jax.progress import track
from sare_jax.progress.foreign import without_bars
from sare_jax.shipped import located

CONTEXT, STRIDE = 1024, 512  # EFUF's windows; a model with fewer positions has shorter ones
BATCH_TOKENS = 8192
_WAY_OUT = "get one with: hf download openai-community/gpt2 --local-dir gpt2"


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer.

    Attributes:
      model: a transformers causal LM, in evaluation mode.
      tokenizer: the transformers tokenizer that the model was trained with.
      context: tokens in one window, `CONTEXT` or the model's positions where these are fewer.
      name: last part of the folder's path or of the hub name.
      content_hash: 16 hexadecimal digits for each *.safetensors file; empty where it came from a hub.
    """

    model: Any
    tokenizer: Any
    context: int
    name: str
    content_hash: str

    @property
    def stride(self) -> int:
        """Number of tokens from one window's start to the next one's."""
        return max(1, min(STRIDE, self.context // 2))


class Window(NamedTuple):
    """A part of a text that the model sees at once.

    Attributes:
      text: index of the text among the texts given.
      tokens: token ids of the part.
      scored: how many tokens at its end count; the ones before are context.
    """

    text: int
    tokens: list[int]
    scored: int


@lru_cache(maxsize=2)
def load(path: str) -> LanguageModel:
    """Loads a language model; the last two stay in memory.

    Args:
      path: a folder in Hugging Face format, or a hub name such as `gpt2`.

    Returns:
      The model in float32, on the GPU where there is one.

    Raises:
      UserError: it cannot be loaded; names what was looked for.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = require(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        with without_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: cannot load a language model ({reason}); {_WAY_OUT}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    limits = [getattr(model.config, key, None) for key in ("n_positions", "max_position_embeddings")]
    context = min([CONTEXT, *filter(None, limits)])
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    content_hash = "".join(hash_file(file)[:16] for file in files)
    return LanguageModel(model.to(device).eval(), tokenizer, context, Path(path).name, content_hash)


def require(path: str) -> str:
    """Looks for a language model's files, and fetches those of a hub model where that can be done.

    Args:
      path: as in `load`. What would lie in a folder that is here is no name of the hub.

    Returns:
      The folder, or the name on the hub.

    Raises:
      UserError: files are missing and not to be had from here; names them and the way to get them.
    """
    folder = located(path)
    hub_name = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", path) is not None
    if hub_name and not folder.is_dir() and not ("/" in path and folder.parent.is_dir()):
        if not online.cached_on_hub(path):
            if not online.hub_answers():
                raise UserError(
                    f"{path}: neither a folder nor in the local hub cache, and the hub does not "
                    f"answer; {_WAY_OUT}, and name the "
                    "folder (config.evaluate.options.perplexity.lm; empty leaves perplexity out)"
                )
            online.fetch(path, ["*.json", "*.txt", "*.safetensors"])
        return path
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    missing += [] if weights else ["*.safetensors"]
    if missing:
        raise UserError(f"{path}: no {', no '.join(missing)} there for the language model; {_WAY_OUT}")
    return str(folder)


def windows_of(tokens: list[int], text: int, context: int, stride: int) -> list[Window]:
    """Cuts a sequence into overlapping windows in which each token but the very first counts once."""
    windows, covered = [], 1
    for begin in range(0, len(tokens), stride):
        end = min(begin + context, len(tokens))
        if end > covered:
            windows.append(Window(text, tokens[begin:end], end - covered))
            covered = end
        if end == len(tokens):
            break
    return windows


def negative_log_likelihood(
    lm: LanguageModel, sequences: Sequence[list[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed loss of each sequence after its first token.

    Windows of like length share a batch, padded at the right and masked: with causal attention and positions
    counted from the left, padding changes nothing.

    Args:
      lm: a model from `load`.
      sequences: token ids of n texts, any lengths.

    Returns:
      float[n] loss in nats, int[n] tokens counted, int[n] windows used.
    """
    import torch

    nll = np.zeros(len(sequences))
    tokens, used = np.zeros(len(sequences), int), np.zeros(len(sequences), int)
    windows = [w for i, ids in enumerate(sequences) for w in windows_of(ids, i, lm.context, lm.stride)]
    windows.sort(key=lambda window: len(window.tokens))
    with torch.inference_mode():
        batches = _batches(windows)
        for batch in track(batches, "perplexity", total=len(batches), unit="batch"):
            for window, loss in zip(batch, _losses(lm, batch), strict=True):
                nll[window.text] += loss
                tokens[window.text] += window.scored
                used[window.text] += 1
    return nll, tokens, used


def _batches(windows: list[Window]) -> list[list[Window]]:
    """Consecutive windows whose padded size stays within BATCH_TOKENS; lengths must rise."""
    batches: list[list[Window]] = []
    for window in windows:
        if batches and (len(batches[-1]) + 1) * len(window.tokens) <= BATCH_TOKENS:
            batches[-1].append(window)
        else:
            batches.append([window])
    return batches


def _losses(lm: LanguageModel, batch: list[Window]) -> list[float]:
    import torch

    size = max(len(window.tokens) for window in batch)
    ids = torch.zeros(len(batch), size, dtype=torch.long)
    mask, counted = torch.zeros_like(ids), torch.zeros(len(batch), size, dtype=torch.bool)
    for row, window in enumerate(batch):
        length = len(window.tokens)
        ids[row, :length] = torch.tensor(window.tokens)
        mask[row, :length] = 1
        counted[row, length - window.scored : length] = True
    ids, mask, counted = (tensor.to(lm.model.device) for tensor in (ids, mask, counted))
    logits = lm.model(input_ids=ids, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (loss.double() * counted[:, 1:]).sum(dim=1).tolist()
