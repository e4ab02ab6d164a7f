"""AMBER: descriptions judged by annotated objects, and yes/no questions (Wang et al. 2023, 2311.07397).

Here are its files; `amber_score` has the counting, `amber_objects` that of a description's nouns. `layout`
writes the file that the released script, `inference.py`, reads (protocols 8.1).
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks.amber_score import COLUMNS, DESCRIPTION, METRICS, is_texts, score
from sare_jax.evaluation.benchmarks.benchmark import (
    SINGLE_WORD,
    Benchmark,
    Pairs,
    asked_of,
    find,
    folder_of,
)
from sare_jax.evaluation.benchmarks.lettered import read_entries
from sare_jax.evaluation.columns import Measure, ungrouped
from sare_jax.evaluation.metrics.pope_parse import parse_stated
from sare_jax.files import read_json, read_text

QUERIES = "query_all.json"
GROUPS = {
    "discriminative-hallucination": {"dimension": "existence"},
    "discriminative-attribute-state": {"dimension": "attribute", "kind": "state"},
    "discriminative-attribute-number": {"dimension": "attribute", "kind": "number"},
    "discriminative-attribute-action": {"dimension": "attribute", "kind": "action"},
    "discriminative-relation": {"dimension": "relation"},
    "relation": {"dimension": "relation"},
}
"""Type of a question in `annotations.json` → its groups."""


def read(path: Path) -> list[dict]:
    """AMBER's queries: descriptions, which carry the lists that they are judged by, and yes/no questions.

    Args:
      path: the released folder, or one of its query files (`data/query/query_generative.json`, …) for a part;
        `annotations.json`, `relation.json` and `safe_words.txt` are looked for beside that file's folder.

    Raises:
      UserError: a file is missing or not in the format, or a query has no annotation; names it.
    """
    file = find(
        path, (f"data/query/{QUERIES}", f"query/{QUERIES}", QUERIES), "AMBER's folder or a query file"
    )
    beside = file.parent.parent if file.parent.name == "query" else file.parent
    annotations = {str(entry["id"]): entry for entry in _annotations(beside / "annotations.json")}
    relation = _relation(beside / "relation.json")
    safe = read_text(beside / "safe_words.txt").splitlines()
    words = {word for entry in relation.items() for word in (entry[0], *entry[1])}
    common = {"vocabulary": "\n".join(sorted(words)), "safe": "\n".join(safe)}
    question = partial(_question, annotations, relation, common)
    return read_entries(file, question, "a query in AMBER's format with its entry in annotations.json")


def _annotations(file: Path) -> list[dict]:
    entries = read_json(file)
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "id" in e for e in entries):
        raise UserError(f"{file}: expected AMBER's annotations, a list of {{id, type, truth}}")
    return entries


def _relation(file: Path) -> dict[str, list[str]]:
    content = read_json(file)
    if not (isinstance(content, dict) and all(is_texts(words) for words in content.values())):
        raise UserError(f"{file}: expected AMBER's word lists, {{word: [word, …]}}")
    return content


def _question(annotations: dict, relation: dict, common: dict[str, str], entry: dict) -> dict:
    annotation = annotations[str(entry["id"])]
    asked = {"id": str(entry["id"]), "image": str(entry["image"]), "question": str(entry["query"])}
    truth, kind = annotation["truth"], annotation["type"]
    if kind != DESCRIPTION:
        if truth not in ("yes", "no"):
            raise ValueError(f"truth is {truth!r}")
        form = SINGLE_WORD.removeprefix("{}")
        return {**asked, "label": truth, "groups": GROUPS[kind], "options": form}
    feared = annotation["hallu"]
    association = {word: relation[word] for word in dict.fromkeys([*truth, *feared])}
    scene = {"truth": truth, "feared": feared, "association": association, **common}
    return {**asked, "label": ", ".join(truth), "groups": {"dimension": DESCRIPTION}, "scene": scene}


def images(path: Path) -> Path:
    """The folder of the images: `image` or `images` in the released folder."""
    path = Path(path)
    root = path if path.is_dir() else path.parent
    for folder in (root, *root.parents[:2]):
        if (near := folder_of(folder, ("image", "images"))).is_dir():
            return near
    return root / "image"


def layout(pairs: Pairs) -> str:
    """The file that `inference.py --inference_data` reads: a list of {id, response}.

    It reads no answer but Yes and No, so an answer that states one of them is written as that.
    """
    entries = []
    for question, text in pairs:
        said = "unknown" if text is None or "scene" in question else parse_stated(text)
        if text is not None:
            entries.append(
                {"id": int(question["id"]), "response": text if said == "unknown" else said.capitalize()}
            )
    return json.dumps(entries, ensure_ascii=False, indent=1)


def _column(key: str, label: str, better: Any, help: str) -> Measure:
    return Measure(f"amber_{key}", f"AMBER {label}", ("benchmarks", "amber", key), better, help=help)


BENCHMARK = Benchmark(
    name="amber",
    title="AMBER",
    about="descriptions judged by annotated objects, and yes/no questions",
    prompts={"official": "{}", "lineage": "{}{options}"},
    read=read,
    images=images,
    score=score,
    shown=tuple(METRICS),
    counts=ungrouped(COLUMNS, METRICS),
    columns=(
        _column("chair", "CHAIR", "lower", "Invented among the nouns of AMBER's vocabulary, in percent."),
        _column("cover", "Cover", "higher", "Annotated objects that the descriptions name, in percent."),
        _column("hal", "Hal", "lower", "Descriptions with an invented noun, in percent."),
        _column(
            "cog", "Cog", "lower", "Absent objects that a person would guess and that are named, in percent."
        ),
        _column("f1", "F1", "higher", "Of the answer no, where the answer is Yes or No and nothing else."),
        _column("f1_robust", "F1 stated", "higher", "Of the answer no, by the yes or no that is stated."),
        _column("amber_score_robust", "score", "higher", "(100 - CHAIR + F1 stated) / 2."),
        asked_of("amber", "AMBER"),
    ),
    max_new_tokens=512,
    layout=layout,
)
