"""The model to unlearn."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """The model to unlearn."""

    folder: str = ""
    """Hugging Face folder, or a model id whose snapshot lies in the local hub cache."""
    family: str = "auto"
    """The model's family: `auto` reads it from config.json; else a short name of `sare_jax.models.families`,
    or `module:name`."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Number format of the frozen weights; the trainable ones are always float32."""
    quantization: Literal["none", "int8"] = "none"
    """`int8` keeps the frozen weights of the language model's linear layers as int8 with a scale for each
    output channel, in half the memory of bfloat16; all else, and all products, are as `dtype` says."""
    trainable: str = ""
    """Regular expression on Flax paths; empty trains the family's mapping layers."""
    template: str = ""
    """One of the family's prompt forms; empty takes its own. LLaVA's are `vicuna_v1`, its own, with the
    system sentence, and `hub` without; mPLUG-Owl's `owl_roles_apart` tokenises role names apart, as its
    training did."""
    image_mode: str = "auto"
    """How images are brought to the vision tower's size; `auto` follows the checkpoint. LLaVA has `pad` and
    `center_crop`; a Qwen-VL takes any size, and `FEWEST-MOST` is the range of pixels it is brought into."""
    vision_tower: str = ""
    """Folder or model id of the vision tower, for checkpoints in LLaVA's original form; empty follows
    `mm_vision_tower` of their config.json."""
    files: dict[str, str] = field(default_factory=dict)
    """Files of a family whose parts are published apart, by the names that it has for them; MiniGPT-4's are
    `eva_vit`, `pretrained` and, for the Vicuna form, `qformer`."""
    feature_cache_gib: float = 2.0
    """Image features that are kept in host memory, in GiB."""
    data_parallel: int = 0
    """Devices that hold different rows and the same weights; 0 is all that `fsdp` leaves."""
    fsdp: int = 1
    """Devices over which the frozen weights are divided; they hold different rows too."""
    remat: Literal["none", "dots", "full"] = "full"
    """What a layer keeps for its backward pass: `full` recomputes everything, `dots` keeps the products with
    weights, `none` keeps everything."""
