r"""MiniGPT-4 in its Vicuna form, with the settings of the paper's A.3. Its files are published apart.

hf download Vision-CAIR/vicuna-7b --local-dir MODEL
python main.py --config configs/minigpt4_vicuna_sare.py --config.model.folder=MODEL \
    --config.model.files.eva_vit=eva_vit_g.pth --config.model.files.qformer=blip2_pretrained_flant5xxl.pth \
    --config.model.files.pretrained=prerained_minigpt4_7b.pth

`--config configs/minigpt4_vicuna_sare.py:robust` trains a third run, grounded choice, whose settings are not
measured.

`--config configs/minigpt4_vicuna_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe
and on LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of MiniGPT-4, Vicuna form.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, or `lora` with that attack.
    """
    config = on_coco("minigpt4_vicuna_sare", variant)
    config.model.family = "minigpt4"
    config.model.folder = "Vision-CAIR/vicuna-7b"
    config.model.files = {
        "eva_vit": "eva_vit_g.pth",
        "qformer": "blip2_pretrained_flant5xxl.pth",
        "pretrained": "prerained_minigpt4_7b.pth",  # so spelt where it is published
    }
    config.export.form = "published"
    return config.lock()
