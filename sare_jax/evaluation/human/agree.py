"""Agreement of two annotators: Cohen's κ over objects, over words and over captions.

κ = (p_o − p_e) / (1 − p_e): p_o is the share of units that both put into the same class, p_e the share that
two people with their habits would share by chance (Cohen 1960). What a unit is decides what κ says:

- `objects`: objects that both marked; classes correct and hallucinated. Do they judge alike what both saw?
  A mark of A and one of B are the same object where they share a character; where several do, the pairs that
  share most are taken first, and each mark is used once.
- `words`: all words of the captions; classes correct, hallucinated and unmarked. Do they also mark alike?
- `captions`: captions; hallucinated (at least one such mark) or not: the unit of human_s.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.human.score import finished
from sare_jax.records import brackets
from sare_jax.records.annotations import Annotated
from sare_jax.records.brackets import Mark
from sare_jax.records.texts import Dropped

OBJECT_CLASSES = ("correct", "hallucinated")
WORD_CLASSES = (*OBJECT_CLASSES, "unmarked")
CAPTION_CLASSES = ("not hallucinated", "hallucinated")
RULE = (
    "Cohen's kappa; objects: pairs of marks that share a character, correct or hallucinated; words: every "
    "word, correct, hallucinated or unmarked; captions: with a hallucinated object or without"
)

_UNITS = {"objects": OBJECT_CLASSES, "words": WORD_CLASSES, "captions": CAPTION_CLASSES}


def cohens_kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's κ of counts float[..., C, C]; 1 where both used one and the same class alone (or nothing)."""
    total = confusion.sum(axis=(-2, -1))
    observed = bootstrap.divide(np.trace(confusion, axis1=-2, axis2=-1), total)
    expected = bootstrap.divide((confusion.sum(axis=-1) * confusion.sum(axis=-2)).sum(axis=-1), total**2)
    kappa = bootstrap.divide(observed - expected, 1 - expected)
    return np.where((expected == 1) | (total == 0), 1.0, kappa)


