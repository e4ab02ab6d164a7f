r"""ShareGPT4V-7B with the settings of the paper's A.3. Model and vision tower are published apart.

hf download Lin-Chen/ShareGPT4V-7B --local-dir MODEL
hf download Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12 --local-dir TOWER
python main.py --config configs/sharegpt4v_sare.py --config.model.folder=MODEL \
    --config.model.vision_tower=TOWER

`--config configs/sharegpt4v_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/sharegpt4v_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of ShareGPT4V-7B.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, or `lora` with that attack.
    """
    config = on_coco("sharegpt4v_sare", variant)
    config.model.folder = "Lin-Chen/ShareGPT4V-7B"
    config.model.vision_tower = "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12"
    config.model.template = "vicuna_v1"
    # Its config.json says pad, and so does its own code; EFUF, whose figures the paper compares with, crops.
    config.model.image_mode = "center_crop"
    return config.lock()
