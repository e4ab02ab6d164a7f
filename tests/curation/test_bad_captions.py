"""Captions that cannot be used, through all of curation: counted by reason, or one line and status 2."""

import json
import sys

import pytest

from sare_jax.command import guarded
from sare_jax.curation import command
from sare_jax.curation.clip import ClipConfig
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.stage import curate
from sare_jax.curation.windows import Windows
from sare_jax.records.curated import read_curated
from sare_jax.settings import QuantileThresholds
from tests.curation.tiny_clip import CAPTIONS
from tests.evaluation.judging.judge_server import JudgeServer, says, sends

ODD = {
    "empty": ("", "empty caption"),
    "long": ("A dog runs. " * 850, "longer than 5000 characters"),
    "german": ("Ein Hund liegt auf der Wiese neben einem Baum.", "not English"),
    "chinese": ("一只狗在草地上奔跑。", "not English"),
    "signs": ("[[[{{{<<<(((A dog)))>>>}}}]]]", "mostly no letters"),
    "nothing": ("It is so calm and quiet here.", "no object"),
}
QUANTILES = [f"--thresholds.{pair}" for pair in ("kind=quantile", "q0=0.7", "q1=0.3", "q2=0.4")]


@pytest.fixture
def options(world, clip_folder, tmp_path):
    captions, images = world
    paths = ["--captions", captions, "--images", images, "--out", tmp_path / "out", "--clip", clip_folder]
    return [*map(str, paths), "--patch", "16", "--device", "cpu", *QUANTILES]


def ended(monkeypatch, capsys, options) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["curation", *options])
    with pytest.raises(SystemExit) as stop:
        guarded(command.main)(sys.argv[1:])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return stop.value.code, lines[0]


def test_odd_captions_are_counted_and_the_others_curated(world, clip_folder, nlp, tmp_path):
    captions, images = world
    records = [{"image_id": i, "image": f"{i}.png", "caption": text} for i, text in enumerate(CAPTIONS)]
    records += [{"image_id": 0, "image": "0.png", "caption": text} for text, _ in ODD.values()]
    bracketed = "[A {red} umbrella] (on) a <bench>, near {{a tree}}; \\[a car\\]."
    records += [
        {"image_id": 1, "image": "1.png", "caption": bracketed},
        {"image_id": 1, "image": "1.png", "caption": CAPTIONS[1]},
        {"image_id": 9, "image": "gone.png", "caption": "A dog."},
        {"image_id": 9, "image": "../captions.jsonl", "caption": "A dog."},
        {"image_id": 9, "image": "a\0b.png", "caption": "A dog."},
        {"image_id": 1, "image": "1.png"},
    ]
    lines = [json.dumps(record) for record in records]
    lines.append('{"image_id": 2, "image": "2.png", "caption": "A dog \\ud83d near a cat."}')  # half an emoji
    captions.write_text("\n".join(lines) + "\n")
    manifest = curate(
        captions,
        images,
        tmp_path / "out",
        Recipe(
            clip=ClipConfig(str(clip_folder), device="cpu"),
            thresholds=QuantileThresholds(q0=0.5, q1=0.5, q2=0.4),
            windows=Windows(patch=16, window=4),
            extractor=spacy_extractor(nlp),
        ),
    )
    expected = {"image missing": 1, "image outside the folder": 1, "image name impossible": 1}
    for _, reason in ODD.values():
        expected[reason] = expected.get(reason, 0) + 1
    assert manifest["dropped"]["captions"] == expected
    assert manifest["dropped"]["records"] == {"repeated caption": 1, "caption is no text": 1}
    assert manifest["counts"]["captions_scored"] == len(CAPTIONS) + 2
    curated = read_curated(tmp_path / "out")
    units = [
        (str(curated.rows.caption[row]), str(name))
        for table in (curated.neg, curated.pos)
        for row, name in zip(table.row, table.object, strict=True)
    ]
    assert {name for text, name in units if text == bracketed} >= {"umbrella", "bench", "tree", "car"}
    assert "A dog \ufffd near a cat." in [str(text) for text in curated.rows.caption]


@pytest.mark.parametrize("kind", ODD)
def test_nothing_left_is_one_line(world, options, kind, monkeypatch, capsys):
    text, reason = ODD[kind]
    world[0].write_text(json.dumps({"image": "0.png", "caption": text}) + "\n")
    code, line = ended(monkeypatch, capsys, options)
    assert code == 2
    assert f"(1 {reason})" in line


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            says("I'm sorry, I can't help with that."),
            "none of the 6 captions names an object (6 extraction: refused)",
        ),
        (says("none"), "none of the 6 captions names an object (6 no object)"),
        (sends(401, '{"error": {"message": "bad key"}}'), "HTTP 401 (bad key); the key is wrong or missing"),
        (sends(404, "<html>Not found</html>"), "check the address and the name of the model"),
    ],
    ids=["refusals", "nothing", "wrong key", "html"],
)
def test_an_endpoint_that_helps_with_no_caption_is_one_line(
    options, act, message, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with JudgeServer(otherwise=act) as server:
        given = [*options, "--llm", server.base_url, "--llm-model", "m"]
        code, line = ended(monkeypatch, capsys, given)
    assert code == 2
    assert message in line