def agree(
    first: Sequence[Annotated],
    second: Sequence[Annotated],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Agreement of two people on the captions that both have finished.

    Args:
      first: A's annotations, one a caption.
      second: B's annotations, one a caption.
      dropped: reason → places of the records that reading left out.
      draws: how many times the bootstrap resamples the captions.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `n` (captions of both), `skipped`, `dropped`, `rule`, `intervals` (of κ, by unit),
      and for each of `objects`, `words`, `captions`: `kappa` (None where it is not defined: there is no unit,
      or both used one class alone), `agreement` (a share), `n`, `classes`, `confusion` (rows A, columns B).
      `objects` also counts `only_a` and `only_b`: marks that only A and only B made.

    Raises:
      UserError: no caption that both have finished.
    """
    dropped = Dropped(dropped or {})
    pairs = _pairs(first, second, dropped)
    tables = {name: np.array([_CONFUSIONS[name](a, b) for a, b in pairs], float) for name in _UNITS}
    results = {name: _summary(table.sum(axis=0), _UNITS[name]) for name, table in tables.items()}
    shared = results["objects"]["n"]
    results["objects"] |= {
        "only_a": sum(len(a.marks) for a, _ in pairs) - shared,
        "only_b": sum(len(b.marks) for _, b in pairs) - shared,
    }
    intervals = {
        name: bootstrap.interval(table.reshape(len(pairs), -1), _metric(name), draws=draws, seed=seed)
        for name, table in tables.items()
        if results[name]["kappa"] is not None
    }
    return {
        "metric": "agreement",
        "n": len(pairs),
        **results,
        "intervals": intervals,
        "skipped": sum(map(len, dropped.values())),
        "dropped": dropped.summary(),
        "rule": RULE,
    }


def _metric(name: str) -> bootstrap.Metric:
    classes = len(_UNITS[name])
    return lambda sums: cohens_kappa(sums.reshape(*sums.shape[:-1], classes, classes))


def _summary(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    total = confusion.sum()
    one_class = np.count_nonzero(confusion) == 1 and np.trace(confusion) == total
    return {
        "kappa": None if total == 0 or one_class else float(cohens_kappa(confusion)),
        "agreement": float(np.trace(confusion) / total) if total else None,
        "n": int(total),
        "classes": list(classes),
        "confusion": confusion.astype(int).tolist(),
    }


def _pairs(
    first: Sequence[Annotated], second: Sequence[Annotated], dropped: Dropped
) -> list[tuple[Annotated, Annotated]]:
    done = [{item.key: item for item in finished(items, dropped)} for items in (first, second)]
    held = [{item.key for item in items} for items in (first, second)]
    images = [{image for image, _ in part} for part in done]
    pairs = []
    differing: set[int | str] = set()
    for key in dict.fromkeys([*done[0], *done[1]]):
        image = key[0]
        if key in done[0] and key in done[1]:
            pairs.append((done[0][key], done[1][key]))
            continue
        other = 1 if key in done[0] else 0
        if key in held[other] or image not in images[other]:
            dropped.add(f"only {'BA'[other]} has it", image)
        elif image not in differing:
            differing.add(image)
            dropped.add("captions differ", image)
    if not pairs:
        reasons = ", ".join(f"{reason}: {len(which)}" for reason, which in dropped.items())
        raise UserError(f"no caption that both have finished ({reasons})")
    return pairs


def _shared(a: Mark, b: Mark) -> int:
    """Characters that two marks share."""
    return max(0, min(a.end, b.end) - max(a.start, b.start))


def _objects(a: Annotated, b: Annotated) -> np.ndarray:
    candidates = [(_shared(x, y), x, y) for x in a.marks for y in b.marks if _shared(x, y)]
    candidates.sort(key=lambda overlap: (-overlap[0], overlap[1], overlap[2]))
    confusion = np.zeros((2, 2), int)
    used: set[tuple[str, Mark]] = set()
    for _, x, y in candidates:
        if used.isdisjoint({("a", x), ("b", y)}):
            used |= {("a", x), ("b", y)}
            confusion[OBJECT_CLASSES.index(x.verdict), OBJECT_CLASSES.index(y.verdict)] += 1
    return confusion


def _words(a: Annotated, b: Annotated) -> np.ndarray:
    confusion = np.zeros((3, 3), int)
    for span in brackets.words(a.caption):
        confusion[_class_of(span, a.marks), _class_of(span, b.marks)] += 1
    return confusion


def _class_of(span: tuple[int, int], marks: Sequence[Mark]) -> int:
    """Index in `WORD_CLASSES` of a word's class: that of the mark that shares most characters with it."""
    word = Mark(*span, "correct")
    best = max(marks, key=lambda mark: _shared(word, mark), default=None)
    if best is None or not _shared(word, best):
        return WORD_CLASSES.index("unmarked")
    return WORD_CLASSES.index(best.verdict)


def _captions(a: Annotated, b: Annotated) -> np.ndarray:
    confusion = np.zeros((2, 2), int)
    confusion[_is_hallucinated(a), _is_hallucinated(b)] = 1
    return confusion


def _is_hallucinated(item: Annotated) -> int:
    return int(any(mark.verdict == "hallucinated" for mark in item.marks))


_CONFUSIONS: dict[str, Callable[[Annotated, Annotated], np.ndarray]] = {
    "objects": _objects,
    "words": _words,
    "captions": _captions,
}


def lines(result: dict[str, Any]) -> list[str]:
    """A result as lines of text: one a unit, the objects that only one marked, the rule, what was dropped."""
    shown = [f"AGREEMENT   n = {result['n']} captions"]
    for name in _UNITS:
        unit = result[name]
        kappa = "not defined" if unit["kappa"] is None else f"{unit['kappa']:6.3f}"
        span = (
            "   95 % [{:.3f}, {:.3f}]".format(*result["intervals"][name])
            if name in result["intervals"]
            else ""
        )
        raw = "none" if unit["agreement"] is None else f"{unit['agreement']:.3f}"
        shown.append(f"  {name:<8} kappa {kappa}{span}   raw agreement {raw}   n = {unit['n']}")
    objects = result["objects"]
    shown.append(f"  objects that only A marked: {objects['only_a']}; only B: {objects['only_b']}")
    shown.append(f"  rule: {result['rule']}")
    for reason, entry in result["dropped"].items():
        shown.append(f"  dropped, {reason}: {entry['count']} ({', '.join(entry['which'])})")
    return shown
