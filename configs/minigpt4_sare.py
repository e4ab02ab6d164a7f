r"""MiniGPT-4 in its Llama-2 form, with the settings of the paper's A.3. Its files are published apart.

hf download meta-llama/Llama-2-7b-chat-hf --local-dir MODEL
python main.py --config configs/minigpt4_sare.py --config.model.folder=MODEL \
    --config.model.files.eva_vit=eva_vit_g.pth \
    --config.model.files.pretrained=pretrained_minigpt4_llama2_7b.pth

`--config configs/minigpt4_sare.py:lineage` has EFUF's loss for this model: the sum of a target divided by the
padded length less one, its schedules and its weights by CLIP score.

`--config configs/minigpt4_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/minigpt4_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of MiniGPT-4, Llama-2 form.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, `lora` with that attack, or `lineage`
        as EFUF's public code trains this model.
    """
    config = on_coco("minigpt4_sare", variant, "lineage")
    config.model.family = "minigpt4"
    config.model.folder = "meta-llama/Llama-2-7b-chat-hf"
    config.model.files = {"eva_vit": "eva_vit_g.pth", "pretrained": "pretrained_minigpt4_llama2_7b.pth"}
    config.export.form = "published"
    if variant == "lineage":
        config.name = "minigpt4_lineage"
        config.optim.objective_args = {"reduction": "seq_mean_padded"}
        config.optim.preset = "efuf"
    return config.lock()
