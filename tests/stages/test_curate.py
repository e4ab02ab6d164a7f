"""Stages prepare, caption and curate with what others made, and the ways to choose limits and extractor."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from sare_jax import stages
from sare_jax.config import parse
from sare_jax.curation.efuf_files import read_efuf
from sare_jax.curation.select import Thresholds
from sare_jax.errors import UserError
from sare_jax.records.curated import read_curated
from sare_jax.records.splits import Splits
from sare_jax.stages import caption
from sare_jax.stages.context import Context
from sare_jax.stages.curate import EFUF_FILES
from tests import tiny_llava
from tests.curation.tiny_clip import CAPTIONS, make_clip_folder
from tests.evaluation.judging.judge_server import JudgeServer, says
from tests.evaluation.small_worlds import write_coco

IDS = range(1, 31)


def name(image_id: int) -> str:
    return f"COCO_val2014_{image_id:012d}.jpg"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Annotated images, captions in EFUF's form of all but the last ten, and a CLIP model."""
    root = tmp_path_factory.mktemp("world")
    shown = [["dog", "cat", "kite"], ["car", "bench", "umbrella"], ["person", "frisbee"]]
    write_coco(root / "annotations", {i: shown[i % 3] for i in IDS}, {i: ["a view"] for i in IDS})
    (root / "images").mkdir()
    for i, picture in zip(IDS, tiny_llava.pictures(len(IDS)), strict=True):
        picture.save(root / "images" / name(i))
    lines = [f"{name(i)} ### {CAPTIONS[i % len(CAPTIONS)]}" for i in IDS if i <= 20]
    (root / "captions.txt").write_text("\n".join(lines) + "\n")
    make_clip_folder(root / "clip", seed=0)
    (root / "model").mkdir()
    tiny_llava.write_llava(root / "model")
    return root


def settings(root: Path, **changes):
    raw = {
        "name": "tiny",
        "stages": "prepare,caption,curate",
        "data": {
            "images": str(root / "images"),
            "annotations": str(root / "annotations"),
            "split": "efuf",
            "used": str(root / "captions.txt"),
            "reserve_validation": 3,
            "reserve_test": 4,
        },
        "model": {"folder": str(root / "model"), "dtype": "float32"},
        "caption": {"file": str(root / "captions.txt")},
        "curate": {
            "clip": f"local-dir:{root / 'clip'}",
            "clip_pretrained": "",
            "patch": 16,
            "thresholds": {"kind": "quantile", "q1": 0.3},
        },
    }
    for section, keys in changes.items():
        raw[section] = raw[section] | keys if isinstance(keys, dict) else keys
    return parse(raw)


def test_efufs_split_and_captions_made_elsewhere(world, tmp_path):
    ledger = stages.run(settings(world), tmp_path)
    split = Splits.read(tmp_path / "splits.json")
    assert [i.id for i in split.test] == [21, 22, 23, 24]
    assert [i.id for i in split.val] == [25, 26, 27]
    assert [i.id for i in split.train] == list(range(1, 21))
    lines = (tmp_path / "captions" / "captions.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "image_id": 1,
        "image": name(1),
        "caption": CAPTIONS[1],
        "finish_reason": "stop",
    }
    assert len(lines) == 20
    curated = read_curated(tmp_path / "curated")
    assert curated.manifest["counts"]["captions_scored"] == 20
    assert curated.manifest["counts"]["images_without_caption"] == 10
    assert set(curated.rows.image_id.tolist()) <= set(range(1, 21))
    assert ledger.executed == ["prepare/splits", "caption", "curate"]
    assert stages.run(settings(world), tmp_path).executed == []


