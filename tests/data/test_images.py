"""Pictures of all kinds, read from real files, against Hugging Face's processor value by value."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import LlavaImageProcessor as Theirs
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from sare_jax.data.images import (
    ImageError,
    load_image,
    to_rgb,
)
from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.images import LlavaImageProcessor, pad_to_square
from sare_jax.models.llava.source import LlavaSource, open_llava
from tests.tiny_original import write_original

MEAN_COLOR = (122, 116, 104)
SIDE = 28


def source(folder, side=SIDE):
    """A base model of which only the processor's file and the side of its pictures are looked at."""
    vision = {"image_size": side, "patch_size": 4}
    return LlavaSource(
        folder, "hub", LlavaConfig.from_hf({"model_type": "llava", "vision_config": vision}), {}
    )


def read(folder, mode="auto", side=SIDE):
    return LlavaImageProcessor.from_source(source(folder, side), mode)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=["center_crop", "pad"])
def processors(request, tmp_path):
    """Ours and theirs, from the file that theirs saved."""
    theirs = LlavaImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        do_pad=request.param == "pad",
    )
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert ours.mode == request.param
    return ours, theirs


def noise(rng, width, height, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def same(processors, image, path=None):
    """Whether both processors give the same values; ours reads the file, theirs gets the picture."""
    ours, theirs = processors
    expected = theirs(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    values = ours(load_image(path) if path else image)
    assert values.dtype == np.float32
    return np.array_equal(values, expected)


@pytest.mark.parametrize(
    "size",
    [(100, 60), (33, 77), (SIDE, SIDE), (SIDE + 1, SIDE), (1, 40), (40, 1), (1, 3000), (11, 19), (901, 500)],
)
def test_sizes_equal_hugging_face(processors, rng, size):
    assert same(processors, noise(rng, *size))


def test_im_02_single_pixel(processors):
    image = Image.new("RGB", (1, 1), (10, 20, 30))
    assert same(processors, image)
    values = processors[0](image)
    assert (values == values[0, 0]).all()


@pytest.mark.parametrize("size", [20, 25, 33, {"height": 27, "width": 30}, {"height": 20, "width": 33}])
@pytest.mark.parametrize("mode", ["center_crop", "pad"])
def test_sizes_before_cropping_equal_hugging_face(rng, tmp_path, size, mode):
    """Also where the resized picture is smaller than what is to be cut out of it."""
    theirs = LlavaImageProcessorPil(
        size={"shortest_edge": size} if isinstance(size, int) else size,
        crop_size={"height": SIDE, "width": SIDE},
        do_pad=mode == "pad",
    )
    theirs.save_pretrained(tmp_path)
    assert same((read(tmp_path), theirs), noise(rng, 67, 41))


def test_very_large_files_equal_hugging_face(processors, rng, tmp_path):
    path = tmp_path / "large.jpg"
    noise(rng, 60, 40).resize((6000, 4000), Image.Resampling.NEAREST).save(path)
    assert same(processors, Image.open(path), path)


def test_the_torchvision_form_is_within_one_level(processors, rng):
    """Why the reference is named: what transformers 5 takes where torchvision is installed is not equal."""
    ours, theirs = processors
    settings = theirs.to_dict()
    image = noise(rng, 123, 94)
    settings = {key: settings[key] for key in ("size", "crop_size", "do_pad")}
    other = Theirs(**settings)(image, return_tensors="np")["pixel_values"][0]
    levels = np.abs(other.transpose(1, 2, 0) - ours(image)) * ours.std * 255
    assert levels.max() < 1.01
    assert (levels > 0.5).mean() < 0.02


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_files_equal_hugging_face(processors, rng, tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    noise(rng, 61, 43).resize((90, 60)).save(path)
    assert same(processors, Image.open(path), path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_im_06_modes_equal_hugging_face(processors, rng, tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    image = noise(rng, 50, 40).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(noise(rng, 50, 40, channels=1))
    image.save(path)
    assert Image.open(path).mode == mode
    assert load_image(path).mode == "RGB"
    assert same(processors, Image.open(path), path)


def test_im_06_gray_becomes_three_equal_channels(tmp_path):
    Image.new("L", (3, 2), 77).save(tmp_path / "gray.png")
    assert np.asarray(load_image(tmp_path / "gray.png")).tolist() == [[[77] * 3] * 3] * 2


@pytest.mark.parametrize(
    ("mode", "transparency"), [("P", 3), ("P", bytes(range(256))), ("L", 77), ("RGB", (250, 128, 114))]
)
def test_im_06_transparent_colours_equal_hugging_face(processors, rng, tmp_path, mode, transparency):
    path = tmp_path / "picture.png"
    image = noise(rng, 50, 40)
    image.paste((250, 128, 114), (10, 10, 30, 30))
    image = image.quantize(200) if mode == "P" else image.convert(mode)
    image.save(path, transparency=transparency)
    assert Image.open(path).mode == mode
    assert same(processors, Image.open(path), path)


def test_im_06_transparent_is_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert np.asarray(load_image(tmp_path / "p.png")).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_im_07_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    pixels = np.asarray(load_image(tmp_path / "c.jpg")).astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 3


def test_im_08_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(load_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]
    image = Image.open(tmp_path / "deep.png")
    assert image.mode.startswith("I")
    # What Hugging Face's processors see: on purpose not equal.
    assert np.asarray(image.convert("RGB"))[0, :, 0].tolist() == [0, 255, 255, 255]


def test_im_08_sixteen_bits_equal_hugging_face_once_scaled(processors, rng, tmp_path):
    gray = np.asarray(noise(rng, 50, 40, channels=1))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert same(processors, Image.fromarray(gray), tmp_path / "deep.png")


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ImageError, match=r"f\.tiff: floating-point"):
        load_image(tmp_path / "f.tiff")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_im_05_exif_orientation_is_applied_once(tmp_path, suffix):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels).save(tmp_path / f"turned.{suffix}", exif=exif, quality=100)
    Image.fromarray(pixels).save(tmp_path / f"plain.{suffix}", quality=100)
    turned = load_image(tmp_path / f"turned.{suffix}")
    assert turned.size == (16, 32)
    assert np.asarray(turned)[:6].astype(int).min(axis=(0, 1))[0] > 200
    assert load_image(tmp_path / f"plain.{suffix}").size == (32, 16)
    assert ImageOps.exif_transpose(turned).size == (16, 32)
    turned.save(tmp_path / f"again.{suffix}")
    assert load_image(tmp_path / f"again.{suffix}").size == (16, 32)


@pytest.mark.parametrize("orientation", range(10))
def test_im_05_all_orientations(processors, rng, tmp_path, orientation):
    """Equal to Hugging Face's processor on a picture that is upright, and not on one that is not."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.png"
    noise(rng, 61, 43).save(path, exif=exif)
    image = Image.open(path)
    assert np.array_equal(load_image(path), ImageOps.exif_transpose(image))
    assert same(processors, ImageOps.exif_transpose(image), path)
    assert same(processors, image, path) == (orientation not in range(2, 9))
    # For parity on the picture as it lies there is `to_rgb`.
    assert np.array_equal(to_rgb(image), image)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_im_05_broken_tags_do_not_cost_the_picture(rng, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    whole = exif.tobytes()
    picture = noise(rng, 6, 4)
    raised = 0
    for place in range(6, len(whole)):
        for value in (0, 2, 7, 255):
            broken = whole[:place] + bytes([value]) + whole[place + 1 :]
            picture.save(tmp_path / "broken.png", exif=broken)
            assert load_image(tmp_path / "broken.png").size in ((6, 4), (4, 6))
            try:
                ImageOps.exif_transpose(Image.open(tmp_path / "broken.png"))
            except Exception:
                raised += 1
    assert raised  # there are such tags


def test_im_03_modes_keep_or_cut_the_sides(tmp_path):
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[:, :20] = pixels[:, -20:] = (255, 0, 0)
    LlavaImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}).save_pretrained(
        tmp_path
    )
    pad, crop = (read(tmp_path, mode, 40) for mode in ("pad", "center_crop"))
    image = Image.fromarray(pixels)
    assert read(tmp_path, side=40).mode == "center_crop"

    def levels(processor):
        return np.round((processor(image) * processor.std + processor.mean) / processor.scale).astype(int)

    assert levels(crop)[..., 0].max() == 0
    padded = levels(pad)
    assert padded[20, 0].tolist() == padded[20, -1].tolist() == [255, 0, 0]
    assert padded[0, 20].tolist() == padded[-1, 20].tolist() == list(MEAN_COLOR)


def test_im_03_original_configs_ask_for_padding(tmp_path):
    CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}).save_pretrained(
        tmp_path
    )
    original = dataclasses.replace(source(tmp_path, 40), form="original", image_mode="pad")
    assert LlavaImageProcessor.from_source(original).mode == "pad"
    assert LlavaImageProcessor.from_source(original, "center_crop").mode == "center_crop"


@pytest.mark.parametrize(("aspect", "mode"), [("pad", "pad"), ("square", "center_crop")])
def test_im_03_an_original_checkpoint_decides(rng, tmp_path, aspect, mode):
    """The file beside the vision tower gives the numbers, the model's config.json the mode."""
    write_original(tmp_path / "model", tmp_path / "tower", image_aspect_ratio=aspect)
    ours = LlavaImageProcessor.from_source(open_llava(tmp_path / "model", str(tmp_path / "tower")))
    assert ours.mode == mode
    theirs = CLIPImageProcessorPil.from_pretrained(tmp_path / "tower")
    image = noise(rng, 50, 33)
    square = np.full((50, 50, 3), MEAN_COLOR, np.uint8)
    square[8:41] = np.asarray(image)  # 17 pixels are missing: 8 above, 9 below
    assert same((ours, lambda _, **how: theirs(Image.fromarray(square), **how)), image) == (mode == "pad")
    assert same((ours, theirs), image) == (mode == "center_crop")


def test_im_04_odd_difference_loses_no_row(rng):
    image = noise(rng, 5, 2)
    square = np.asarray(pad_to_square(image, MEAN_COLOR))
    assert square.shape == (5, 5, 3)
    assert np.array_equal(square[1:3], np.asarray(image))
    assert (square[[0, 3, 4]] == MEAN_COLOR).all()


def test_many_files_in_the_order_asked_for(processors, rng, tmp_path):
    ours, _ = processors
    for number in range(3):
        noise(rng, 30 + number, 40).save(tmp_path / f"{number}.png")
    batch = np.stack(ours.load(tmp_path, ["2.png", "0.png", "1.png"]))
    assert batch.shape == (3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(batch[1], ours(load_image(tmp_path / "0.png")))


class TestSettings:
    def write(self, folder, **changes):
        raw = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": 40, "crop_size": 40, "resample": 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(raw | changes))

    def test_flat_sizes_of_old_files(self, tmp_path, rng):
        self.write(tmp_path)
        processor = read(tmp_path, side=40)
        assert (processor.resize_to, processor.crop) == (40, (40, 40))
        self.write(tmp_path, size={"height": 40, "width": 44})
        assert read(tmp_path, side=40)(noise(rng, 70, 20)).shape == (40, 40, 3)

    def test_nested_in_the_processors_file(self, tmp_path):
        self.write(tmp_path)
        raw = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "preprocessor_config.json").unlink()
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": raw}))
        assert read(tmp_path, side=40).crop == (40, 40)

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(UserError, match=r"preprocessor_config\.json"):
            read(tmp_path, side=40)

    def test_steps_switched_off_are_refused(self, tmp_path):
        self.write(tmp_path, do_resize=False)
        with pytest.raises(UserError, match="do_resize"):
            read(tmp_path, side=40)

    def test_missing_mean_is_named(self, tmp_path):
        self.write(tmp_path, image_mean=None)
        with pytest.raises(UserError, match="image_mean"):
            read(tmp_path, side=40)

    def test_size_has_to_be_the_towers(self, tmp_path):
        self.write(tmp_path)
        with pytest.raises(UserError, match=r"crop_size is 40x40, but .* image_size is 336"):
            read(tmp_path, side=336)

    def test_unknown_mode_is_named(self, tmp_path):
        self.write(tmp_path)
        with pytest.raises(UserError, match=r"model\.image_mode: is 'stretch'"):
            read(tmp_path, "stretch", 40)
