"""HallusionBench: yes/no questions on images and their edited twins (Guan et al. 2024, 2310.14566).

Counted as `evaluation.py` and `utils.py` of tianyi-lab/HallusionBench do at 744007c (protocols 8.2). There
GPT-4 says whether an answer agrees with a reference; here the yes or no that the answer states is held
against `gt_answer`, and an answer that states neither is uncertain.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import (
    SINGLE_WORD,
    Benchmark,
    Pairs,
    asked_of,
    find,
    folder_of,
    pair,
    unread,
)
from sare_jax.evaluation.benchmarks.lettered import read_entries
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.metrics.pope_parse import parse_stated
from sare_jax.records.texts import Dropped, read_records

FILE = "HallusionBench.json"
ANSWER = "model_prediction"
PLACE = ("category", "subcategory", "set_id", "figure_id", "question_id")
CATEGORIES = ("VD", "VS")
COLUMNS = (
    "questions",
    "right",
    "figures",
    "figures_right",
    "figures_wrong",
    "pairs",
    "pairs_right",
    "easy",
    "easy_right",
    "hard",
    "hard_right",
    "labels_yes",
    "said_yes",
    "wrong",
    "wrong_no",
    "unread",
    "words",
)
_AT = {name: place for place, name in enumerate(COLUMNS)}


def _share(part: str, whole: str) -> bootstrap.Share:
    return bootstrap.share(_AT[part], _AT[whole])


def _bias(sums: np.ndarray) -> np.ndarray:
    said, labels = sums[..., _AT["said_yes"]], sums[..., _AT["labels_yes"]]
    return bootstrap.divide(said - labels, sums[..., _AT["questions"]])


def _inconsistent(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    figures = sums[..., _AT["figures"]]
    return figures - sums[..., _AT["figures_right"]] - sums[..., _AT["figures_wrong"]], figures


METRICS: dict[str, bootstrap.Metric] = {
    "a_acc": _share("right", "questions"),
    "f_acc": _share("figures_right", "figures"),
    "q_acc": _share("pairs_right", "pairs"),
    "easy_acc": _share("easy_right", "easy"),
    "hard_acc": _share("hard_right", "hard"),
    "inconsistent": bootstrap.Share(_inconsistent),
    "all_wrong": _share("figures_wrong", "figures"),
    "yes_bias": _bias,
    "wrong_yes_share": bootstrap.ratio(_AT["wrong_no"], _AT["wrong"], 1.0),
    "mean_words": bootstrap.ratio(_AT["words"], _AT["questions"], 1.0),
}
RULE = (
    "HallusionBench by yes and no (released script: GPT-4 judges agreement with a reference answer): aAcc of "
    "questions, fAcc of figures with all questions right, qAcc of questions right on all their figures; "
    "an answer that states neither is uncertain: right for a VS question without image, else wrong"
)


def read(path: Path) -> list[dict]:
    """Questions of `HallusionBench.json`.

    The 178 VS questions without an image have no `image`, so they are left out of `requests`; answers to them
    can be scored with `--data`.

    Args:
      path: that file, or the folder that holds it.

    Raises:
      UserError: no such file, or an entry that is not in the format; names it.
    """
    file = find(path, (FILE,), "HallusionBench's questions")
    return read_entries(file, _question, "a question in HallusionBench's format")


def _question(entry: dict) -> dict:
    label, category = {"0": "no", "1": "yes"}[str(entry["gt_answer"])], str(entry["category"])
    if category not in CATEGORIES:
        raise ValueError(f"category is {category!r}")
    image = {"image": entry["filename"].removeprefix("./")} if entry["filename"] else {}
    return {
        "id": _id(entry),
        **image,
        "question": entry["question"].strip(),
        "label": label,
        "groups": {"category": category, "subcategory": f"{category} {entry['subcategory']}"},
        "entry": entry | {key: str(entry[key]) for key in (*PLACE, "visual_input")},
    }


def _id(entry: dict) -> str:
    return "/".join(str(entry[key]) for key in PLACE)


def images(path: Path) -> Path:
    """The folder that `VD` and `VS` lie in: `hallusion_bench`, or that of the questions."""
    near = folder_of(Path(path), ("hallusion_bench",))
    return near if near.is_dir() else near.parent


def read_answers(path: str) -> tuple[list[dict], Dropped]:
    """Answers with the id of their question, or the released layout: its records with `model_prediction`."""
    records, dropped = read_records(path)
    return [_named(record) for record in records], dropped


def _named(record: dict) -> dict:
    if ANSWER not in record or any(key not in record for key in PLACE):
        return record
    return {"id": _id(record), "question": record.get("question"), "text": record[ANSWER]}


def score(
    questions: list[dict],
    answers: list[dict],
    *,
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """HallusionBench's accuracies and its consistency test, by the yes or no of each answer.

    A figure's questions are right together or not (VS without image is no figure). A question pair is one
    question on all figures of its set. Easy pairs are of original images and text, hard ones of edited ones.

    Args:
      questions: from `read` or `benchmark.requests`; answered requests serve as both.
      answers: records with the question's id and the answer's text, see `benchmark.pair`.
      dropped: reason → places of the records that reading the files left out.
      draws: how many times the bootstrap resamples the sets, since pairs reach over a set's figures.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able, in percent: `metric`; `a_acc`, `f_acc`, `q_acc`, `easy_acc`, `hard_acc`; of figures beside
      `f_acc` those answered in part (`inconsistent`) and not at all right (`all_wrong`); shares: `yes_bias`
      (said yes less yes labels), `wrong_yes_share` (of the wrong answers, those whose label is no);
      `mean_words`; `n_figures`, `n_pairs`; `by`; `unread`; the entries of `benchmark.Answered.about`;
      `intervals`; `rule`; `per_image`, a line a set.

    Raises:
      UserError: questions and answers do not belong together; see `benchmark.pair`.
    """
    answered = pair(questions, answers, _fits, dropped)
    judged = [(q["entry"], *_verdict(q, text)) for q, text in answered.pairs]
    lines: dict[str, np.ndarray] = {}
    by: dict[str, dict[str, list[bool]]] = {"category": {}, "subcategory": {}}
    for (question, text), (entry, right, stated) in zip(answered.pairs, judged, strict=True):
        no = question["label"] == "no"
        _add(
            lines,
            entry,
            questions=1,
            right=right,
            labels_yes=not no,
            said_yes=right != no,
            wrong=not right,
            wrong_no=no and not right,
            unread=not stated and text is not None,
            words=len((text or "").split()),
        )
        for dimension, named in by.items():
            named.setdefault(question["groups"][dimension], []).append(right)
    rights = [(entry, right) for entry, right, _ in judged]
    for name, keys, belongs in _UNITS:
        for entry, verdicts in _together(rights, keys, belongs):
            _add(lines, entry, **{name: 1, f"{name}_right": all(verdicts)})
            if name == "figures":
                _add(lines, entry, figures_wrong=not any(verdicts))
    counts = np.stack(list(lines.values()))
    total = dict(zip(COLUMNS, counts.sum(axis=0).tolist(), strict=True))
    about = answered.about
    if silent := unread(
        total["unread"], about["n"] - about["missing"]["count"], "HallusionBench", "yes or no"
    ):
        about["warnings"].append(silent[0].replace("count as wrong", "count as uncertain"))
    if not any(question["entry"]["visual_input"] == "0" for question in questions):
        about["warnings"].append(
            "questions without an image were not asked, so aAcc and qAcc are not those of the whole benchmark"
        )
    return {
        "metric": "hallusion",
        **{name: bootstrap.value(counts, metric) for name, metric in METRICS.items()},
        "n_figures": total["figures"],
        "n_pairs": total["pairs"],
        "unread": {"official": total["unread"]},
        **about,
        "by": {
            dimension: {name: _accuracy(rights) for name, rights in named.items()}
            for dimension, named in by.items()
        },
        "intervals": bootstrap.intervals(counts, METRICS, draws=draws, seed=seed),
        "rule": RULE,
        "per_image": bootstrap.per_image(list(lines), COLUMNS, counts),
    }


def _accuracy(rights: list[bool]) -> dict[str, Any]:
    return {"n": len(rights), "accuracy": 100 * sum(rights) / len(rights)}


def _is_figure(entry: dict) -> bool:
    return not (entry["category"] == "VS" and entry["figure_id"] == "0")


_PAIR = ("category", "subcategory", "set_id", "question_id")
_UNITS: tuple[tuple[str, tuple[str, ...], Callable[[dict], bool]], ...] = (
    ("figures", ("category", "subcategory", "set_id", "figure_id"), _is_figure),
    ("pairs", _PAIR, lambda entry: True),
    ("easy", _PAIR, lambda entry: entry["visual_input"] != "2"),
    ("hard", _PAIR, lambda entry: entry["visual_input"] == "2"),
)
"""Units that are right as a whole: column, keys that a unit's entries share, which entries count."""


