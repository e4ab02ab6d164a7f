"""Image files as people have them, through the whole stage: cases CUR-16 and IM-02 to IM-11."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from sare_jax.command import guarded
from sare_jax.curation import command, stage
from sare_jax.curation.clip import ClipConfig
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.scored import Work
from sare_jax.curation.select import Thresholds
from sare_jax.curation.windows import Windows
from sare_jax.errors import UserError
from tests.curation.tiny_clip import write_captions

ALL_NEGATIVE = Thresholds(1e3, 1e3, -1e3)
SMALL = Windows(patch=16, window=4)


def picture(seed=0, size=(96, 80)) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def curate(clip_folder, nlp, tmp_path):
    """Curates the pictures of tmp_path/images, each captioned alike; returns the manifest and the scores."""
    images = tmp_path / "images"
    images.mkdir()

    def run(names, **changes):
        records = [
            {"image_id": i, "image": name, "caption": "A dog near a tree."} for i, name in enumerate(names)
        ]
        write_captions(tmp_path / "captions.jsonl", records)
        settings = {
            "clip": ClipConfig(str(clip_folder), device="cpu"),
            "thresholds": ALL_NEGATIVE,
            "windows": SMALL,
            "extractor": spacy_extractor(nlp),
            "work": Work(image_batch=4, view_batch=5, workers=2),
        }
        manifest = stage.curate(
            tmp_path / "captions.jsonl", images, tmp_path / "out", Recipe(**settings | changes)
        )
        kept = (tmp_path / ".out_work" / "scores" / "scores.jsonl").read_text().splitlines()
        records = [record for line in kept for record in json.loads(line)["value"]]
        return manifest, {r["image"]: r["scores"][0] for r in records if "scores" in r}

    return run


@pytest.fixture
def folder(curate, tmp_path):
    return tmp_path / "images"


def test_cur_16_one_file_cut_in_half_does_not_end_the_run(curate, folder):
    names = [f"{i}.jpg" for i in range(1, 6)]
    for i, name in enumerate(names):
        picture(i).save(folder / name, quality=95)
    whole = curate(names)[1]
    (folder / "3.jpg").write_bytes((folder / "3.jpg").read_bytes()[: (folder / "3.jpg").stat().st_size // 2])
    manifest, scores = curate(names)
    assert manifest["counts"]["images_scored"] == 4
    [bad] = manifest["bad_images"]
    assert (bad["image"], bad["reason"]) == ("3.jpg", "image damaged")
    assert "truncated" in bad["detail"]
    assert list(scores) == ["1.jpg", "2.jpg", "4.jpg", "5.jpg"]
    for name, values in scores.items():
        np.testing.assert_allclose(values, whole[name], atol=1e-3)
    with pytest.raises(UserError, match=r"images/3\.jpg: damaged"):
        curate(names, bad_images="raise")


def test_every_reason_is_counted(curate, folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    picture().save(folder / "good.png")
    Image.new("RGB", (250, 250)).save(folder / "bomb.png")
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "song.png").write_bytes(b"ID3\x03" + bytes(500))
    (folder / "dir.png").mkdir()
    (folder / "cut.webp").write_bytes(_saved(picture(), folder / "cut.webp")[:100])
    (folder / "cut.gif").write_bytes(_saved(picture(), folder / "cut.gif")[:1000])
    Image.fromarray(np.ones((70, 70), np.float32)).save(folder / "float.tiff")
    names = ["good.png", "bomb.png", "empty.jpg", "page.jpg", "song.png", "dir.png", "cut.webp", "cut.gif"]
    manifest, scores = curate([*names, "float.tiff", "gone.png"])
    assert list(scores) == ["good.png"]
    assert manifest["dropped"]["captions"] == {
        "image too many pixels to be opened safely": 1,
        "image unidentified": 3,
        "image missing": 1,
        "image no regular file": 1,
        "image damaged": 2,
        "image floating-point pixels": 1,
    }
    assert [bad["image"] for bad in manifest["bad_images"]] == [*names[1:], "float.tiff", "gone.png"]


def test_nothing_left_is_one_line_and_status_2(curate, folder, clip_folder, tmp_path, monkeypatch, capsys):
    (folder / "0.jpg").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"no caption is left to curate \(1 image unidentified\)"):
        curate(["0.jpg"])
    paths = ["--captions", tmp_path / "captions.jsonl", "--images", folder, "--out", tmp_path / "none"]
    options = [
        "--clip",
        clip_folder,
        "--device",
        "cpu",
        *(f"--thresholds.{key}" for key in ("t0=9", "t1=9", "t2=0")),
    ]
    monkeypatch.setattr(sys, "argv", ["curation", *map(str, [*paths, *options])])
    with pytest.raises(SystemExit) as stop:
        guarded(command.main)(sys.argv[1:])
    assert stop.value.code == 2
    assert "1 image unidentified" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "none").exists()


def test_im_10_strict_mode_lists_all_missing_files_before_the_model_loads(curate, folder, tmp_path):
    names = [f"{i}.png" for i in range(10)]
    for name in names[2:]:
        picture().save(folder / name)
    nowhere = ClipConfig(str(tmp_path / "no model"))
    with pytest.raises(UserError, match=r"2 images cannot be used: 0\.png \(image missing\), 1\.png \("):
        curate(names, bad_images="raise", clip=nowhere)
    with pytest.raises(UserError, match=r"22 images cannot be used: .* and 2 more"):
        curate([*(f"x{i}.png" for i in range(22)), "5.png"], bad_images="raise", clip=nowhere)


def test_im_05_im_06_im_07_pictures_of_every_kind_score_as_their_plain_form(curate, folder):
    plain = picture()
    tag = Image.Exif()
    tag[0x0112] = 6
    plain.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=tag)
    plain.save(folder / "plain.png")
    plain.convert("RGBA").save(folder / "alpha.png")
    plain.save(folder / "animated.png", save_all=True, append_images=[picture(1), picture(2)])
    plain.save(folder / "animated.webp", save_all=True, append_images=[picture(1)], lossless=True)
    gray = plain.convert("L")
    gray.save(folder / "gray.png")
    gray.convert("LA").save(folder / "gray_alpha.png")
    gray.save(folder / "animated.gif", save_all=True, append_images=[picture(1).convert("L")])
    sixteen = np.asarray(gray).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(folder / "sixteen.png")
    one_bit = gray.convert("1")
    one_bit.save(folder / "one_bit.png")
    one_bit.convert("RGB").save(folder / "one_bit_plain.png")
    palette = plain.quantize(16)
    palette.save(folder / "palette.png")
    palette.convert("RGB").save(folder / "palette_plain.png")
    Image.new("CMYK", (80, 80), (0, 255, 255, 0)).save(folder / "cmyk.jpg", quality=100)
    Image.new("RGB", (80, 80), (255, 0, 0)).save(folder / "red.png")
    manifest, scores = curate(sorted(path.name for path in folder.iterdir()))
    assert not manifest["dropped"]["captions"]
    for name in ("turned.png", "alpha.png", "animated.png", "animated.webp"):
        np.testing.assert_allclose(scores[name], scores["plain.png"], atol=1e-3, err_msg=name)
    for name in ("gray_alpha.png", "animated.gif", "sixteen.png"):
        np.testing.assert_allclose(scores[name], scores["gray.png"], atol=1e-3, err_msg=name)
    for name, form in (("one_bit", "one_bit_plain"), ("palette", "palette_plain")):
        np.testing.assert_allclose(scores[f"{name}.png"], scores[f"{form}.png"], atol=1e-3, err_msg=name)
    np.testing.assert_allclose(scores["cmyk.jpg"], scores["red.png"], atol=0.5)
    assert abs(scores["gray.png"][0] - scores["plain.png"][0]) > 0.01
    assert abs(scores["plain.png"][0] - scores["red.png"][0]) > 0.01


@pytest.mark.parametrize("windows", [SMALL, None], ids=["windows", "whole"])
def test_im_02_one_pixel_is_scored_whole(curate, folder, windows):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "pixel.png")
    Image.new("RGB", (40, 40), (10, 20, 30)).save(folder / "flat.png")
    manifest, scores = curate(["pixel.png", "flat.png"], windows=windows)
    np.testing.assert_allclose(scores["pixel.png"], scores["flat.png"], atol=1e-3)
    assert manifest["counts"]["images_scored_whole"] == (2 if windows else 0)


def test_im_09_the_last_batch_is_smaller(curate, folder):
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        picture(i).save(folder / name)
    alone = {name: curate([name], work=Work(1, 64, 1))[1][name] for name in names}
    together = curate(names)[1]
    assert list(together) == names
    for name in names:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-3)


def _saved(image, path) -> bytes:
    image.save(path)
    return path.read_bytes()
