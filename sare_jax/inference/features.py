"""Vision features, computed once an image."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from sare_jax.data.images import ImageProcessor
from sare_jax.errors import UserError
from sare_jax.models.load import LoadedLlava, merge
from sare_jax.models.shared.partition import Tree
from sare_jax.rounding import round_up


@partial(jax.jit, static_argnames=("graphdef",))
def encode_images(graphdef: nnx.GraphDef, params: Tree, frozen: Tree, pixels: jax.Array) -> jax.Array:
    """`Llava.encode_images`, compiled: float[I, H, W, 3] -> float[I, P, D_v]."""
    return merge(graphdef, params, frozen).encode_images(pixels)


class FeatureCache:
    """Features of image files, kept in host memory; the least recently used leave first.

    The vision tower is frozen, so one cache serves every set of trained weights of a model.
    """

    def __init__(
        self,
        loaded: LoadedLlava,
        processor: ImageProcessor,
        images_dir: Path,
        max_bytes: int = 4 << 30,
        *,
        batch_size: int = 16,
        rows: jax.sharding.Sharding | None = None,
    ):
        """Starts empty.

        Args:
          loaded: the model.
          processor: how pictures become arrays.
          images_dir: folder of the image files.
          max_bytes: memory that the features may take.
          batch_size: images encoded at a time, over all devices.
          rows: how the images of a batch lie on devices, each of which holds the weights.

        Raises:
          UserError: the vision tower is being trained, so that its features would not stay the same.
        """
        if "vision_tower" in loaded.params:
            raise UserError("trainable includes vision_tower, whose features are computed once; exclude it")
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
          float[n, P, D_v] in the dtype of the frozen weights, in the order of `names`.

        Raises:
          ImageError: a file is missing or cannot be read.
        """
        wanted = list(dict.fromkeys(names))
        found = {name: self._kept[name] for name in wanted if name in self._kept}
        found |= dict(self._encode([name for name in wanted if name not in found]))
        for name in wanted:
            self._keep(name, found[name])
        return np.stack([found[name] for name in names])

    def _encode(self, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
        loaded = self._loaded
        for start in range(0, len(names), self._batch_size):
            part = names[start : start + self._batch_size]
            pixels = self._processor.load(self._images_dir, part)
            # Always the same shape, so that it is compiled once: the rest of the batch stays black.
            batch = np.zeros((self._batch_size, *pixels.shape[1:]), np.float32)
            batch[: len(part)] = pixels
            features = encode_images(
                loaded.graphdef, loaded.params, loaded.frozen, jax.device_put(batch, self._rows)
            )
            yield from zip(part, np.asarray(features), strict=False)

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