def _together(
    rights: Iterable[tuple[dict, bool]], keys: tuple[str, ...], belongs: Callable[[dict], bool]
) -> list[tuple[dict, list[bool]]]:
    """The verdicts of each unit, with one of its entries."""
    units: dict[tuple[str, ...], tuple[dict, list[bool]]] = {}
    for entry, right in rights:
        if belongs(entry):
            units.setdefault(tuple(entry[key] for key in keys), (entry, []))[1].append(right)
    return list(units.values())


def _add(lines: dict[str, np.ndarray], entry: dict, **counts: int | bool) -> None:
    name = "/".join(entry[key] for key in ("category", "subcategory", "set_id"))
    row = lines.setdefault(name, np.zeros(len(COLUMNS), int))
    for column, count in counts.items():
        row[_AT[column]] += int(count)


def _verdict(question: dict, text: str | None) -> tuple[bool, bool]:
    """Whether an answer is right, and whether it states yes or no; no answer at all is wrong."""
    if text is None:
        return False, False
    said = parse_stated(text)
    if said == "unknown":
        return not _is_figure(question["entry"]), False
    return said == question["label"], True


def _fits(question: dict) -> bool:
    """Whether a question is one of HallusionBench's."""
    entry = question.get("entry")
    return (
        question["label"] in ("yes", "no")
        and all(isinstance(question["groups"].get(name), str) for name in ("category", "subcategory"))
        and isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in (*PLACE, "visual_input"))
    )


