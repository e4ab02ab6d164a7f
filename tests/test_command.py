"""The command line and the settings, as a user meets them (cases CL-01 to CL-07)."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from sare_jax.attacks.prompt import Prompt
from sare_jax.attacks.relearn import Relearn
from sare_jax.command import config_dict, normalise_arguments
from sare_jax.config import known_keys, parse, parse_saved, renamed_keys, to_dict
from sare_jax.errors import UserError
from sare_jax.settings import FixedThresholds, QuantileThresholds
from sare_jax.settings.presets import PRESETS, with_runs
from sare_jax.settings.road import Config

ROOT = Path(__file__).resolve().parents[1]
LLAVA = str(ROOT / "configs" / "llava_sare.py")
DEMO = str(ROOT / "configs" / "demo_sare.py")


@pytest.fixture(autouse=True)
def _own_argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py"])


def read(*arguments: str, config: str = LLAVA) -> Config:
    """Parses a command line as `main.py` does, in flags of its own."""
    values = flags.FlagValues()
    arguments = ["main.py", f"--config={config}", *arguments]
    sys.argv = arguments  # where ml_collections looks for overrides
    holder = config_flags.DEFINE_config_file("config", None, "settings", flag_values=values, lock_config=True)
    runs = flags.DEFINE_multi_string("run", [], "runs", flag_values=values)
    normalise_arguments(values, arguments, required=("config",), renamed=renamed_keys(), keys=known_keys())
    chosen = config_flags.get_override_values(values["config"])
    return parse(with_runs(config_dict(holder), runs.value), chosen)


def main(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )


def assert_one_line(result: subprocess.CompletedProcess, *words: str) -> None:
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(("text", "value"), [("1e-5", 1e-5), ("1.0e-5", 1e-5), ("5e-4", 5e-4)])
def test_cl_01_exponents_are_numbers(text, value):
    assert read(f"--config.optim.adamw.learning_rate={text}").runs["sare"].adamw.learning_rate == value


def test_cl_01_a_number_of_the_wrong_kind_names_its_key():
    with pytest.raises(UserError, match=r"config\.optim\.adamw\.learning_rate"):
        read("--config.optim.adamw.learning_rate=fast")


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--config.report.matched", "False"], False),
        (["--config.report.matched=False"], False),
        (["--noconfig.report.matched"], False),
        (["--config.report.matched", "True"], True),
        (["--config.report.matched"], True),
    ],
)
def test_cl_02_false_is_false(arguments, value):
    assert read(*arguments).report.matched is value


def test_cl_02_a_boolean_that_is_none_is_refused():
    with pytest.raises(UserError, match="maybe"):
        read("--config.report.matched", "maybe")


def test_cl_03_no_stays_a_word(tmp_path):
    config = tmp_path / "experiment.py"
    config.write_text(
        "from sare_jax.configs.common import base_config\n"
        "def get_config():\n"
        "    config = base_config('no')\n"
        "    config.model.folder = 'no'\n"
        "    return config.lock()\n"
    )
    assert read(config=str(config)).name == "no"
    assert read("--config.model.folder=no", config=str(config)).model.folder == "no"


def test_cl_04_an_unknown_key_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="micro_batches"):
        read("--config.optim.micro_bathces=4")
    with pytest.raises(
        UserError, match=r"config\.runs\.sare\.neg_wieght: unknown key; did you mean neg_weight"
    ):
        parse({"name": "x", "runs": {"sare": {"neg_wieght": 1.0}}})


def test_cl_05_a_missing_model_is_one_line_before_anything_is_loaded(tmp_path):
    result = main("--config", LLAVA, "--config.model.folder=", f"--workdir={tmp_path / 'run'}")
    assert_one_line(result, "config.model.folder", "--config.model.folder=")
    assert not (tmp_path / "run").exists()


def test_cl_06_the_resolved_settings_are_the_papers():
    run = read().runs["sare"]
    assert (run.adamw.learning_rate, run.adamw.weight_decay, run.epochs) == (1e-5, 0.05, 1.0)
    assert (run.neg_weight, run.sent_weight, run.rho) == (0.3, 0.2, 0.05)
    assert read().curate.thresholds == FixedThresholds(t0=32.0, t1=23.0, t2=27.5)


def test_cl_07_the_kind_of_model_is_in_its_config_not_in_its_path(tmp_path):
    from sare_jax.stages.context import Context

    source = ROOT / "sare_jax" / "demo" / "weights" / "llava"
    hashes = []
    for name in ("x", "x-lora-mplug"):
        shutil.copytree(source, tmp_path / name)
        config = read(f"--config.model.folder={tmp_path / name}")
        hashes.append(Context(config, tmp_path / "run").model_hash)
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["python main.py --config demo_sare"]),
        (["--config", "configs/none.py"], ["configs/none.py", "configs/"]),
        (["--config", LLAVA, "--config.optim.rhoo=1"], ["optim.rhoo", "did you mean --config.optim.rho?"]),
        (["--config", DEMO, "--config.optim.rho=0.1"], ["config.optim.rho", "config.runs.sare.rho"]),
        (["--config", LLAVA, "--rho=0.1"], ["--config.optim.rho or --config.runs.NAME.rho?"]),
        (["--config", LLAVA, "--quiet", "--log_json"], ["--quiet, --log_json", "one of them"]),
        (["--config", LLAVA, "stray"], ["stray"]),
        (["--confg", LLAVA], ["confg", "config"]),
        (["--config", LLAVA, "--config.stages=unlearn,evalaute"], ["evalaute", "evaluate"]),
        (["--config", LLAVA, "--config.optim.rho=-1"], ["rho", "at least 0"]),
        (["--config", LLAVA, "--config.data.split=half"], ["config.data.split", "'reserve'"]),
        (["--config", LLAVA, "--config.curate.t1=20"], ["--config.curate.thresholds.t1 now"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, words, tmp_path):
    assert_one_line(main(*arguments, *([f"--workdir={tmp_path}"] if arguments else [])), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise RuntimeError('no')", "mine.py: RuntimeError: no"),
        ("def get_config(", "mine.py: line 1: '(' was never closed"),
        (
            "def get_config(variant):\n    raise ValueError(f'mine.py:{variant}: not known')",
            "mine.py:x: not known",
        ),
    ],
)
def test_a_config_file_that_fails_is_named_without_its_traceback(text, words, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError) as caught:
        read(config=f"{tmp_path / 'mine.py'}:x")
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "--config.section" not in str(caught.value)


def test_a_kind_and_its_keys_are_chosen_on_the_command_line():
    arguments = ["--config.curate.thresholds.kind=quantile", "--config.curate.thresholds.q1=0.05"]
    assert read(*arguments).curate.thresholds == QuantileThresholds(q1=0.05)
    assert read(*reversed(arguments)).curate.thresholds == QuantileThresholds(q1=0.05)
    assert read("--config.curate.thresholds.t2=20").curate.thresholds == FixedThresholds(t2=20.0)
    with pytest.raises(UserError, match=r"thresholds\.q1: belongs to kind quantile.* set config\.curate\.th"):
        read(arguments[1])
    with pytest.raises(UserError, match=r"thresholds\.kind: 'best' is not one of 'fixed', 'quantile'"):
        read("--config.curate.thresholds.kind=best")
    with pytest.raises(UserError, match=r"config\.curate\.thresholds\.q1=low"):
        read(arguments[0], "--config.curate.thresholds.q1=low")


def test_a_shared_value_reaches_the_attacks_that_have_such_a_key():
    attacks = read("--config.attack.batch_size=2").attacks
    assert attacks["relearn_60"].settings == Relearn(num_samples=60, batch_size=2)
    assert attacks["adversarial"].settings == Prompt()


def test_a_run_takes_what_it_does_not_name_from_optim():
    config = read("--config.optim.rho=0.1")
    assert config.runs["sare"].rho == 0.1
    assert config.runs["efuf"].rho == 0.0


@pytest.mark.parametrize("value", ["0.1", "0.05", "-1"])
def test_a_shared_value_that_all_runs_override_is_refused(value):
    message = (
        "at least 0" if value == "-1" else r"since each of efuf, .* sets its own; set config\.runs\.efuf\.rho"
    )
    with pytest.raises(UserError, match=rf"config\.optim\.rho: .*{message}"):
        read(f"--config.optim.rho={value}", config=DEMO)


@pytest.mark.parametrize(("value", "message"), [("30", "sets its own; set"), ("-3", "at least 0")])
def test_so_is_one_that_all_attacks_override(value, message):
    with pytest.raises(UserError, match=rf"config\.attack\.num_samples: .*{message}"):
        read(f"--config.attack.num_samples={value}")


def test_a_file_that_sets_a_value_for_nobody_is_refused_too():
    raw = {"name": "x", "model": {"folder": "x"}, "stages": "caption", "report": {"matched": False}}
    raw |= {"optim": {"adamw": {"learning_rate": 0.1}}}
    runs = {name: {"adamw": {"learning_rate": rate}} for name, rate in (("a", 1e-3), ("b", 1e-4))}
    with pytest.raises(UserError, match=r"config\.optim\.adamw\.learning_rate: has no effect.* of a, b sets"):
        parse(raw | {"runs": runs})
    assert parse(raw | {"runs": runs | {"c": {}}}).runs["c"].adamw.learning_rate == 0.1
    assert parse(raw | {"runs": {}}).optim.adamw.learning_rate == 0.1


def test_what_the_base_model_takes_from_optim_is_no_mistake():
    runs = {"a": {"instruction": "What is there?"}}
    raw = {"name": "x", "model": {"folder": "x"}, "stages": "caption", "runs": runs}
    assert parse(raw | {"optim": {"instruction": "Describe."}}).optim.instruction == "Describe."


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*_s*.py")), ids=lambda path: path.stem)
def test_saved_settings_are_read_back(path):
    config = read(config=str(path))
    assert parse_saved(json.loads(json.dumps(to_dict(config)))) == config


def test_the_config_file_of_the_docs_is_read(tmp_path):
    text = (ROOT / "docs" / "own_config.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    config = read(config=str(tmp_path / "mine.py"))
    assert (config.name, config.report.ours) == ("mine", "strong")
    assert config.runs["strong"].rho == 0.2
    assert config.data.images == "photos"


def test_a_run_begins_from_another_or_from_a_preset():
    config = read(
        "--run", "mine=robust,rho=0.1,adamw.learning_rate=1e-4", "--run=copy=sare,label=Copy", config=DEMO
    )
    demo = read(config=DEMO).runs
    assert config.runs["mine"] == dataclasses.replace(
        demo["robust"], rho=0.1, adamw=dataclasses.replace(demo["robust"].adamw, learning_rate=1e-4)
    )
    assert config.runs["copy"] == demo["sare"]
    assert (config.run_labels["mine"], config.run_labels["copy"]) == ("mine", "Copy")
    preset = read("--run=mine=robust").runs["mine"]
    assert preset == read(config=f"{LLAVA}:robust").runs["robust"]
    assert preset.adamw.learning_rate == 2.5 * 1e-5
    assert set(PRESETS) == {"efuf", "sare", "robust"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine=robust,roh=0.1", r"config\.runs\.mine\.roh: unknown key; did you mean rho"),
        ("mine=robust,rho=-1", r"config\.runs\.mine\.rho: must be at least 0"),
        ("mine=rubust", "no run or preset is called 'rubust'; did you mean robust"),
        ("mine=robust,rho", "'rho' is not key=value"),
        ("sare=efuf", r"there is a run sare; set --config\.runs\.sare\.KEY"),
        ("mine", "write --run NAME=FROM,key=value"),
    ],
)
def test_a_run_that_cannot_be_made_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        read(f"--run={text}")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("--rho=0.1", "--config.optim.rho or --config.runs.NAME.rho?"),
        ("--roh=0.1", "--config.optim.rho or --config.runs.NAME.rho?"),
        ("--confg=x", "did you mean --config?"),
        ("--config.roh=1", "--config.optim.rho or --config.runs.NAME.rho?"),
        ("--config.optim.roh=1", "did you mean --config.optim.rho?"),
        ("--config.runs.sare.roh=1", "did you mean --config.runs.sare.rho?"),
        ("--config.runs.mine.rho=1", "no run is called mine; begin one with --run mine=FROM,rho=VALUE"),
        ("--config.num_samples=3", "--config.attack.num_samples or --config.attacks.NAME.num_samples?"),
        ("--xyzzy=1", "--xyzzy: no such flag; --help lists them"),
    ],
)
def test_what_was_meant(written, meant):
    with pytest.raises(UserError) as caught:
        read(written)
    assert meant in str(caught.value)


def test_stages_run_in_the_order_of_the_road():
    assert read("--config.stages=evaluate,unlearn").stages == ("unlearn", "evaluate")


def test_the_resolved_settings_are_json():
    assert json.loads(json.dumps(to_dict(read())))["runs"]["efuf"]["rho"] == 0.0


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*_s*.py")), ids=lambda path: path.stem)
def test_every_config_parses(path):
    assert read(config=str(path)).runs
