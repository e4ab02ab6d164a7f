import subprocess
import sys

import pytest

from sare_jax.curation import __main__ as command
from sare_jax.data.curated import read_curated


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["curation", *map(str, arguments)])
    command.guarded(command.main)()
    return capsys.readouterr().out


def test_the_command_curates_and_says_what_came_of_it(world, clip_folder, tmp_path, monkeypatch, capsys):
    captions, images = world
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "out", "--clip", clip_folder]
    options = ["--patch", 16, "--quantiles", 0.7, 0.3, 0.4, "--rule", "efuf", "--device", "cpu"]
    printed = run(monkeypatch, capsys, *paths, *options)
    curated = read_curated(tmp_path / "out")
    assert curated.manifest["sentence_rule"] == "efuf"
    assert curated.manifest["windows"]["patch"] == 16
    assert f"D_neg {len(curated.neg)}, D_pos {len(curated.pos)}, D_sent {len(curated.sent)}" in printed
    assert "6 captions, 6 scored" in printed
    assert "left out, mentions: 1 repeated_mention" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--clip", "missing/clip/folder"), "no open_clip model there"),
        (("--images", "nowhere"), "no such image folder"),
        (("--captions", "nothing.jsonl"), "no such file"),
        (("--thresholds", 1, 2, 3), "t1 = 2.0 lies above t0 = 1.0"),
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


def test_curation_never_imports_jax():
    code = "import sys, sare_jax.curation.__main__; assert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
