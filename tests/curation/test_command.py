import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax import files
from sare_jax.command import guarded
from sare_jax.curation import calibrate, command, scoring
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe, recipe_of
from sare_jax.records.curated import read_curated
from sare_jax.settings import AuditThresholds, CurateConfig, FixedThresholds, QuantileThresholds
from sare_jax.settings.documentation import meanings
from tests.faults.file_limit import file_limit

ROOT = Path(__file__).resolve().parents[2]


def quantiles(q0, q1, q2):
    """The options for thresholds at quantiles."""
    return [
        "--thresholds.kind=quantile",
        *(f"--thresholds.{k}={v}" for k, v in zip(("q0", "q1", "q2"), (q0, q1, q2), strict=True)),
    ]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["curation"])
    guarded(command.main)(list(map(str, arguments)))
    return capsys.readouterr().out


def test_the_command_curates_and_says_what_came_of_it(world, clip_folder, tmp_path, monkeypatch, capsys):
    captions, images = world
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "out", "--clip", clip_folder]
    options = ["--patch", 16, *quantiles(0.7, 0.3, 0.4), "--rule", "efuf", "--device", "cpu"]
    printed = run(monkeypatch, capsys, *paths, *options)
    curated = read_curated(tmp_path / "out")
    assert curated.manifest["sentence_rule"] == "efuf"
    assert curated.manifest["windows"]["patch"] == 16
    assert f"D_neg {len(curated.neg)}, D_pos {len(curated.pos)}, D_sent {len(curated.sent)}" in printed
    assert "6 captions, 6 scored" in printed
    assert "left out, mentions: 1 repeated_mention" in printed
    assert "images smaller than a window, scored whole: 1" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--clip", "missing/clip/folder"), "no open_clip model there"),
        (("--images", "nowhere"), "no such image folder"),
        (("--captions", "nothing.jsonl"), "no such file"),
        (("--thresholds.t0", 1, "--thresholds.t1", 2), "curate.thresholds.t1: 2.0 lies above t0 = 1.0"),
        (("--thresholds.q1", 0.2), "belongs to kind quantile, but curate.thresholds.kind is fixed"),
        (("--patch", 0), "curate.patch: must be at least 1, got 0"),
        (("--thresholds.kind", "audit"), "audit needs labelled objects; name them with --truth"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    world, clip_folder, tmp_path, monkeypatch, capsys, change, message
):
    captions, images = world
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "out", "--clip", clip_folder]
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, *paths, *change)
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert stop.value.code == 2
    assert printed.startswith("error: ")
    assert message in printed


@pytest.fixture
def truth(tmp_path):
    shown = [["dog", "frisbee"], ["person", "bench"], ["car"], ["dog"], ["cat", "bench"], ["kite"]]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({str(i): names for i, names in enumerate(shown)}))
    return path


def options_for(world, clip_folder, tmp_path):
    captions, images = world
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "out", "--clip", clip_folder]
    return [*paths, "--patch", 16, "--device", "cpu"]


def test_histogram_of_what_was_scored(world, clip_folder, tmp_path, truth, monkeypatch, capsys):
    figure = tmp_path / "h.svg"
    given = [*options_for(world, clip_folder, tmp_path), "--truth", truth]
    printed = run(monkeypatch, capsys, "histogram", *given, *quantiles(0.7, 0.3, 0.5), "--figure", figure)
    assert "grounded: " in printed
    assert "AUC " in printed
    assert figure.stat().st_size > 1000
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(scoring, "load_image", None)  # calling it would fail: all is scored
    again = run(monkeypatch, capsys, "histogram", *given, "--figure", figure)
    assert again == printed


def test_t2_30_sigterm_keeps_the_batches_that_were_scored(world, clip_folder, tmp_path, monkeypatch, capsys):
    given = [*options_for(world, clip_folder, tmp_path), *quantiles(0.7, 0.3, 0.4)]
    given += ["--image-batch", 1, "--workers", 1]
    read, original = [], scoring.load_image

    def load_image(path, *arguments):
        read.append(path.name)
        if len(read) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(path, *arguments)

    monkeypatch.setattr(scoring, "load_image", load_image)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, *given)
    assert stop.value.code == 143
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed == "interrupted; the same command goes on from here"
    assert not (tmp_path / "out").exists()
    run(monkeypatch, capsys, *given)
    again = len(read) - 5
    assert again < 6
    resumed = files.digest(tmp_path / "out")
    for name in ("out", ".out_work"):
        files.remove(tmp_path / name)
    run(monkeypatch, capsys, *given)
    assert files.digest(tmp_path / "out") == resumed
    assert len(read) == 5 + again + 6


def test_t2_29_a_disk_without_room_is_a_line_and_loses_nothing(
    world, clip_folder, tmp_path, monkeypatch, capsys
):
    given = [*options_for(world, clip_folder, tmp_path), *quantiles(0.7, 0.3, 0.4)]
    for size in (10, 300, 800, 2000):
        with pytest.raises(SystemExit) as stop, file_limit(size):
            run(monkeypatch, capsys, *given)
        assert stop.value.code == 2
        printed = capsys.readouterr().err.strip().splitlines()[-1]
        assert re.match(rf"error: {tmp_path}/\.?out\S*: cannot be written \(File too large\); raise", printed)
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr(scoring, "load_image", None)  # calling it would fail: all scores are kept
    run(monkeypatch, capsys, *given)
    assert len(read_curated(tmp_path / "out").neg) > 0


