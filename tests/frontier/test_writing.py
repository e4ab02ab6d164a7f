"""From workdirs to curves, files and sentences."""

import csv
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.frontier.command import main
from sare_jax.frontier.read import method_of, read_points, shared_label
from sare_jax.frontier.writing import NAMES, as_markdown, frontier, write
from sare_jax.report.frontiers import excess_sentence, headline, sentences, tables
from tests.frontier.workdirs import METHODS, make


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Do not write into it."""
    return make(tmp_path_factory.mktemp("frontier") / "one")


def measured(*workdirs, recalls=(90.0, 95.0), reference="efuf", methods=METHODS, draws=100):
    return frontier(workdirs, methods, "relearn_140", recalls, reference, draws=draws)


@pytest.fixture(scope="module")
def found(workdir):
    return measured(workdir)


def change(workdir, tmp_path, name, **changes):
    """A copy of the workdir in which one run has other settings."""
    folder = shutil.copytree(workdir, tmp_path / "copy")
    config = files.read_json(folder / "config.json")
    config["runs"][name] |= changes
    files.write_json(folder / "config.json", config)
    return folder


def test_points_are_the_metrics_of_the_runs(workdir, found):
    row = next(run for run in found["runs"] if run["run"] == "efuf_w1_s0")
    for key, setting, name in (
        ("before", "origin", "chair_s"),
        ("after", "relearn_140", "chair_s"),
        ("recall", "origin", "recall"),
        ("recall_after", "relearn_140", "recall"),
    ):
        chair = files.read_json(workdir / "metrics" / "efuf_w1_s0" / f"{setting}.json")["chair"]
        assert row[key] == pytest.approx(chair[name]), key
    assert (row["weight"], row["seed"], row["workdir"]) == (0.2, 0, "one")
    assert [p["weight"] for p in found["methods"]["robust"]["points"]] == [1, 2, 3]
    assert all(p["runs"] == 2 for p in found["methods"]["robust"]["points"])


def test_better_is_said_and_so_is_worse(found, workdir):
    said = headline(found, "robust", "efuf", 1.0)
    assert said.verdict == "better"
    assert said.claim == (
        "At a recall of 95 before the attack, Robust hallucinates in fewer captions than EFUF (Eq. 1) after "
        "the attack"
    )
    assert "one base model; 2 seeds of the order of samples; 60 images" in said.numbers
    turned = headline(measured(workdir, reference="robust"), "efuf", "robust", 1.0)
    assert turned.verdict == "worse"
    assert "EFUF (Eq. 1) hallucinates in more captions than Robust" in turned.claim


def test_alike_is_said(workdir, tmp_path):
    """A second method with the first one's rows."""
    folder = make(tmp_path / "twin")
    for metrics in sorted((folder / "metrics").glob("robust_*")):
        twin = folder / "metrics" / metrics.name.replace("robust", "efuf")
        shutil.rmtree(metrics)
        shutil.copytree(twin, metrics)
    found = measured(folder)
    said = headline(found, "robust", "efuf", 1.0)
    assert said.verdict == "none"
    assert "no difference between Robust and EFUF (Eq. 1) after the attack can be told" in said.claim
    assert sentences(found, "robust")[0].verdict == "none"


def test_a_recall_that_is_not_reached_is_not_invented(workdir):
    found = measured(workdir, recalls=(99.5,))
    said = headline(found, "robust", "efuf", 1.0)
    assert said.verdict == "open"
    assert "do not both reach a recall of 99.5, so they are not comparable there" in said.claim
    first = tables(found)[0]
    assert {cell.text for row in first.groups[0].rows for cell in row.cells[:4]} == {"not reached"}


def test_the_headline_takes_the_highest_recall_that_both_reach(workdir):
    said = headline(measured(workdir, recalls=(90.0, 95.0, 99.5)), "robust", "efuf", 1.0)
    assert said.claim.startswith("At a recall of 95 ")


def test_excess_is_told_both_ways(found):
    text = excess_sentence(found, "robust", 90.0)
    assert text.startswith("At a recall of 90 the attack adds ")
    assert "less than it teaches the base model" in text
    assert "more than it teaches the base model" in excess_sentence(found, "efuf", 90.0)


def test_one_method_is_compared_with_nothing(workdir):
    found = measured(workdir, methods={"efuf": METHODS["efuf"]})
    assert headline(found, "efuf", "efuf", 1.0) is None
    text = as_markdown(found, "efuf", 1.0)
    assert "both reach" not in text
    assert "comparable" not in text
    assert excess_sentence(found, "efuf", 90.0) in text