def test_an_image_exchanged_under_its_name_is_scored_anew(world, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    config = settings(world, data={"images": str(tmp_path / "images")})
    stages.run(config, tmp_path / "run")
    before = read_curated(tmp_path / "run" / "curated").manifest["scores"]
    for path in (tmp_path / "images").iterdir():
        os.utime(path)
    assert stages.run(config, tmp_path / "run").executed == []
    changed = tmp_path / "images" / name(3)
    picture = bytearray((tmp_path / "images" / name(4)).read_bytes())
    size = max(len(picture), changed.stat().st_size)
    changed.write_bytes(bytes(picture).ljust(size, b"\0"))
    assert stages.run(config, tmp_path / "run").executed == ["curate"]
    assert read_curated(tmp_path / "run" / "curated").manifest["scores"] != before
    context = Context(
        settings(world, data={"images": str(tmp_path / "images")}, caption={"file": ""}), tmp_path
    )
    context.__dict__["splits"] = Splits.read(tmp_path / "run" / "splits.json")
    (captioning,) = caption.tasks(context)
    assert captioning.inputs["images"] == context.images_hash(context.splits.train)


def test_captions_of_images_that_are_not_for_training_are_left_out(world, tmp_path):
    file = tmp_path / "captions.jsonl"
    records = [{"image": f"train/{name(i)}", "caption": "A dog and a cat."} for i in (1, 2, 21, 28)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = settings(world, caption={"file": str(file)})
    stages.run(config, tmp_path / "w")
    manifest = json.loads((tmp_path / "w" / "captions" / "manifest.json").read_text())
    assert manifest["captions"] == 2
    assert manifest["left_out"] == {"image not for training": 2}


def test_thresholds_by_audit_of_the_annotations(world, tmp_path, capsys):
    wanted = {"kind": "audit", "p0": 0.25, "p1": 0.25, "p2": 0.25, "objects": 60}
    stages.run(settings(world, curate={"thresholds": wanted}), tmp_path)
    manifest = read_curated(tmp_path / "curated").manifest
    chosen = manifest["thresholds"]["chosen"]
    assert chosen["how"].startswith("audit by ")
    for key in ("t0", "t1", "t2"):
        assert chosen[key]["wanted"] == 0.25
        assert chosen[key]["right"] >= 0.25 * chosen[key]["size"]
    assert manifest["audit"]["judged"] > 60
    with pytest.raises(UserError, match=r"curate\.thresholds\.p1 = 1: no t1 gives that precision"):
        stages.run(settings(world, curate={"thresholds": wanted | {"p1": 1.0}}), tmp_path / "other")


def test_thresholds_by_audit_of_marks(world, tmp_path):
    def marked(caption: str) -> str:
        return re.sub("cat|bench", r"[\g<0>]", re.sub("dog|tree", r"{\g<0>}", caption))

    lines = [f"{name(i)} ### {marked(CAPTIONS[i % 6])}" for i in IDS if i <= 20]
    marks = tmp_path / "marks.txt"
    marks.write_text("\n".join(lines) + "\n")
    wanted = {"kind": "audit", "p0": 0.3, "p1": 0.1, "p2": 0.3, "labels": str(marks)}
    stages.run(settings(world, curate={"thresholds": wanted}), tmp_path / "w")
    chosen = read_curated(tmp_path / "w" / "curated").manifest["thresholds"]["chosen"]
    assert chosen["how"].startswith("audit by 4")  # dogs, cats, trees and benches alone
    marks.write_text(f"{name(1)} ### Another {{dog}}.\n")
    with pytest.raises(UserError, match="none of its 1 marked captions is among the captions"):
        stages.run(settings(world, curate={"thresholds": wanted}), tmp_path / "w")
    with pytest.raises(UserError, match=r"config\.curate\.thresholds\.labels: .*none\.txt: no such file"):
        stages.run(settings(world, curate={"thresholds": wanted | {"labels": "none.txt"}}), tmp_path / "w")


def test_efufs_files_train_without_curating(world, tmp_path, capsys):
    folder = tmp_path / "efuf"
    folder.mkdir()
    pieces = [
        {"image": name(i), "sentence": "A dog runs on the grass", "position": 0, "score": 20.0 + i}
        for i in IDS
    ]
    whole = [{"image": name(i), "sentence": CAPTIONS[0], "mean": 28.0, "min": 24.0} for i in IDS]
    (folder / "pos_neg.json").write_text(json.dumps(pieces))
    (folder / "sentences.json").write_text(json.dumps(whole))
    efuf = {"efuf": str(folder), "thresholds": {"kind": "fixed"}, "rule": "efuf"}
    config = settings(world, curate=efuf, data={"used": str(folder / "pos_neg.json")})
    with pytest.raises(UserError, match="but only 0 images are not used"):
        stages.run(config, tmp_path / "none")
    config = settings(world, curate=efuf, stages="prepare,curate")  # no captions, no CLIP
    stages.run(config, tmp_path / "w")
    curated = read_curated(tmp_path / "w" / "curated")
    assert (len(curated.neg), len(curated.pos)) == (2, 8)  # 21, 22 below 23; 33 to 40 above 32
    assert set(curated.rows.image_id.tolist()) <= set(range(1, 21))
    assert curated.manifest["dropped"]["records"] == {
        f"{file}: image not for training": 10 for file in ("pos_neg.json", "sentences.json")
    }
    assert len(read_efuf(folder, thresholds=Thresholds(32, 23, 27.5)).pos) == 18
    bad = efuf | {"thresholds": {"kind": "quantile"}}
    with pytest.raises(UserError, match=r"config\.curate\.thresholds\.kind: must be fixed"):
        stages.run(settings(world, curate=bad, stages="prepare,curate"), tmp_path / "w")
    elsewhere = efuf | {"efuf": str(tmp_path)}
    with pytest.raises(UserError, match="2 things are missing, listed above"):
        stages.run(settings(world, curate=elsewhere, stages="prepare,curate"), tmp_path / "w")
    listed = capsys.readouterr()
    assert all(f"config.curate.efuf: {tmp_path / file}" in listed.err + listed.out for file in EFUF_FILES)


def test_a_language_model_finds_the_objects(world, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with JudgeServer(otherwise=says("dog, cat, bench, tree, unicorn")) as server:
        stages.run(settings(world, curate={"llm": server.base_url, "llm_model": "m"}), tmp_path / "w")
        assert len(server.asked) == len(CAPTIONS)  # equal captions are asked about once
    manifest = read_curated(tmp_path / "w" / "curated").manifest
    assert manifest["extractor"].startswith(f"m at {server.base_url}, instruction ")
    assert manifest["dropped"]["mentions"]["not_in_caption"] >= 20
    assert set(read_curated(tmp_path / "w" / "curated").neg.object) <= {"dog", "cat", "bench", "tree"}


def test_settings_that_cannot_be(world, tmp_path):
    with pytest.raises(UserError, match=r"config\.data\.used: empty"):
        settings(world, data={"used": ""})
    with pytest.raises(UserError, match=r"config\.data\.used: gone: no such file"):
        stages.run(settings(world, data={"used": "gone"}), tmp_path)
    with pytest.raises(UserError, match=r"config\.caption\.file: gone: no such file"):
        stages.run(settings(world, caption={"file": "gone"}), tmp_path)


def test_prompts_by_name():
    def prompt(text):
        return parse(
            {"name": "x", "model": {"folder": "m"}, "stages": "caption", "caption": text}
        ).caption.prompt

    assert "no more than 50 words" in prompt({})
    assert prompt({"prompt": "efuf"}) == prompt({})
    assert "at least 100 words" in prompt({"prompt": "paper"})
    assert prompt({"prompt": "What is it?"}) == "What is it?"
