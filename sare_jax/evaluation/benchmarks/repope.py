"""RePOPE: POPE's questions with labels that people checked again (Neuhaus and Hein 2025, 2504.15707).

As in YanNeu/RePOPE's `src/evaluate.py` (protocols 8.3), POPE's lists are asked whole, and the same answers
are scored twice, by POPE's labels and by RePOPE's; see `repope_score`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks.benchmark import SINGLE_WORD, Benchmark, Pairs, asked_of, folder_of
from sare_jax.evaluation.benchmarks.repope_score import (
    COLUMNS,
    SHOWN,
    UNCLEAR,
    metrics,
    parse_official,
    score,
)
from sare_jax.evaluation.columns import Counts, Measure
from sare_jax.evaluation.pairing import key_of
from sare_jax.records.pope_lists import KINDS, read_questions
from sare_jax.records.texts import Dropped, read_records


def read(path: Path) -> list[dict]:
    """Questions of POPE's three lists with RePOPE's labels.

    Args:
      path: the released folder, or its folder `annotations`, with `coco_repope_random.json`, `…_popular` and
        `…_adversarial`; beside them POPE's own lists (`coco_pope_…`). Without these, only what RePOPE has a
        label for is asked.

    Raises:
      UserError: no list of RePOPE, a list not in POPE's format, or a label of another question.
    """
    folder = Path(path) / "annotations" if (Path(path) / "annotations").is_dir() else Path(path)
    found = [kind for kind in KINDS if (folder / f"coco_repope_{kind}.json").is_file()]
    if not found:
        raise UserError(f"{path}: no coco_repope_random.json in it; give the folder of RePOPE's annotations")
    return [question for kind in found for question in _read_list(folder, kind)]


def _read_list(folder: Path, kind: str) -> Iterator[dict]:
    file, original = folder / f"coco_repope_{kind}.json", folder / f"coco_pope_{kind}.json"
    labelled = {str(key_of(question)): question for question in read_questions(file)[0]}
    asked = read_questions(original)[0] if original.is_file() else list(labelled.values())
    keys = {str(key_of(question)) for question in asked}
    if strangers := [key for key in labelled if key not in keys]:
        raise UserError(f"{file}: question_id {strangers[0]} is not in {original.name}")
    for question in asked:
        key = str(key_of(question))
        new = labelled.get(key)
        if new and any(new.get(name) != question.get(name) for name in ("image", "text")):
            raise UserError(f"{file}: question_id {key} is another question than in {original.name}")
        yield {
            "id": f"{kind}/{key}",
            "image": str(question.get("image")),
            "question": question["text"],
            "label": new["label"] if new else UNCLEAR,
            "groups": {"list": kind},
            **({"object": question["object"]} if "object" in question else {}),
            **({"pope_label": question["label"]} if original.is_file() else {}),
        }


def images(path: Path) -> Path:
    """The folder of COCO's val2014 images: `val2014` or `images` beside the annotations."""
    near = folder_of(Path(path), ("val2014", "images"))
    above = folder_of(Path(path).parent, ("val2014", "images"))
    return above if not near.is_dir() and above.is_dir() else near


def read_answers(path: str) -> tuple[list[dict], Dropped]:
    """Answers with RePOPE's ids (`random/1`), or a folder of answers to POPE's lists, a file each.

    Of a folder, files are taken whose name has the list's (`coco_pope_random.jsonl`); labels that they carry
    are POPE's and are left aside.

    Raises:
      UserError: no such file, no file of a list in the folder, or two of one list.
    """
    if not Path(path).is_dir():
        return read_records(path)
    records: list[dict] = []
    dropped = Dropped()
    for kind in KINDS:
        files = [file for file in sorted(Path(path).glob(f"*{kind}*")) if file.suffix in (".json", ".jsonl")]
        if len(files) > 1:
            raise UserError(
                f"{path}: {files[0].name} and {files[1].name} are both of the list {kind}; keep one"
            )
        for file in files:
            answers, broken = read_records(file, text_key="answer")
            records += [_of_list(kind, place, answer) for place, answer in enumerate(answers, start=1)]
            for reason, where in broken.items():
                dropped.setdefault(reason, []).extend(f"{file.name} {line}" for line in where)
    if not records:
        raise UserError(f"{path}: no file named after {', '.join(KINDS)} in it; give answers to POPE's lists")
    return records, dropped


def _of_list(kind: str, place: int, answer: dict) -> dict:
    """An answer to question `place` of a POPE list, or to the one that it names, with RePOPE's id.

    POPE's and RePOPE's own answers repeat the question under `text`, so that key is the last that counts.
    """
    text = next((name for name in ("response", "answer", "prediction", "text") if name in answer), "text")
    kept = {name: answer[name] for name in (text, "question") if name in answer}
    return {"id": f"{kind}/{key_of(answer) or place}", **kept}


def layout(pairs: Pairs) -> str:
    """The form of the answers that RePOPE's script writes: {list: {question_id: {…, response, answer}}}."""
    content: dict[str, dict[str, dict]] = {}
    for question, text in pairs:
        if text is None or question["label"] == UNCLEAR:
            continue
        kind, _, key = str(key_of(question)).partition("/")
        said = parse_official(text)
        content.setdefault(kind, {})[key] = {
            "question_id": key,
            "text": question["question"],
            "label": question["label"],
            "dataset": kind,
            "response": text,
            "answer": None if said == "unknown" else said,
        }
    return json.dumps(content, ensure_ascii=False, indent=1)


def _column(key: str, label: str, help: str) -> Measure:
    return Measure(f"repope_{key}", f"RePOPE {label}", ("benchmarks", "repope", key), "higher", help=help)


BENCHMARK = Benchmark(
    name="repope",
    title="RePOPE",
    about="POPE's lists with corrected labels, and with their own on the same answers",
    prompts={"official": "{}", "lineage": SINGLE_WORD},
    read=read,
    images=images,
    score=score,
    shown=SHOWN,
    counts=Counts(COLUMNS, metrics),
    columns=(
        _column("f1", "F1", "F1 of yes by RePOPE's labels, the mean of its three lists."),
        _column("f1_robust", "F1 robust", "The same with answers read as a person would."),
        _column("f1_pope", "F1 by POPE", "The same answers by POPE's own labels, on its whole lists."),
        asked_of("repope", "RePOPE"),
    ),
    read_answers=read_answers,
    max_new_tokens=8,
    layout=layout,
)
