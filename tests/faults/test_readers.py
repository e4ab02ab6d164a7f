"""Every reader of JSON: what it cannot use is one printable line, whatever stands in the file."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sare_jax import files
from sare_jax.curation.captions import read_captions
from sare_jax.curation.efuf_files import read_efuf
from sare_jax.curation.select import PAPER
from sare_jax.errors import LONGEST_LINE, UserError
from sare_jax.evaluation.benchmarks import amber, gqa, hallusion, mmhal, objhal, qbench, repope, scienceqa
from sare_jax.models.families import open_source
from sare_jax.models.shared.generation import read_generation
from sare_jax.pipeline import Ledger, Task
from sare_jax.records.annotations import read_annotations
from sare_jax.records.coco import read_truth
from sare_jax.records.pope_lists import read_questions, requests
from sare_jax.records.splits import Splits, from_annotation_files, in_folder
from sare_jax.records.texts import match_captions, named_captions, read_records
from sare_jax.settings import ModelConfig
from tests import tiny_llava
from tests.evaluation.benchmarks.small_benchmarks import write_gqa, write_qbench, write_scienceqa
from tests.evaluation.benchmarks.small_judges import (
    write_amber,
    write_hallusion,
    write_mmhal,
    write_objhal,
    write_repope,
)
from tests.evaluation.small_worlds import truth_of, write_coco
from tests.faults.mutate import hostile
from tests.models.minigpt4.tiny import write_minigpt4
from tests.models.qwen.tiny import write_qwen2_5, write_qwen3
from tests.tiny_owl import write_owl

COUNT = int(os.environ.get("SARE_FUZZ", "150"))  # mutants a reader; more by hand
SEED = 1000 * int(os.environ.get("SARE_FUZZ_SEED", "0"))  # others than before


@dataclass(frozen=True)
class Reader:
    """A file that is mutated, and what reads it.

    Attributes:
      file: its name.
      write: makes the folder with a valid file in it.
      read: reads it.
    """

    file: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


CAPTIONS = [
    {"image_id": 1, "image": "1.png", "caption": "A dog and a cat.", "finish_reason": "stop"},
    {"image_id": 2, "image": "2.png", "caption": "A red car on a road.", "finish_reason": "length"},
]
QUESTIONS = [
    {"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"},
    {"question_id": 2, "image": "a.jpg", "text": "Is there a cat in the image?", "label": "no"},
]
POS_NEG = [
    {"image": "1.png", "sentence": "A dog and a cat", "position": 5, "score": 20.0},
    {"image": "1.png", "sentence": "A dog", "position": 0, "score": 35.5},
]
SENTENCES = [{"image": "1.png", "sentence": "A dog and a cat.", "mean": 30.0, "min": 25.0}]
MARKED = [
    {
        "image_id": 1,
        "caption": "A dog.",
        "marks": [{"start": 2, "end": 5, "verdict": "present"}],
        "done": True,
    }
]
SPLITS = {"train": [[1, "1.png"], [2, "2.png"]], "val": [[3, "3.png"]], "test": [[4, "4.png"]]}


def written(name: str, value: Any) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(json.dumps(value))


def efuf(folder: Path) -> None:
    (folder / "pos_neg.json").write_text(json.dumps(POS_NEG))
    (folder / "sentences.json").write_text(json.dumps(SENTENCES))


def coco(folder: Path) -> None:
    write_coco(folder, {1: ["dog", "cat"], 2: ["car"]}, {1: ["a dog"], 2: ["a car"]}, split="train")
    for number, split in ((3, "val"), (4, "test")):
        write_coco(folder, {number: ["dog"]}, {number: ["a dog"]}, split=split)


def captions_with_truth(folder: Path) -> None:
    records, dropped = read_records(folder / "c.jsonl")
    named_captions(records, dropped)
    match_captions(records, truth_of(folder, {1: ["dog"], 2: ["car"]}))


def a_record(folder: Path) -> None:
    output = folder / "out"
    task = Task("t", {}, (output,), lambda: output.write_text("x"))
    assert Ledger(folder).execute(task) is None
    shutil.copy(folder / "records" / "t.json", folder / "t.json")


def read_record(folder: Path) -> None:
    shutil.copy(folder / "t.json", folder / "records" / "t.json")
    Ledger(folder).execute(Task("t", {}, (folder / "out",), lambda: (folder / "out").write_text("x")))


def in_images(folder: Path) -> None:
    (folder / "i").mkdir(exist_ok=True)
    (folder / "i" / "COCO_train_000000000001.jpg").touch()
    in_folder(folder / "i", folder)
    from_annotation_files(folder)


def opened(folder: Path) -> Any:
    settings = ModelConfig(folder=str(folder))
    source = open_source(folder, settings)
    prompter = source.family.prompter(source, settings)
    read_generation(folder).end_ids(prompter.eos_id)
    processor = source.family.image_processor(source, settings)
    return prompter, processor.feature_lengths


def owl(folder: Path) -> Any:
    settings = ModelConfig(folder=str(folder))
    source = open_source(folder, settings)
    read_generation(folder).end_ids(2)
    return source.family.image_processor(source, settings)


def a_minigpt4(folder: Path) -> None:
    written("settings", dataclasses.asdict(write_minigpt4(folder).settings))(folder)


def minigpt4(folder: Path) -> Any:
    settings = ModelConfig(**json.loads((folder / "settings").read_text()))
    source = open_source(Path(settings.folder), settings)
    read_generation(source.folder).end_ids(2)
    return source.config


READERS = {
    "captions": Reader("c.jsonl", written("c.jsonl", CAPTIONS), captions_with_truth),
    "captions to curate": Reader(
        "c.jsonl", written("c.jsonl", CAPTIONS), lambda f: read_captions(f / "c.jsonl", f)
    ),
    "annotations": Reader("a.jsonl", written("a.jsonl", MARKED), lambda f: read_annotations(f / "a.jsonl")),
    "splits": Reader("splits.json", written("splits.json", SPLITS), lambda f: Splits.read(f / "splits.json")),
    "questions": Reader(
        "q.json", written("q.json", QUESTIONS), lambda f: requests(read_questions(f / "q.json")[0])
    ),
    "instances": Reader("instances_train.json", coco, read_truth),
    "instances for splits": Reader("instances_train.json", coco, in_images),
    "references": Reader("captions_train.json", coco, read_truth),
    "truth": Reader("t.json", written("t.json", {"1": ["dog"], "2": []}), lambda f: read_truth(f / "t.json")),
    "EFUF's pieces": Reader("pos_neg.json", efuf, lambda f: read_efuf(f, thresholds=PAPER)),
    "EFUF's sentences": Reader("sentences.json", efuf, lambda f: read_efuf(f, thresholds=PAPER)),
    "a record": Reader("t.json", a_record, read_record),
    "GQA": Reader(
        "questions1.2/testdev_balanced_questions.json",
        lambda f: write_gqa(
            f, {"1": ("n1", "Is it?", "yes", "verify"), "2": ("n1", "What?", "man", "query")}
        ),
        gqa.read,
    ),
    "ScienceQA": Reader("llava_test_CQM-A.json", write_scienceqa, scienceqa.read),
    "ScienceQA's problems": Reader("problems.json", write_scienceqa, scienceqa.read),
    "ScienceQA's splits": Reader("pid_splits.json", write_scienceqa, scienceqa.read),
    "Q-Bench": Reader("llvisionqa_dev.json", write_qbench, qbench.read),
    **{
        f"AMBER's {name}": Reader(f"data/{name}", write_amber, amber.read)
        for name in ("query/query_all.json", "annotations.json", "relation.json")
    },
    "HallusionBench": Reader("HallusionBench.json", write_hallusion, hallusion.read),
    "MMHal-Bench": Reader("response_template.json", write_mmhal, mmhal.read),
    "Object HalBench": Reader(objhal.FILE, write_objhal, objhal.read),
    **{
        f"RePOPE's {name}": Reader(f"annotations/coco_{name}_random.json", write_repope, repope.read)
        for name in ("repope", "pope")
    },
    **{
        f"a model's {name}": Reader(name, tiny_llava.write_llava, opened)
        for name in (
            "config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "tokenizer_config.json",
            "generation_config.json",
            "tokenizer.json",
        )
    },
    **{
        f"an mPLUG-Owl's {name}": Reader(name, write_owl, owl)
        for name in ("config.json", "preprocessor_config.json", "generation_config.json")
    },
    **{
        f"a MiniGPT-4's {name}": Reader(f"llama/{name}", a_minigpt4, minigpt4)
        for name in ("config.json", "generation_config.json")
    },
    **{
        f"a {called}'s {name}": Reader(name, write, opened)
        for called, write in (("Qwen3-VL", write_qwen3), ("Qwen2.5-VL", write_qwen2_5))
        for name in ("config.json", "preprocessor_config.json")
    },
    "a Qwen3-VL's tokenizer.json": Reader("tokenizer.json", write_qwen3, opened),
}


def read_whole(path: Path) -> Any:
    """The value of a JSON file, or the records of one of JSON lines, whatever it is called."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return files.read_jsonl(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "f").mkdir()
    return tmp_path / "f"