def test_calibrate_says_the_limits_that_curate_then_takes(
    world, clip_folder, tmp_path, truth, monkeypatch, capsys
):
    monkeypatch.setattr(calibrate, "FEWEST", 3)
    wanted = [f"--thresholds.{name}=0.3" for name in ("p0", "p1", "p2")]
    given = [*options_for(world, clip_folder, tmp_path), "--truth", truth]
    printed = run(monkeypatch, capsys, "calibrate", *given, *wanted)
    assert "t1 = " in printed
    assert "95 % interval" in printed
    limits = printed.splitlines()[-1].split()
    assert limits[0].startswith("--thresholds.t0=")
    by_hand = run(monkeypatch, capsys, *given, *limits)
    by_audit = run(monkeypatch, capsys, *given, "--thresholds.kind", "audit", *wanted)
    sets = [line for line in by_hand.splitlines() if line.startswith("D_neg")]
    assert sets == [line for line in by_audit.splitlines() if line.startswith("D_neg")]
    assert "truth: " in by_audit


def test_marks_bring_their_own_captions(world, clip_folder, tmp_path, monkeypatch, capsys):
    marks = tmp_path / "marks.txt"
    marks.write_text("0.png ### {A dog} and [a cat].\n1.png ### [A kite] and {a bench}.\n")
    given = options_for(world, clip_folder, tmp_path)[2:]
    printed = run(monkeypatch, capsys, "histogram", *given, "--labels", marks, "--figure", tmp_path / "h.png")
    assert "grounded: 2 objects" in printed
    assert "hallucinated: 2" in printed
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, *given)
    assert "--captions is missing" in capsys.readouterr().err


def test_efufs_files_out_and_in(world, clip_folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, capsys, *options_for(world, clip_folder, tmp_path), *quantiles(0.6, 0.4, 0.4))
    curated = read_curated(tmp_path / "out")
    printed = run(
        monkeypatch, capsys, "export-efuf", "--curated", tmp_path / "out", "--efuf", tmp_path / "efuf"
    )
    assert f"pos_neg.json: {len(curated.neg) + len(curated.pos)} rows" in printed
    chosen = curated.manifest["thresholds"]
    limits = [f"--thresholds.{name}={chosen[name]}" for name in ("t0", "t1", "t2")]
    given = ["--efuf", tmp_path / "efuf", "--out", tmp_path / "back", "--rule", "paper"]
    printed = run(monkeypatch, capsys, "import-efuf", *given, *limits)
    assert f"D_neg {len(curated.neg)}, D_pos {len(curated.pos)}, D_sent {len(curated.sent)}" in printed
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, capsys, "import-efuf", "--efuf", tmp_path, "--out", tmp_path / "x")
    assert stop.value.code == 2
    assert "pos_neg.json: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("images", "nowhere", "--images: nowhere: no such image folder"),
        ("captions", "nothing.jsonl", "--captions: nothing.jsonl: no such file"),
        ("truth", "nothing", "--truth: nothing: no such file or folder"),
        ("out", "a_file", "--out: a_file: is a file; name a folder"),
        ("figure", "figure.bmp", "figure.bmp: the figure's name must end in .svg, .png, .pdf"),
        ("clip", "a/b/c", "a/b/c: no open_clip model there"),
    ],
)
def test_what_is_missing_is_said_before_torch_is_loaded(tmp_path, option, value, message):
    given = {"images": tmp_path, "captions": tmp_path / "a_file", "out": "out", "figure": "figure.png"}
    (tmp_path / "a_file").write_text("")
    arguments = [f"--{name}={value}" for name, value in (given | {option: value}).items()]
    code = (
        "import sys\nfrom sare_jax.command import guarded\nfrom sare_jax.curation.command import main\n"
        f"try: guarded(main)(['histogram', *{arguments!r}])\n"
        "finally: assert not {'torch', 'open_clip', 'spacy', 'transformers'} & set(sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {message}")


def test_what_is_kept_lies_in_one_hidden_folder(world, clip_folder, tmp_path, monkeypatch, capsys):
    before = {path.name for path in tmp_path.iterdir()}
    given = options_for(world, clip_folder, tmp_path)
    run(monkeypatch, capsys, *given, *quantiles(0.7, 0.3, 0.4))
    assert {path.name for path in tmp_path.iterdir()} - before == {"out", ".out_work"}
    monkeypatch.setattr(scoring, "load_image", None)  # calling it would fail: the scores are kept
    other = run(monkeypatch, capsys, *given, *quantiles(0.6, 0.4, 0.4))
    assert "6 captions, 6 scored" in other


def test_curation_never_imports_jax():
    code = "import sys, sare_jax.curation.running; assert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_setting_is_an_option_with_its_meaning(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--help")
    text = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(CurateConfig):
        if field.name not in ("efuf", "folder", "thresholds"):
            assert f"--{field.name.replace('_', '-')} " in text
    for kind in (FixedThresholds, QuantileThresholds, AuditThresholds):
        for name, meaning in meanings(kind).items():
            assert f"--thresholds.{name} " in text
            assert name == "kind" or " ".join(meaning.split()[:3]) in text


def test_the_settings_defaults_are_the_parts(nlp):
    made = recipe_of(CurateConfig())
    assert dataclasses.replace(made, extractor=None) == Recipe()
    assert made.extractor.name == spacy_extractor(nlp).name
