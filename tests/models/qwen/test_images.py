"""Pictures of any size against transformers' processor, value by value."""

import itertools
import json

import numpy as np
import pytest
from PIL import ExifTags, Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from sare_jax.data.images import ImageError, image_size, load_image
from sare_jax.errors import UserError
from sare_jax.models.shared.qwen_vl.config import PatchConfig, pixel_range
from sare_jax.models.shared.qwen_vl.images import GRID, QwenImageProcessor
from tests.models.qwen.tiny import pictures

# Qwen3-VL's and Qwen2.5-VL's own, and one whose range moves nearly every picture.
PATCHES = {
    "qwen3": PatchConfig(16, 2, 2, 65_536, 409_600),
    "qwen2_5": PatchConfig(14, 2, 2, 3_136, 200_704),
    "narrow": PatchConfig(8, 1, 2, 4 * 256, 6 * 256),
}
SIZES = [(640, 480), (427, 640), (33, 17), (16, 16), (500, 21), (1, 150), (900, 1000)]


@pytest.fixture(params=PATCHES)
def patches(request) -> PatchConfig:
    return PATCHES[request.param]


def processors(folder, patches) -> tuple[QwenImageProcessor, Qwen2VLImageProcessorPil]:
    theirs = Qwen2VLImageProcessorPil(
        patch_size=patches.side,
        merge_size=patches.merge,
        temporal_patch_size=patches.frames,
        size={"shortest_edge": patches.fewest_pixels, "longest_edge": patches.most_pixels},
    )
    theirs.save_pretrained(folder)
    return QwenImageProcessor.read(folder, patches), theirs


def test_sizes_are_those_of_transformers(patches):
    rng = np.random.default_rng(0)
    for height, width in np.exp(rng.uniform(0, 8, (4000, 2))).astype(int).tolist():
        if max(height, width) > 200 * min(height, width):
            with pytest.raises(ValueError, match="200 times"):
                patches.resized(height, width)
            continue
        expected = smart_resize(height, width, patches.factor, patches.fewest_pixels, patches.most_pixels)
        assert patches.resized(height, width) == expected
        assert expected[0] * expected[1] <= patches.most_tokens * patches.factor**2


def test_patches_are_those_of_transformers_value_by_value(tmp_path, patches):
    ours, theirs = processors(tmp_path, patches)
    images = pictures(SIZES)
    names = [f"{number}.png" for number in range(len(SIZES))]
    for name, image in zip(names, images, strict=True):
        image.save(tmp_path / name)
    for name, image, made in zip(names, images, ours.load(tmp_path, names), strict=True):
        expected = theirs(image, return_tensors="np")
        values = expected["pixel_values"].reshape(-1, 3, patches.frames, patches.side**2)
        height, width = expected["image_grid_thw"][0, 1:]
        count = height * width
        for frame in range(patches.frames):
            np.testing.assert_array_equal(
                made[:count, :-GRID], values[:, :, frame].reshape(count, -1), strict=True
            )
        np.testing.assert_array_equal(made[:count, -GRID:], np.tile([height, width], (count, 1)))
        assert not made[count:].any()
        tokens = count // patches.merge**2
        assert ours.num_image_tokens(tmp_path / name) == tokens
        padded = len(made) // patches.merge**2
        assert padded == min(length for length in ours.feature_lengths if length >= tokens)


def test_padding_is_at_most_a_quarter_and_lengths_are_few(patches):
    lengths = patches.lengths
    assert lengths[-1] == patches.most_tokens
    assert all(b - a <= max(1, a / 4 + 1) for a, b in itertools.pairwise(lengths))
    assert len(lengths) <= 1 + np.log(lengths[-1] / lengths[0]) / np.log(1.25) + 1


def test_published_ranges_of_pixels():
    assert PATCHES["qwen3"].most_tokens == 400
    assert PatchConfig(16, 2, 2, 65_536, 16_777_216).most_tokens == 16_384
    assert len(PatchConfig(16, 2, 2, 65_536, 16_777_216).lengths) <= 26


def test_a_picture_lies_as_its_tag_says(tmp_path):
    tagged = Image.new("RGB", (60, 20))
    exif = tagged.getexif()
    exif[ExifTags.Base.Orientation] = 6
    tagged.save(tmp_path / "tagged.jpg", exif=exif)
    assert image_size(tmp_path / "tagged.jpg") == load_image(tmp_path / "tagged.jpg").size == (20, 60)
    tagged.save(tmp_path / "tagged.tiff", exif=exif)
    assert image_size(tmp_path / "tagged.tiff") == load_image(tmp_path / "tagged.tiff").size == (20, 60)


def test_a_slender_picture_is_no_usable_image(tmp_path):
    ours, _ = processors(tmp_path, PATCHES["qwen3"])
    Image.new("RGB", (402, 2)).save(tmp_path / "line.png")
    with pytest.raises(ImageError, match=r"line\.png: 402 x 2 pixels: one side is over 200 times the other"):
        ours.load(tmp_path, ["line.png"])
    with pytest.raises(ImageError, match=r"line\.png"):
        ours.num_image_tokens(tmp_path / "line.png")


def test_the_range_is_the_files_or_the_settings():
    edges = {"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}
    assert pixel_range(edges, "auto", "f") == (65_536, 16_777_216)
    assert pixel_range({"min_pixels": 3136, "max_pixels": 12_845_056}, "auto", "f") == (3136, 12_845_056)
    assert pixel_range(edges | {"min_pixels": None}, "auto", "f") == (65_536, 16_777_216)
    assert pixel_range(edges, "65536-409600", "f") == (65_536, 409_600)
    for raw, mode, message in (
        (edges, "pad", r"image_mode: is 'pad', need 'auto' or 'FEWEST-MOST'"),
        (edges, f"1-{'9' * 400}", r"image_mode: is '1-9+.*need 'auto'"),
        (edges, f"1-{'9' * 5000}", r"image_mode: is '1-9+.*need 'auto'"),
        (edges, "900-300", "900 to 300 pixels, need the fewest first"),
        ({}, "auto", "f: min_pixels"),
    ):
        with pytest.raises(UserError, match=message):
            pixel_range(raw, mode, "f")


@pytest.mark.parametrize(
    ("key", "value"),
    [("do_resize", False), ("patch_size", 15), ("resample", 99), ("image_std", [0.5, 0, 0.5])],
)
def test_what_is_not_done_here_is_refused(tmp_path, key, value):
    processors(tmp_path, PATCHES["qwen3"])
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=rf"preprocessor_config\.json: {key}"):
        QwenImageProcessor.read(tmp_path, PATCHES["qwen3"])