@pytest.mark.parametrize(
    "name", [name for name in READERS if re.match("an? (model|mPLUG|MiniGPT|Qwen)", name)]
)
def test_a_byte_order_mark_is_read_over(folder, name):
    reader = READERS[name]
    reader.write(folder)
    path = folder / reader.file
    if not path.exists():
        path.write_text("{}")
    for encoding in ("utf-8-sig", "utf-16"):
        text = json.dumps(files.read_json(path))
        path.write_text(text, encoding=encoding)
        reader.read(folder)


@pytest.mark.filterwarnings("ignore:.*PARTIAL GROUND TRUTH")
@pytest.mark.parametrize("name", READERS)
def test_what_cannot_be_used_is_one_line(folder, name):
    reader = READERS[name]
    reader.write(folder)
    path = folder / reader.file
    if not path.exists():
        path.write_text("{}")
    valid = read_whole(path)
    reader.read(folder)
    for content in hostile(path, valid, COUNT, seed=SEED + len(name), lines=path.suffix == ".jsonl"):
        line = ""
        try:
            reader.read(folder)
        except UserError as error:
            line = str(error)
        except Exception as error:
            raise AssertionError(f"{name}: {content[:3000]!r}") from error
        assert not line or line.isprintable()
        assert len(line) <= LONGEST_LINE
