"""Image features, computed once for each image."""

import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from sare_jax.errors import UserError
from sare_jax.models.interface import ImageProcessor, LoadedModel, merge
from sare_jax.models.shared.partition import Tree, flatten
from sare_jax.rounding import round_up


@partial(jax.jit, static_argnames=("graphdef",))
def encode_images(graphdef: nnx.GraphDef, params: Tree, frozen: Tree, pixels: jax.Array) -> jax.Array:
    """`Model.encode_images`, compiled: float[I, …] -> float[I, P, D_v]."""
    return merge(graphdef, params, frozen).encode_images(pixels)


class FeatureCache:
    """Features of image files, kept in host memory, each by itself; the least recently used leave first.

    The image encoder is frozen, so one cache serves every set of trained weights of a model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        processor: ImageProcessor,
        images_dir: Path,
        max_bytes: int = 4 << 30,
        *,
        batch_size: int = 16,
        rows: jax.sharding.Sharding | None = None,
    ):
        """Starts empty.

        Args:
          loaded: the model whose encoder computes the features.
          processor: turns pictures into arrays.
          images_dir: folder of the image files.
          max_bytes: memory that the features may take.
          batch_size: images encoded at a time, over all devices.
          rows: how the images of a batch are divided over devices, each of which holds the weights; None
            encodes them where the weights lie.

        Raises:
          UserError: a parameter of the image encoder is trainable, so that features would not stay the same.
        """
        moving = [path for path in flatten(loaded.params) if re.fullmatch(loaded.family.encoder, path)]
        if moving:
            raise UserError(
                f"trainable includes {moving[0]}, on which image features depend, and these are computed "
                f"once; exclude {loaded.family.encoder}"
            )
        self._loaded = loaded
        self._processor = processor
        self._images_dir = Path(images_dir)
        self._max_bytes = max_bytes
        devices = len(rows.device_set) if rows else 1
        self._batch_size = round_up(batch_size, devices)
        self._rows = rows
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0

    def __call__(self, names: Sequence[str]) -> np.ndarray:
        """Features of image files.

        Args:
          names: file names; one may occur several times.

        Returns:
          float[n, P, D_v] in the dtype of the frozen weights, in the order of `names`. P is the first of the
          processor's `feature_lengths` that holds the largest image; the features of smaller ones are
          followed by zeros, which no image slot takes.

        Raises:
          ImageError: a file is missing or cannot be read.
        """
        wanted = list(dict.fromkeys(names))
        features = {name: self._kept[name] for name in wanted if name in self._kept}
        features |= self._encode([name for name in wanted if name not in features])
        for name in wanted:
            self._keep(name, features[name])
        longest = max(len(features[name]) for name in wanted)
        length = next(length for length in self._processor.feature_lengths if length >= longest)
        return np.stack([_padded(features[name], length) for name in names])

    def _encode(self, names: list[str]) -> dict[str, np.ndarray]:
        features: dict[str, np.ndarray] = {}
        for start in range(0, len(names), self._batch_size):
            part = names[start : start + self._batch_size]
            pixels = dict(zip(part, self._processor.load(self._images_dir, part), strict=True))
            for shape in dict.fromkeys(image.shape for image in pixels.values()):
                alike = {name: image for name, image in pixels.items() if image.shape == shape}
                features |= zip(alike, self._encode_alike(list(alike.values())), strict=False)
        return features

    def _encode_alike(self, pixels: list[np.ndarray]) -> np.ndarray:
        """Features of at most a batch of pictures of one size, and of what fills the batch up."""
        # Always the same number, so that each size is compiled once: the rest of the batch stays black.
        batch = np.zeros((self._batch_size, *pixels[0].shape), np.float32)
        batch[: len(pixels)] = pixels
        loaded = self._loaded
        return np.asarray(
            encode_images(loaded.graphdef, loaded.params, loaded.frozen, jax.device_put(batch, self._rows))
        )

    def _keep(self, name: str, features: np.ndarray) -> None:
        if name in self._kept:
            self._kept.move_to_end(name)
            return
        # A copy: a view would hold the whole batch in memory for as long as one image of it stays.
        self._kept[name] = features.copy()
        self._bytes += features.nbytes
        while self._bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes


def _padded(features: np.ndarray, length: int) -> np.ndarray:
    return np.pad(features, ((0, length - len(features)), (0, 0)))
