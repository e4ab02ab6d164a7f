"""Pictures of all kinds, read from real files, against Hugging Face's processor value by value."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from sare_jax.data.images import (
    ImageError,
    ImageProcessor,
    load_image,
    pad_to_square,
    require_images,
    usable_images,
)
from sare_jax.errors import UserError

MEAN_COLOR = (122, 116, 104)
SIDE = 28


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
    ours = ImageProcessor.from_folder(tmp_path)
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
    "size", [(100, 60), (33, 77), (SIDE, SIDE), (SIDE + 1, SIDE), (1, 40), (40, 1), (11, 19), (901, 500)]
)
def test_sizes_equal_hugging_face(processors, rng, size):
    assert same(processors, noise(rng, *size))


def test_im_02_single_pixel(processors):
    image = Image.new("RGB", (1, 1), (10, 20, 30))
    assert same(processors, image)
    values = processors[0](image)
    assert (values == values[0, 0]).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_files_equal_hugging_face(processors, rng, tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    noise(rng, 61, 43).resize((90, 60)).save(path)
    assert same(processors, Image.open(path), path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK"])
def test_im_06_modes_equal_hugging_face(processors, rng, tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    noise(rng, 50, 40).convert(mode).save(path)
    assert Image.open(path).mode == mode
    assert load_image(path).mode == "RGB"
    assert same(processors, Image.open(path), path)


def test_im_06_gray_becomes_three_equal_channels(tmp_path):
    Image.new("L", (3, 2), 77).save(tmp_path / "gray.png")
    assert np.asarray(load_image(tmp_path / "gray.png")).tolist() == [[[77] * 3] * 3] * 2


def test_im_06_transparent_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=b"\x00\xff")
    assert np.asarray(load_image(tmp_path / "p.png")).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_im_07_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=95)
    pixels = np.asarray(load_image(tmp_path / "c.jpg")).astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 3


def test_im_08_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.asarray(load_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 255]
    assert Image.open(tmp_path / "deep.png").mode.startswith("I")


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
    turned.save(tmp_path / f"again.{suffix}")
    assert load_image(tmp_path / f"again.{suffix}").size == (16, 32)


def test_im_03_modes_keep_or_cut_the_sides(tmp_path):
    pixels = np.zeros((200, 400, 3), np.uint8)
    pixels[:, :20] = pixels[:, -20:] = (255, 0, 0)
    LlavaImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}).save_pretrained(
        tmp_path
    )
    pad, crop = (ImageProcessor.from_folder(tmp_path, mode) for mode in ("pad", "center_crop"))
    image = Image.fromarray(pixels)
    assert ImageProcessor.from_folder(tmp_path).mode == "center_crop"

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
    (tmp_path / "config.json").write_text(json.dumps({"image_aspect_ratio": "pad"}))
    assert ImageProcessor.from_folder(tmp_path).mode == "pad"


def test_im_04_odd_difference_loses_no_row(rng):
    image = noise(rng, 5, 2)
    square = np.asarray(pad_to_square(image, MEAN_COLOR))
    assert square.shape == (5, 5, 3)
    assert np.array_equal(square[1:3], np.asarray(image))
    assert (square[[0, 3, 4]] == MEAN_COLOR).all()


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
    assert bad["gone.jpg"] == "no such file"


def test_im_10_all_missing_files_in_one_error(rng, tmp_path):
    names = [f"{number}.png" for number in range(10)]
    for name in names[2:]:
        noise(rng, 2, 2).save(tmp_path / name)
    with pytest.raises(UserError) as error:
        require_images(tmp_path, names)
    assert f"2 of 10 images are missing: {tmp_path / '0.png'}, {tmp_path / '1.png'}" in str(error.value)
    require_images(tmp_path, names[2:])


def test_huge_picture_is_refused_not_opened(tmp_path, monkeypatch):
    Image.new("1", (400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert usable_images(tmp_path, ["bomb.png"])[1] == {"bomb.png": "too many pixels to be opened safely"}


def test_many_files_in_the_order_asked_for(processors, rng, tmp_path):
    ours, _ = processors
    for number in range(3):
        noise(rng, 30 + number, 40).save(tmp_path / f"{number}.png")
    batch = ours.load(tmp_path, ["2.png", "0.png", "1.png"])
    assert batch.shape == (3, SIDE, SIDE, 3)
    np.testing.assert_array_equal(batch[1], ours(load_image(tmp_path / "0.png")))


class TestSettings:
    def write(self, folder, **changes):
        raw = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "size": 40, "crop_size": 40, "resample": 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(raw | changes))

    def test_flat_sizes_of_old_files(self, tmp_path, rng):
        self.write(tmp_path)
        processor = ImageProcessor.from_folder(tmp_path)
        assert (processor.resize_to, processor.crop) == (40, (40, 40))
        self.write(tmp_path, size={"height": 40, "width": 44})
        assert ImageProcessor.from_folder(tmp_path)(noise(rng, 70, 20)).shape == (40, 40, 3)

    def test_nested_in_the_processors_file(self, tmp_path):
        self.write(tmp_path)
        raw = json.loads((tmp_path / "preprocessor_config.json").read_text())
        (tmp_path / "preprocessor_config.json").unlink()
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": raw}))
        assert ImageProcessor.from_folder(tmp_path).crop == (40, 40)

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(UserError, match=r"preprocessor_config\.json"):
            ImageProcessor.from_folder(tmp_path)

    def test_steps_switched_off_are_refused(self, tmp_path):
        self.write(tmp_path, do_resize=False)
        with pytest.raises(UserError, match="do_resize"):
            ImageProcessor.from_folder(tmp_path)

    def test_missing_mean_is_named(self, tmp_path):
        self.write(tmp_path, image_mean=None)
        with pytest.raises(UserError, match="image_mean"):
            ImageProcessor.from_folder(tmp_path)

    def test_size_has_to_be_the_towers(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"vision_config": {"image_size": 336}}))
        with pytest.raises(UserError, match=r"crop_size is 40x40, but vision_config\.image_size .* is 336"):
            ImageProcessor.from_folder(tmp_path)

    def test_unknown_mode_is_named(self, tmp_path):
        self.write(tmp_path)
        with pytest.raises(UserError, match="image mode is 'stretch'"):
            ImageProcessor.from_folder(tmp_path, "stretch")
