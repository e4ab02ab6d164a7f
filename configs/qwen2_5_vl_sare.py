"""Qwen2.5-VL-7B, or the 3B, with the settings of the paper's A.3.

hf download Qwen/Qwen2.5-VL-7B-Instruct --local-dir MODEL
python main.py --config configs/qwen2_5_vl_sare.py --config.model.folder=MODEL

The 3B needs nothing but its folder in MODEL. Trained is the merger.

`--config configs/qwen2_5_vl_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/qwen2_5_vl_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of Qwen2.5-VL.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, or `lora` with that attack.
    """
    config = on_coco("qwen2_5_vl_sare", variant)
    config.model.family = "qwen2_5_vl"  # so a folder that is not there yet is missed as a Qwen2.5-VL
    config.model.folder = "Qwen/Qwen2.5-VL-7B-Instruct"
    # The published fewest; of COCO's images, which have 640 x 640 pixels at most, none is reduced.
    config.model.image_mode = "3136-414736"
    return config.lock()
