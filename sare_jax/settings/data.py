"""Where images and annotations lie."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataConfig:
    """Where images and annotations lie and how they are split.

    Attributes:
      prepare: `module:function` that makes the data when they are not there; empty where they are.
      prepare_args: keyword arguments of that function.
      root: folder that `prepare` fills; empty means `data` in the workdir.
      images: image folder; relative names are taken from `root`.
      annotations: folder of COCO 2014 `instances_*.json` and `captions_*.json`; relative as above.
      split: `files` where the annotation files are named train, val and test; `reserve` draws
        `reserve_validation` and `reserve_test` images at random and leaves the rest for training (A.1);
        `efuf` trains on the images that `used` names and sets aside the first others by name.
      reserve_validation, reserve_test: numbers of images to set aside (A.1: 1,600 each).
      used: with `efuf`, the file that names the training images: `image ### …` lines such as EFUF's
        objects.txt, JSON lines, or its pos_neg.json.
      max_train_images: use that many training images at most; 0 is all.
    """

    prepare: str = ""
    prepare_args: dict = field(default_factory=dict)
    root: str = ""
    images: str = "images"
    annotations: str = "annotations"
    split: Literal["files", "reserve", "efuf"] = "reserve"
    reserve_validation: int = 1600
    reserve_test: int = 1600
    used: str = ""
    max_train_images: int = 0
