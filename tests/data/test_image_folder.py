"""Which files of a folder are images that can be used, and what is wrong with the others."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sare_jax.data.images import (
    MOST_PIXELS,
    ImageError,
    check_image,
    load_image,
    require_images,
    usable_images,
)
from sare_jax.errors import UserError
from sare_jax.report.gallery import image_uri
from sare_jax.settings import DataConfig
from tests.data.test_images import noise


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_im_11_bad_files_are_named_with_their_reason(rng, tmp_path):
    noise(rng, 90, 80).save(tmp_path / "good.jpg")
    noise(rng, 90, 80).save(tmp_path / "also.png")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html><body>404</body></html>")
    for name, source in (("cut.jpg", "good.jpg"), ("cut.png", "also.png")):
        (tmp_path / name).write_bytes((tmp_path / source).read_bytes()[:2000])
    names = ["empty.jpg", "good.jpg", "page.jpg", "cut.jpg", "gone.jpg", "also.png", "cut.png"]
    good, bad = usable_images(tmp_path, names)
    assert good == ["good.jpg", "also.png"]
    assert list(bad) == ["empty.jpg", "page.jpg", "cut.jpg", "gone.jpg", "cut.png"]
    assert bad["empty.jpg"].startswith("unidentified")
    assert bad["page.jpg"].startswith("unidentified")
    assert bad["cut.jpg"].startswith("damaged")
    assert bad["cut.png"].startswith("damaged")
    assert bad["gone.jpg"] == "missing"


@pytest.mark.parametrize(("suffix", "cut"), [("qoi", 14), ("avif", 2600), ("webp", 40), ("tif", 200)])
def test_im_11_whatever_a_decoder_raises_is_a_damaged_file(rng, tmp_path, suffix, cut):
    noise(rng, 60, 50).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()[:cut]
    (tmp_path / "cut").write_bytes(content)
    with pytest.raises(ImageError, match=r"cut: (damaged|unidentified)"):
        load_image(tmp_path / "cut")


def test_im_10_all_missing_files_in_one_error(rng, tmp_path):
    names = [f"{number}.png" for number in range(10)]
    for name in names[2:]:
        noise(rng, 2, 2).save(tmp_path / name)
    with pytest.raises(UserError) as error:
        require_images(tmp_path, names)
    missing = ", ".join(f"{tmp_path / name}: missing" for name in names[:2])
    assert f"2 of 10 images cannot be used: {missing}" in str(error.value)
    require_images(tmp_path, names[2:])


def test_one_rule_says_what_an_image_of_a_folder_is(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for place in (folder / "good.png", tmp_path / "secret.png"):
        Image.new("RGB", (30, 20)).save(place)
    (folder / "text.png").write_text("root:x:0:0")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "inside.png").symlink_to("good.png")
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    reasons = {
        "link.png": "outside the folder",
        "../secret.png": "outside the folder",
        str(tmp_path / "secret.png"): "outside the folder",
        "gone.png": "missing",
        "good.png/x.png": "missing",
        "circle.png": "name impossible",
        "a\0.png": "name impossible",
        "\ud800.png": "missing",
        "a" * 300 + ".png": "name impossible",
        "folder.png": "no regular file",
        "pipe.png": "no regular file",
        "text.png": "unidentified, not an image that can be read",
    }
    good, bad = usable_images(folder, ["good.png", "inside.png", *reasons])
    assert (good, bad) == (["good.png", "inside.png"], reasons)
    for name, reason in reasons.items():
        with pytest.raises(ImageError) as caught:
            check_image(folder, name)
        assert caught.value.reason == reason
        with pytest.raises(UserError, match="1 of 2 images cannot be used"):
            require_images(folder, ["good.png", name])
        assert image_uri(folder, name) == ""
    assert check_image(folder, "good.png") == folder / "good.png"


def test_pictures_with_too_many_pixels_are_refused_by_their_header(tmp_path):
    Image.new("1", (10_000, 5_001)).save(tmp_path / "large.png")
    Image.new("1", (300, 200)).save(tmp_path / "small.png")
    _, bad = usable_images(tmp_path, ["large.png", "small.png"])
    assert bad == {"large.png": f"too many pixels (10000 x 5001; data.max_pixels allows {MOST_PIXELS})"}
    with pytest.raises(UserError, match=r"large\.png: too many pixels"):
        require_images(tmp_path, ["large.png", "small.png"])
    assert image_uri(tmp_path, "large.png") == ""
    assert usable_images(tmp_path, ["small.png"], 59_999)[0] == []
    assert usable_images(tmp_path, ["small.png"], 60_000)[0] == ["small.png"]
    require_images(tmp_path, ["large.png"], 50_010_000)
    assert DataConfig().max_pixels == MOST_PIXELS


def test_t2_31_a_locale_that_cannot_spell_a_name_reads_its_file(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "vélo.png")
    code = (
        "import sys; from pathlib import Path; from sare_jax.data.images import usable_images\n"
        "assert sys.getfilesystemencoding() == 'ascii', sys.getfilesystemencoding()\n"
        "print(len(usable_images(Path(sys.argv[1]), ['v\\u00e9lo.png'])[0]))"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | locale,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout == "1\n", result.stderr


def test_huge_picture_is_refused_not_opened(tmp_path, monkeypatch):
    Image.new("1", (400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert usable_images(tmp_path, ["bomb.png"])[1] == {"bomb.png": "too many pixels to be opened safely"}


def test_large_picture_below_the_limit_is_read(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert load_image(tmp_path / "large.png").size == (40, 40)
