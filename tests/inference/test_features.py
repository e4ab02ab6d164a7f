"""Features of images that take different numbers of slots."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from sare_jax.errors import UserError
from sare_jax.inference.features import FeatureCache
from sare_jax.models.shared.gather import fill_image_slots
from sare_jax.models.shared.partition import flatten, unflatten

PATCH, WIDTH = 4, 6
SIZES = {"small": (8, 4), "wide": (12, 8), "large": (16, 16), "same": (12, 8)}
SLOTS = {"small": 2, "wide": 6, "large": 16, "same": 6}


class Patches(nnx.Module):
    """One feature a patch, for pictures of any size."""

    def __init__(self, rngs):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (PATCH * PATCH * 3, WIDTH)))

    def encode_images(self, pixels):
        images, height, width, channels = pixels.shape
        grid = pixels.reshape(images, height // PATCH, PATCH, width // PATCH, PATCH, channels)
        patches = grid.transpose(0, 1, 3, 2, 4, 5).reshape(images, -1, PATCH * PATCH * channels)
        return patches @ self.kernel[...]


@dataclasses.dataclass(frozen=True)
class AsTheyAre:
    """Keeps the size of every picture."""

    feature_lengths: tuple[int, ...] = (2, 8, 16)

    def load(self, images_dir, names):
        return [np.asarray(Image.open(images_dir / name), np.float32) / 255 for name in names]

    def num_image_tokens(self, path):
        with Image.open(path) as image:
            return image.width // PATCH * (image.height // PATCH)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    graphdef, state = nnx.split(Patches(nnx.Rngs(0)))
    frozen = unflatten(flatten(nnx.to_pure_dict(state)))
    family = SimpleNamespace(encoder=r"kernel")
    return SimpleNamespace(graphdef=graphdef, params={}, frozen=frozen, family=family), folder


def alone(setting, name):
    loaded, folder = setting
    (pixels,) = AsTheyAre().load(folder, [f"{name}.png"])
    return np.asarray(nnx.merge(loaded.graphdef, loaded.frozen).encode_images(pixels[None]))[0]


@pytest.mark.parametrize(
    ("names", "length"),
    [
        (["small"], 2),
        (["small", "wide"], 8),
        (["wide", "same"], 8),
        (["large", "small", "wide", "large"], 16),
    ],
)
def test_a_batch_is_as_long_as_the_bucket_of_its_longest(setting, names, length):
    loaded, folder = setting
    features = FeatureCache(loaded, AsTheyAre(), folder, batch_size=3)([f"{name}.png" for name in names])
    assert features.shape == (len(names), length, WIDTH)
    for name, row in zip(names, features, strict=True):
        expected = alone(setting, name)
        assert len(expected) == SLOTS[name] == AsTheyAre().num_image_tokens(folder / f"{name}.png")
        np.testing.assert_allclose(row[: len(expected)], expected, rtol=1e-6, atol=1e-6)
        assert not row[len(expected) :].any()


def test_what_is_padded_changes_no_slot_and_gets_no_gradient(setting):
    loaded, folder = setting
    features = jnp.asarray(FeatureCache(loaded, AsTheyAre(), folder)(["small.png", "large.png"]))
    slots = np.zeros((2, 20), bool)
    slots[0, 3:5] = slots[1, 2:18] = True

    def filled(features):
        return jnp.where(slots[..., None], fill_image_slots(features, slots), 0)

    rubbish = features.at[0, 2:].set(7.0)
    np.testing.assert_array_equal(filled(rubbish), filled(features))
    np.testing.assert_array_equal(filled(features)[0, 3:5], features[0, :2])
    gradient = jax.grad(lambda features: jnp.sum(filled(features) ** 2))(rubbish)
    np.testing.assert_array_equal(gradient[0, 2:], 0)
    assert np.all(gradient[0, :2] != 0)


def test_what_encodes_images_stays_frozen(setting):
    loaded, folder = setting
    moving = SimpleNamespace(**{**vars(loaded), "params": loaded.frozen, "frozen": {}})
    with pytest.raises(UserError, match="trainable includes kernel, on which image features depend"):
        FeatureCache(moving, AsTheyAre(), folder)
