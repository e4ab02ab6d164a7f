"""Lengths of captions: in words, in characters and, where the records tell, in tokens; the share cut off."""

from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.metric import AtHand, Metric


def score(captions: list[dict], *, draws: int = bootstrap.DRAWS, seed: int = 0) -> dict[str, Any]:
    """Mean lengths of captions.

    Args:
      captions: records with `caption` or `text`; `tokens` and `finish_reason` where all of them have these.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `mean_words`, `mean_characters`, where known `mean_tokens` and `cut_off_rate` (a share), `n`,
      `intervals`, `rule`.
    """
    texted = [(record, record.get("caption", record.get("text"))) for record in captions]
    records, texts = [], []
    for record, text in texted:
        if isinstance(text, str):
            records.append(record)
            texts.append(text)
    columns: dict[str, list] = {
        "mean_words": [len(text.split()) for text in texts],
        "mean_characters": [len(text) for text in texts],
    }
    if all("tokens" in record for record in records):
        columns["mean_tokens"] = [record["tokens"] for record in records]
    if all("finish_reason" in record for record in records):
        columns["cut_off_rate"] = [record["finish_reason"] == "length" for record in records]
    counts = np.array([[1] * len(records), *columns.values()], float).T
    metrics: dict[str, bootstrap.Metric] = {
        name: (bootstrap.share if name == "cut_off_rate" else bootstrap.ratio)(place, 0, scale=1.0)
        for place, name in enumerate(columns, start=1)
    }
    return {
        **{name: bootstrap.value(counts, metric) for name, metric in metrics.items()},
        "n": len(records),
        "intervals": bootstrap.intervals(counts, metrics, draws=draws, seed=seed),
        "rule": "words are separated by white space; a caption is cut off when it reached the token limit",
    }


def _measure(at_hand: AtHand, settings: None) -> dict[str, Any]:
    return score(at_hand.captions, draws=at_hand.draws, seed=at_hand.seed)


METRIC = Metric(
    name="lengths",
    title="Lengths",
    about="words, characters and tokens of a caption, and the share cut off at the token limit",
    measure=_measure,
    other=(Measure("cut_off", "cut off, %", ("lengths", "cut_off_rate"), "lower", scale=100),),
    rules={"": "Lengths"},
)
