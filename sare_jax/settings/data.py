"""Where images and annotations lie."""

from dataclasses import dataclass, field
from typing import Literal

from sare_jax.errors import UserError
from sare_jax.settings.building import at_least


@dataclass(frozen=True)
class DataConfig:
    """Where images and annotations lie and how they are split."""

    prepare: str = ""
    """`module:function` that makes the data where they are not there as it made them, and leaves alone what
    it did not make; empty where the data are there."""
    prepare_args: dict = field(default_factory=dict)
    """Keyword arguments of that function."""
    root: str = ""
    """Folder that `prepare` fills; empty is `data` in the workdir. Only counts where `prepare` is set."""
    images: str = "images"
    """Image folder; where `prepare` makes the data, a relative name is taken from `root`."""
    annotations: str = "annotations"
    """Folder of COCO 2014 `instances_*.json` and `captions_*.json`; relative as above."""
    split: Literal["files", "reserve", "efuf"] = "reserve"
    """`files` where the annotation files are named train, val and test; `reserve` draws images at random for
    validation and test and leaves the rest for training (A.1); `efuf` trains on the images that `used` names
    and sets aside the first others by name."""
    reserve_validation: int = 1600
    """Validation images that are set aside (A.1), unless `split` is `files`."""
    reserve_test: int = 1600
    """Test images that are set aside (A.1), unless `split` is `files`."""
    used: str = ""
    """With split `efuf`, the file that names the training images: `image ### …` lines such as EFUF's
    objects.txt, JSON lines, or its pos_neg.json."""
    max_train_images: int = 0
    """Training images that are used at most; 0 is all."""
    max_pixels: int = 50_000_000
    """Width times height of the largest image that is read; larger ones are refused and named."""

    def check(self, where: str) -> None:
        """Refuses numbers below 0, and a file of training images that is missing or not used."""
        for name in ("reserve_validation", "reserve_test", "max_train_images"):
            at_least(getattr(self, name), 0, f"{where}.{name}")
        at_least(self.max_pixels, 1, f"{where}.max_pixels")
        if self.split == "efuf" and not self.used:
            raise UserError(f"{where}.used: empty; name the file of the training images, as objects.txt")
