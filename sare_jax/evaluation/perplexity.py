"""Perplexity of captions under a GPT-2-format language model.

The paper speaks of the exponentiated mean negative log-likelihood; its table values (0.1) can only be that
divided by 100, so both scales are given (protocols 1.11).
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.records import Dropped, read_records, settings_of
from sare_jax.files import hash_file
from sare_jax.progress import track

Rule = Literal["caption", "efuf"]
Start = Literal["bos", "none"]
CONTEXT, STRIDE = 1024, 512  # EFUF's windows; a model with fewer positions has shorter ones
BATCH_TOKENS = 8192

COLUMNS = ("captions", "perplexity", "nll", "tokens", "windows")
METRICS: dict[str, bootstrap.Metric] = {
    "mean": bootstrap.ratio(1, 0, scale=1.0),
    "corpus": lambda sums: np.exp(bootstrap.divide(sums[..., 2], sums[..., 3])),
    "mean_paper_scale": bootstrap.ratio(1, 0, scale=0.01),
    "mean_tokens": bootstrap.ratio(3, 0, scale=1.0),
}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with its tokenizer.

    Attributes:
      model: a transformers causal LM, in evaluation mode.
      tokenizer: its tokenizer.
      context: tokens that it can see at once, `CONTEXT` at the most.
      name: folder or hub name.
      content_hash: of its weight files; empty where it came from a hub.
    """

    model: Any
    tokenizer: Any
    context: int
    name: str
    content_hash: str


class Window(NamedTuple):
    """Tokens seen together, and how many of the last of them count."""

    text: int
    tokens: list[int]
    scored: int


_WAY_OUT = "get one with: huggingface-cli download openai-community/gpt2 --local-dir gpt2"


