"""The model to unlearn."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """The model to unlearn.

    Attributes:
      folder: Hugging Face folder, or a model id whose snapshot lies in the local hub cache.
      dtype: of the frozen weights; the trainable ones are always float32.
      trainable: regular expression on Flax paths: the mapping layers.
      template: prompt form, `vicuna_v1` with the system sentence or `hub` without.
      image_mode: `auto` follows the checkpoint, `pad` and `center_crop` force one.
      vision_tower: folder or model id of the vision tower, for checkpoints in the original form; empty
        follows `mm_vision_tower` of their config.json.
      feature_cache_gib: vision features that are kept in host memory, in GiB.
      data_parallel: devices that hold different rows and the same weights; 0 is all that `fsdp` leaves.
      fsdp: devices over which the frozen weights are divided; they hold different rows too.
      remat: what a layer keeps for its backward pass: `full` recomputes everything, `dots` keeps the
        products with weights, `none` keeps everything.
    """

    folder: str = ""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    trainable: str = "projector/.*"
    template: Literal["vicuna_v1", "hub"] = "vicuna_v1"
    image_mode: Literal["auto", "pad", "center_crop"] = "auto"
    vision_tower: str = ""
    feature_cache_gib: float = 2.0
    data_parallel: int = 0
    fsdp: int = 1
    remat: Literal["none", "dots", "full"] = "full"
