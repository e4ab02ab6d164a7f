"""The whole road on a tiny world: made once, skipped when current, redone in part, resumed; errors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.configs import demo_sare
from sare_jax.errors import UserError
from sare_jax.evaluation.compare import compare
from sare_jax.evaluation.metrics.chair_categories import share_inventing
from sare_jax.settings.road import Config
from tests.artifacts import artifacts

pytestmark = pytest.mark.optimised
ROOT = Path(__file__).resolve().parents[1]
RUNS = ("efuf", "sare", "robust")


def tiny(**changes) -> Config:
    """The demo's settings at the smallest size; `changes` are dotted keys with `__` for the dots."""
    config = demo_sare.get_config("short")
    config.unlock()
    config.data.prepare_args.update({"train": 48, "val": 10, "test": 16})
    config.model.data_parallel = 1  # of the eight devices of the tests; `test_scale` takes all
    config.evaluate.max_images = 8
    config.evaluate.options.pope.images = 4
    config.evaluate.bootstrap = 50
    config.optim.steps = 4
    config.optim.checkpoint_every = 2
    config.export.check_captions = 2
    config.report.landscape_images = 2
    config.report.gallery = 2
    for name in ("unlikelihood", "unlikelihood_sam"):  # take no other road than these
        del config.runs[name]
    for key, value in changes.items():
        *path, last = key.split("__")
        section = config
        for name in path:
            section = section[name]
        section[last] = value
    for section, name in ((config.model, "folder"), (config.evaluate.options.perplexity, "lm")):
        if not Path(section[name]).is_absolute():
            section[name] = str(ROOT / section[name])
    config.report.selection = str(ROOT / config.report.selection)
    config.curate.clip = config.curate.clip.replace("local-dir:", f"local-dir:{ROOT}/")
    return parse(config.to_dict())


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A workdir in which every stage has run."""
    workdir = tmp_path_factory.mktemp("road") / "run"
    stages.run(tiny(), workdir)
    return workdir


@pytest.fixture
def copy(road, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(road, tmp_path / "run"))


def test_every_artifact_is_there(road):
    made = ("splits.json", "captions/captions.jsonl", "curated/neg.npz", "landscape.json", "matched.json")
    for name in made:
        assert (road / name).is_file(), name
    for run in RUNS:
        for setting in ("origin", "relearn_8", "relearn_disjoint", "adversarial"):
            row = json.loads((road / "metrics" / run / f"{setting}.json").read_text())
            assert row["chair"]["n"] == 8
            assert row["pope"]["random"]["n"] == 24
            assert row["informativeness"] == row["human"] == "not measured"
    for setting in ("origin", "relearn_8", "relearn_disjoint", "adversarial"):
        assert (road / "metrics" / "base" / f"{setting}.json").is_file(), setting
    page = (road / "report.html").read_text()
    assert "not measured" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_recovery_on_the_held_out_half_follows_from_what_is_kept(road):
    record = json.loads((road / "attacks" / "sare" / "relearn_disjoint.json").read_text())
    assert len(record["taught"]) == len(record["held_out"]) == 12
    assert 0 < record["samples"] == record["units"]
    for run in ("base", "sare"):
        for setting in ("origin", "relearn_disjoint"):
            found = json.loads((road / "metrics" / run / f"{setting}.json").read_text())["chair"]
            shares = [share_inventing(found, record[half])["chair_s"] for half in ("taught", "held_out")]
            assert max(shares) <= found["chair_s"] <= sum(shares)


def test_ck_06_rows_carry_step_config_and_weights_and_compare_looks_at_them(road):
    rows = [json.loads((road / "metrics" / run / "origin.json").read_text()) for run in ("efuf", "sare")]
    for row in rows:
        assert row["provenance"]["step"] == 4
        assert len(row["provenance"]["params"]) == len(row["provenance"]["config"]) == 64
    assert rows[0]["provenance"]["params"] != rows[1]["provenance"]["params"]
    assert compare(*rows)["warnings"] == []
    rows[1]["provenance"]["config"] = "other"
    assert compare(*rows)["warnings"] == [
        f"provenance: config differs: {rows[0]['provenance']['config']} and other"
    ]


def test_arrays_need_no_pickle(road):
    for name in ("rows", "neg", "pos", "sent"):
        with np.load(road / "curated" / f"{name}.npz", allow_pickle=False) as arrays:
            assert len(arrays.files) >= 3


def test_transformers_says_the_same(road):
    found = json.loads((road / "export_check.json").read_text())
    assert found["equal"] == found["n"] == 2


def test_a_second_run_does_nothing(road):
    before = artifacts(road)
    assert stages.run(tiny(), road).executed == []
    assert artifacts(road) == before


def test_one_changed_run_redoes_what_follows_from_it(copy):
    changed = tiny(runs__sare__rho=0.2, stages="prepare,caption,curate,unlearn,evaluate,export")
    done = stages.run(changed, copy).executed
    assert "unlearn/sare" in done
    assert "answers/sare/origin" in done
    assert not [name for name in done if "efuf" in name or "robust" in name or name == "curate"]


def test_a_new_threshold_redoes_the_curation_but_not_the_captions(copy):
    done = stages.run(tiny(curate__thresholds__q1=0.3, stages="caption,curate"), copy).executed
    assert done == ["curate"]


def test_interrupted_training_ends_at_the_same_weights(copy, monkeypatch):
    from sare_jax.training import unlearn

    reference = files.read_json(copy / "records" / "answers" / "sare" / "origin.json")["outputs"]
    files.remove(copy / "checkpoints" / "sare")
    break_off(monkeypatch, unlearn, at_step=4)
    with pytest.raises(KeyboardInterrupt):
        stages.run(tiny(stages="unlearn"), copy)
    monkeypatch.undo()
    files.remove(copy / "answers" / "sare" / "origin")
    stages.run(tiny(stages="unlearn,evaluate"), copy)
    assert files.read_json(copy / "records" / "answers" / "sare" / "origin.json")["outputs"] == reference


def test_a_missing_stage_is_named(tmp_path):
    with pytest.raises(UserError, match="run the stage 'prepare' first"):
        stages.run(tiny(stages="caption"), tmp_path)


def test_an_image_that_cannot_be_decoded_is_skipped_and_named(copy):
    broken = next(iter(json.loads((copy / "splits.json").read_text())["train"]))[1]
    (copy / "data" / "images" / broken).write_bytes(b"not an image")
    keep_data(copy)
    files.remove(copy / "captions")
    stages.run(tiny(stages="caption"), copy)
    manifest = json.loads((copy / "captions" / "manifest.json").read_text())
    assert list(manifest["skipped"]) == [broken]
    assert manifest["images"] == 47


def test_an_empty_image_folder_is_named(copy):
    shutil.rmtree(copy / "data" / "images")
    (copy / "data" / "images").mkdir()
    keep_data(copy)
    with pytest.raises(UserError, match=r"images: holds no images"):
        stages.run(tiny(stages="prepare"), copy)


def test_an_image_without_annotations_is_named(copy):
    path = copy / "data" / "annotations" / "instances_test.json"
    content = json.loads(path.read_text())
    gone = content["images"].pop()
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != gone["id"]]
    path.write_text(json.dumps(content))
    keep_data(copy)
    with pytest.raises(UserError, match=gone["file_name"]):
        stages.run(tiny(stages="prepare"), copy)


def test_an_empty_d_neg_is_said_and_leaves_the_old_one(copy):
    before = files.digest(copy / "curated")
    limits = {"kind": "fixed", "t0": 0.0, "t1": -100.0}
    changes = {f"curate__thresholds__{key}": value for key, value in (limits | {"q1": None}).items()}
    with pytest.raises(UserError, match="D_neg is empty"):
        stages.run(tiny(stages="curate", **changes), copy)
    assert files.digest(copy / "curated") == before


def test_captions_without_objects_are_said(copy):
    captions = copy / "captions" / "captions.jsonl"
    records = files.read_jsonl(captions)
    files.write_jsonl(captions, [{**record, "caption": "It is very quiet."} for record in records])
    keep(copy, "caption", [copy / "captions"])
    with pytest.raises(UserError, match="none of the 48 captions names an object"):
        stages.run(tiny(stages="curate"), copy)


def keep_data(workdir: Path) -> None:
    """Lets the ledger take changed data for what it made."""
    keep(workdir, "prepare/data", [workdir / "data"])


def keep(workdir: Path, task: str, outputs: list[Path]) -> None:
    path = workdir / "records" / f"{task}.json"
    record = files.read_json(path)
    record["outputs"] = {output.name: files.digest(output) for output in outputs}
    files.write_json(path, record)


def break_off(monkeypatch, unlearn, *, at_step: int) -> None:
    """Lets the process die, as far as training is concerned, when it asks for the batch of a step."""
    steps = iter(range(1, at_step + 1))
    attach = unlearn.attach

    def dying(batch, features):
        if next(steps) == at_step:
            raise KeyboardInterrupt
        return attach(batch, features)

    monkeypatch.setattr(unlearn, "attach", dying)
