"""LLaVA-1.5-7B with the settings of the paper's A.3.

hf download llava-hf/llava-1.5-7b-hf --local-dir MODEL
python main.py --config configs/llava_sare.py --config.model.folder=MODEL

The original form (liuhaotian/llava-v1.5-7b) works as well, with a folder of openai/clip-vit-large-patch14-336
as --config.model.vision_tower=TOWER.

`--config configs/llava_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/llava_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of LLaVA-1.5-7B.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, or `lora` with that attack.
    """
    config = on_coco("llava_sare", variant)
    config.model.folder = "llava-hf/llava-1.5-7b-hf"
    config.model.template = "vicuna_v1"
    config.model.image_mode = "center_crop"  # as llava-hf and EFUF; the original code pads
    return config.lock()
