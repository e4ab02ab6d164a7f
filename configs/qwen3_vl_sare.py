"""Qwen3-VL-2B with the settings of the paper's A.3.

hf download Qwen/Qwen3-VL-2B-Instruct --local-dir MODEL
python main.py --config configs/qwen3_vl_sare.py --config.model.folder=MODEL

Trained is the merger. `--config.model.trainable='(merger|deepstack)/.*'` trains DeepStack's mergers with it.

`--config configs/qwen3_vl_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/qwen3_vl_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of Qwen3-VL-2B.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, or `lora` with that attack.
    """
    config = on_coco("qwen3_vl_sare", variant)
    config.model.family = "qwen3_vl"  # so a folder that is not there yet is missed as a Qwen3-VL
    config.model.folder = "Qwen/Qwen3-VL-2B-Instruct"
    # The published fewest; of COCO's images, which have 640 x 640 pixels at most, none is reduced.
    config.model.image_mode = "65536-409600"
    return config.lock()