def test_without_an_attacked_base_the_way_to_it_is_named(tmp_path):
    folder = make(tmp_path / "bare", attack_base=False)
    found = measured(folder)
    assert any("config.attacks.relearn_140.runs" in line for line in found["missing"])
    assert "the base model was not attacked" in excess_sentence(found, "robust", 90.0)
    assert "base not attacked" in as_markdown(found, "robust", 1.0)


def test_workdirs_are_pooled_and_said_to_be(workdir, tmp_path):
    second = shutil.copytree(workdir, tmp_path / "two")
    found = measured(workdir, second)
    assert found["workdirs"] == ["one", "two"]
    assert found["methods"]["efuf"]["points"][0]["runs"] == 4
    assert "2 base models (one, two), pooled" in as_markdown(found, "robust", 1.0)
    with pytest.raises(UserError, match="two workdirs of this name"):
        measured(workdir, workdir)


def test_runs_that_were_not_measured_are_named(workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "holes")
    (folder / "metrics" / "efuf_w2_s1" / "relearn_140.json").unlink()
    found = measured(folder)
    assert found["missing"] == ["holes: efuf_w2_s1 was not measured before and after relearn_140"]
    assert {p["weight"]: p["runs"] for p in found["methods"]["efuf"]["points"]}[0.4] == 1
    shutil.rmtree(folder / "metrics")
    with pytest.raises(UserError, match="run the stages unlearn, evaluate and attack first"):
        measured(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"adamw": {"learning_rate": 1.0}},
            r"efuf: its runs differ in adamw\.learning_rate besides",
        ),
        ({"neg_weight": 0.1}, r"efuf_w0_s0 and efuf_w2_s0 are both efuf with weight 0\.1 and seed 0"),
        ({"neg_weight": "much"}, r"config\.runs\.efuf_w2_s0\.neg_weight: expected the weight"),
    ],
)
def test_points_of_different_curves_are_refused(workdir, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        measured(change(workdir, tmp_path, "efuf_w2_s0", **changes))


def test_base_models_attacked_otherwise_are_not_pooled(workdir, tmp_path):
    second = shutil.copytree(workdir, tmp_path / "two")
    config = files.read_json(second / "config.json")
    config["attacks"]["relearn_140"]["num_samples"] = 60
    files.write_json(second / "config.json", config)
    with pytest.raises(UserError, match="relearn_140 has other settings"):
        measured(workdir, second)


def test_names_of_runs():
    methods = {"sare": "x", "sare_plus": "x"}
    assert method_of("sare_plus_w1", methods) == "sare_plus"
    assert method_of("sare_w1", methods) == "sare"
    assert method_of("sare", methods) == "sare"
    assert method_of("sarepta", methods) is None
    assert shared_label(["EFUF, w 0.1, s 0", "EFUF, w 0.2, s 0"], "efuf") == "EFUF"
    assert shared_label(["a", "b"], "efuf") == "efuf"
    assert read_points  # imported for its messages above


def test_files(found, tmp_path):
    written = write(found, tmp_path, "robust", 1.0)
    assert [path.name for path in written] == list(NAMES)
    assert files.read_json(tmp_path / "frontier.json") == found
    rows = list(csv.DictReader((tmp_path / "frontier.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert float(rows[0]["after"]) == pytest.approx(found["runs"][0]["after"])
    for name in NAMES[3:]:
        text = (tmp_path / name).read_text()
        ElementTree.fromstring(text)
        assert "var(" not in text
        assert "Robust" in text
    before = [path.read_bytes() for path in written]
    write(found, tmp_path, "robust", 1.0)
    assert [path.read_bytes() for path in written] == before


def test_command(workdir, tmp_path, capsys):
    main([str(workdir), "--out", str(tmp_path), "--draws", "50"])
    assert "Robust hallucinates in fewer captions" in capsys.readouterr().out
    assert (tmp_path / "frontier.md").is_file()
    options = ["--method", "efuf=neg_weight", "--recalls", "90", "--draws", "20", "--out", str(tmp_path)]
    main([str(workdir), *options])
    assert list(files.read_json(tmp_path / "frontier.json")["methods"]) == ["efuf"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(["no"], "no/config.json: not there"), (["{}", "--recalls", "much"], "no list of percentages")],
)
def test_mistakes_end_in_one_line(workdir, arguments, names):
    command = [sys.executable, "-m", "sare_jax.frontier", *(text.format(workdir) for text in arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert names in ended.stderr


def test_captions_of_another_length_are_not_comparable(found):
    said = headline(found, "robust", "efuf", 0.05)
    assert said.verdict == "open"
    assert "are not comparable: the length of their captions differs" in said.claim
    assert said.numbers.endswith("equal would be 0.1 at most")
