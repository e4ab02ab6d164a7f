"""A metric from outside: how many different words a caption has."""

from typing import Any

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.metric import AtHand, Metric


def _measure(at_hand: AtHand, settings: None) -> dict[str, Any]:
    counts = [len(set(text.lower().split())) for text in at_hand.matched.texts]
    return {
        "mean": sum(counts) / len(counts),
        "n": len(counts),
        "intervals": {},
        "rule": "split at white space",
    }


METRIC = Metric(
    name="variety",
    title="Variety",
    about="different words of a caption",
    measure=_measure,
    columns=(Measure("variety", "different words", ("variety", "mean")),),
    rules={"": "Variety"},
)