def layout(pairs: Pairs) -> str:
    """`HallusionBench_result.json`, which `evaluation.py` reads: the records with `model_prediction`."""
    return json.dumps(
        [{**question["entry"], ANSWER: text} for question, text in pairs if text is not None],
        ensure_ascii=False,
    )


def _column(key: str, label: str, help: str) -> Measure:
    return Measure(
        f"hallusion_{key}", f"Hallusion {label}", ("benchmarks", "hallusion", key), "higher", help=help
    )


BENCHMARK = Benchmark(
    name="hallusion",
    title="HallusionBench",
    about="yes/no questions on images and their edited twins; by yes and no, not by GPT-4",
    prompts={"official": "{}", "lineage": SINGLE_WORD},
    read=read,
    images=images,
    score=score,
    shown=tuple(METRICS),
    counts=ungrouped(COLUMNS, METRICS),
    columns=(
        _column("a_acc", "aAcc", "Questions answered right by yes or no, in percent (not by GPT-4)."),
        _column("f_acc", "fAcc", "Figures with all their questions right, in percent."),
        _column("q_acc", "qAcc", "Questions right on all figures that they are asked of, in percent."),
        asked_of("hallusion", "Hallusion"),
    ),
    whole="its figures and question pairs are right or wrong as a whole",
    read_answers=read_answers,
    max_new_tokens=64,
    layout=layout,
)
