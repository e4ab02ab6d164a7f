"""The numbers of informativeness, from the verdicts of a judge on captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.judging.judge import Verdict
from sare_jax.records.texts import Dropped

COLUMNS = ("captions", "coverage", "length", "empty")
METRICS: dict[str, bootstrap.Metric] = {
    "informativeness": bootstrap.ratio(1, 0, scale=1.0),
    "mean_words": bootstrap.ratio(2, 0, scale=1.0),
    "empty_rate": bootstrap.share(3, 0, scale=1.0),
}


def summarised(
    asked: Sequence[tuple[int, str, str]], verdicts: Sequence[Verdict], dropped: Dropped, **sampling: int
) -> dict[str, Any]:
    """The result's numbers.

    Args:
      asked: image id, caption and question of each caption.
      verdicts: what the judge said of each; a value is in percent of its scale.
      dropped: reason → what was left out; gets those without a value.
      sampling: `draws` and `seed` of the bootstrap.

    Raises:
      UserError: no verdict has a value.
    """
    ids, rows, failed = [], [], 0
    for (image_id, text, _), verdict in zip(asked, verdicts, strict=True):
        if verdict.value is None:
            dropped.add(f"judge: {verdict.reason}", image_id)
            failed += 1
            continue
        ids.append(image_id)
        rows.append([1, verdict.value, len(text.split()), int(not text.strip())])
    if not rows:
        reasons = ", ".join(f"{reason}: {len(which)}" for reason, which in dropped.items())
        raise UserError(f"nothing could be scored ({reasons})")
    counts = np.array(rows, float)
    return {
        "metric": "informativeness",
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n": len(rows),
        "failed": failed,
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "intervals": bootstrap.intervals(counts, METRICS, **sampling),
        "tokens": _tokens(verdicts),
        "judge_models": sorted({verdict.model for verdict in verdicts if verdict.model}),
        "per_image": bootstrap.per_image(ids, COLUMNS, counts),
    }


def _tokens(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Tokens of all replies, and of those asked for in this run (`…_now`); equal questions count once."""
    replies = {id(verdict): verdict for verdict in verdicts}.values()
    now = [verdict for verdict in replies if not verdict.kept]
    return {
        "prompt": sum(verdict.prompt_tokens for verdict in replies),
        "completion": sum(verdict.completion_tokens for verdict in replies),
        "prompt_now": sum(verdict.prompt_tokens for verdict in now),
        "completion_now": sum(verdict.completion_tokens for verdict in now),
        "replies_kept_before": len(replies) - len(now),
    }