@lru_cache(maxsize=2)
def load(path: str) -> LanguageModel:
    """Loads a language model once.

    Args:
      path: a folder in Hugging Face format, or a hub name such as `gpt2`.

    Raises:
      UserError: it cannot be loaded; names what was looked for.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_folder(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: cannot load a language model ({reason}); {_WAY_OUT}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    limits = [getattr(model.config, key, None) for key in ("n_positions", "max_position_embeddings")]
    context = min([CONTEXT, *filter(None, limits)])
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    content_hash = "".join(hash_file(file)[:16] for file in files)
    return LanguageModel(model.to(device).eval(), tokenizer, context, Path(path).name, content_hash)


def _check_folder(path: str) -> None:
    """Says what is missing in a local folder, before transformers takes its name for one on the hub."""
    folder = Path(path)
    hub_name = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", path) is not None
    if hub_name and not folder.is_dir():
        return
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    missing += [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    if missing:
        raise UserError(f"{path}: no {', no '.join(missing)} there for the language model; {_WAY_OUT}")


def score(
    texts: Sequence[str],
    model_path: str | Path,
    *,
    rule: Rule = "caption",
    prompt: str = "",
    start: Start = "bos",
    image_ids: Sequence[Any] | None = None,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Perplexity of each caption and of all together.

    Args:
      texts: the captions.
      model_path: see `load`.
      rule: `caption` counts the caption's own tokens. `efuf` is the lineage's: the text is `prompt` and a
        space and the caption, closed by the end token, and all of it counts, prompt included.
      prompt: the evaluation prompt, for rule `efuf` only.
      start: `bos` puts the start token first: attended to, never counted; so the first word counts too.
        Without it (or for a tokenizer that has none) the first token only serves as context.
      image_ids: one a text, for intervals and comparisons; positions where none are given.
      dropped: records that reading the file left out.
      draws: bootstrap resamples.
      seed: of the bootstrap.

    Returns:
      JSON-able: `metric`, `mean` over captions and `corpus` (true perplexity), `mean_paper_scale` (÷ 100),
      `mean_tokens`, `n`, `n_excluded`, `windows` (the most that a text took), `start_token`, `model`,
      `dropped`, `intervals`, `rule`, `per_image`. Texts with nothing to count (empty ones) are excluded and
      counted.

    Raises:
      UserError: no model, no text that can be scored, or a loss that is not finite.
    """
    lm = load(str(model_path))
    bos = lm.tokenizer.bos_token_id if start == "bos" else None
    sequences = [_tokens(lm, text, rule, prompt, bos) for text in texts]
    nll, tokens, windows = negative_log_likelihood(lm, sequences)
    dropped = Dropped(dropped or {})
    ids = list(range(len(texts))) if image_ids is None else list(image_ids)
    for position in np.flatnonzero(tokens == 0):
        dropped.add("nothing to count", ids[position])
    kept = np.flatnonzero(tokens)
    return {
        "metric": "perplexity",
        **summarise(nll[kept], tokens[kept], windows[kept], [ids[i] for i in kept], draws=draws, seed=seed),
        "n_excluded": len(texts) - len(kept),
        "start_token": None if bos is None else lm.tokenizer.bos_token,
        "context": [lm.context, min(STRIDE, lm.context // 2)],
        "model": {"name": lm.name, "sha256": lm.content_hash},
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "rule": f"{rule}: {_RULES[rule]}",
        "settings": {"perplexity_prompt": prompt} if rule == "efuf" else {},
    }


_RULES = {
    "caption": "the caption's tokens alone count",
    "efuf": "prompt, caption and end token count (EFUF)",
}


def _tokens(lm: LanguageModel, text: str, rule: Rule, prompt: str, bos: int | None) -> list[int]:
    if rule == "efuf":
        text = f"{prompt} {text}"
    # Captions are data: "<|endoftext|>" written in one is text, not the end.
    body = lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    end = [lm.tokenizer.eos_token_id] if rule == "efuf" and lm.tokenizer.eos_token_id is not None else []
    return [*([] if bos is None else [bos]), *body, *end]


def summarise(
    nll: np.ndarray,
    tokens: np.ndarray,
    windows: np.ndarray,
    image_ids: Sequence[Any],
    *,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Perplexities from summed losses: of each text on average, and of the corpus; these differ widely.

    Args:
      nll: float[n], summed negative log-likelihood of each text, in nats.
      tokens: int[n], tokens that it is summed over, positive.
      windows: int[n], windows that each text took.
      image_ids: n ids.
      draws: bootstrap resamples.
      seed: of the bootstrap.

    Returns:
      The names of `METRICS`, `n`, `windows`, `intervals`, `per_image`.
    """
    if len(nll) == 0:
        raise UserError("nothing left to score: no text has a token that counts")
    if not np.isfinite(nll).all():
        raise UserError("the language model gives losses that are not finite; its weights are damaged")
    counts = np.stack([np.ones(len(nll)), np.exp(nll / tokens), nll, tokens, windows], axis=1)
    return {
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": len(nll),
        "windows": int(windows.max()),
        "intervals": bootstrap.intervals(counts, METRICS, draws=draws, seed=seed),
        "per_image": bootstrap.per_image(image_ids, COLUMNS, counts),
    }


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
      lm: the model.
      sequences: token ids, any lengths.

    Returns:
      float[n] loss in nats, int[n] tokens counted, int[n] windows used.
    """
    import torch

    nll = np.zeros(len(sequences))
    tokens, used = np.zeros(len(sequences), int), np.zeros(len(sequences), int)
    stride = max(1, min(STRIDE, lm.context // 2))
    windows = [w for i, ids in enumerate(sequences) for w in windows_of(ids, i, lm.context, stride)]
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
    seen, counted = torch.zeros_like(ids), torch.zeros(len(batch), size, dtype=torch.bool)
    for row, window in enumerate(batch):
        length = len(window.tokens)
        ids[row, :length] = torch.tensor(window.tokens)
        seen[row, :length] = 1
        counted[row, length - window.scored : length] = True
    ids, seen, counted = (tensor.to(lm.model.device) for tensor in (ids, seen, counted))
    logits = lm.model(input_ids=ids, attention_mask=seen).logits
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none"
    )
    return (loss.double() * counted[:, 1:]).sum(dim=1).tolist()


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation.perplexity --captions F --model M [--json]`."""
    parser = argparse.ArgumentParser(prog="perplexity", description="Perplexity of captions")
    parser.add_argument("--captions", required=True, help="JSON lines of image_id and caption")
    parser.add_argument("--model", required=True, help="GPT-2-format folder, or a hub name")
    parser.add_argument("--rule", choices=_RULES, default="caption")
    parser.add_argument("--prompt", default="", help="evaluation prompt, for the rule efuf")
    parser.add_argument("--start", choices=("bos", "none"), default="bos", help="before each text")
    console.add_common(parser)
    options = parser.parse_args(argv)
    records, dropped = read_records(options.captions)
    kept = []
    for number, record in enumerate(records, start=1):
        text = record.get("caption", record.get("text"))
        if isinstance(text, str):
            kept.append((record.get("image_id", record.get("image", number)), text))
        else:
            dropped.add("caption is no text", f"record {number}")
    result = score(
        [text for _, text in kept],
        options.model,
        rule=options.rule,
        prompt=options.prompt,
        start=options.start,
        image_ids=[image for image, _ in kept],
        dropped=dropped,
        draws=options.draws,
        seed=options.seed,
    )
    result["settings"] |= settings_of(records) | {"captions": console.file_identity(options.captions)}
    if options.json:
        console.print_json(result)
    else:
        console.print_table(f"Perplexity, {result['model']['name']}", result, list(METRICS))


if __name__ == "__main__":
    console.run(main)
