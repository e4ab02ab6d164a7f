"""Perplexity of captions under a GPT-2-format language model.

The paper defines it as the exponentiated mean negative log-likelihood. The values in its tables (0.1) can
only be that divided by 100; so both scales are given (protocols 1.11).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.columns import NOT_MEASURED, Measure, ungrouped
from sare_jax.evaluation.metrics.language_model import (
    LanguageModel,
    load,
    negative_log_likelihood,
    require,
)
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.files import digest
from sare_jax.records.texts import Dropped, named_captions, read_records, settings_of
from sare_jax.shipped import located

Rule = Literal["caption", "efuf"]
Start = Literal["bos", "none"]
COLUMNS = ("captions", "perplexity", "nll", "tokens", "windows")
METRICS: dict[str, bootstrap.Metric] = {
    "mean": bootstrap.ratio(1, 0, scale=1.0),
    "mean_paper_scale": bootstrap.ratio(1, 0, scale=0.01),
    "corpus": lambda sums: np.exp(bootstrap.divide(sums[..., 2], sums[..., 3])),
    "mean_tokens": bootstrap.ratio(3, 0, scale=1.0),
}


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
      texts: the captions, n texts.
      model_path: folder in Hugging Face format, or a hub name such as `gpt2`.
      rule: `caption` counts the caption's own tokens. `efuf` is the lineage's: the text is `prompt` and a
        space and the caption, closed by the end token, and all of it counts, prompt included.
      prompt: the evaluation prompt, for rule `efuf` only.
      start: `bos` puts the start token first: attended to, never counted; so the first word counts too.
        Without it (or for a tokenizer that has none) the first token only serves as context.
      image_ids: id of each text's image, by which runs are compared; 0 to n − 1 where none are given.
      dropped: reason → places of the records that reading the file left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

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
        "context": [lm.context, lm.stride],
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
      image_ids: id of each text's image, n of them.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

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


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation perplexity --captions F --model M [--json]`."""
    parser = console.parser("perplexity", "Perplexity of captions")
    parser.add_argument("--captions", required=True, help="JSON lines of image_id and caption")
    parser.add_argument("--model", required=True, help="GPT-2-format folder, or a hub name")
    parser.add_argument(
        "--rule",
        choices=_RULES,
        default="caption",
        help="; ".join(f"{rule}: {what}" for rule, what in _RULES.items()),
    )
    parser.add_argument("--prompt", default="", help="evaluation prompt, for the rule efuf")
    parser.add_argument("--start", choices=("bos", "none"), default="bos", help="before each text")
    console.add_common(parser)
    options = parser.parse_args(argv)
    records, dropped = read_records(options.captions)
    kept = named_captions(records, dropped)
    result = score(
        list(kept.values()),
        options.model,
        rule=options.rule,
        prompt=options.prompt,
        start=options.start,
        image_ids=list(kept),
        dropped=dropped,
        draws=options.draws,
        seed=options.seed,
    )
    result["settings"] |= settings_of(records) | {"captions": console.file_identity(options.captions)}
    if options.json:
        console.print_json(result)
    else:
        console.print_table(f"Perplexity, {result['model']['name']}", result, list(METRICS))


@dataclass(frozen=True)
class PerplexitySettings:
    """The language model by which captions are scored."""

    #: Folder or hub id of a GPT-2-format model; empty leaves perplexity out.
    lm: str = "gpt2"


def _measure(at_hand: AtHand, settings: PerplexitySettings) -> dict[str, Any] | str:
    if not settings.lm:
        return f"{NOT_MEASURED}: no language model given"
    texts = at_hand.matched.texts
    if not any(map(str.strip, texts)):  # a collapsed model still gets its row
        return f"{NOT_MEASURED}: every caption is empty"
    ids = at_hand.matched.image_ids
    return score(texts, settings.lm, image_ids=ids, draws=at_hand.draws, seed=at_hand.seed)


def _check(settings: PerplexitySettings) -> None:
    if settings.lm:
        require(settings.lm)


def _depends_on(settings: PerplexitySettings) -> str:
    """Content hash of a local folder, else the name on the hub."""
    folder = located(settings.lm)
    return digest(folder) if settings.lm and folder.is_dir() else settings.lm


METRIC = Metric(
    name="perplexity",
    title="Perplexity",
    about="perplexity of captions under a GPT-2-format model, the true value and the paper's scale",
    measure=_measure,
    command=main,
    settings=PerplexitySettings,
    check=_check,
    depends_on=_depends_on,
    counts={"perplexity": ungrouped(COLUMNS, METRICS)},
    columns=(
        Measure(
            "perplexity",
            "ppl",
            ("perplexity", "mean"),
            "lower",
            digits=2,
            help="Perplexity of the captions under a small language model, the mean over captions; low is "
            "fluent.",
        ),
    ),
    other=(
        Measure("ppl_paper", "ppl ÷ 100", ("perplexity", "mean_paper_scale"), "lower", digits=4),
        Measure("ppl_corpus", "ppl, corpus", ("perplexity", "corpus"), "lower", digits=2),
    ),
    rules={"": "ppl"},
)
