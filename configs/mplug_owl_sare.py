"""mPLUG-Owl-7B with the settings of the paper's A.3.

hf download MAGAer13/mplug-owl-llama-7b --local-dir MODEL
python main.py --config configs/mplug_owl_sare.py --config.model.folder=MODEL

`--config configs/mplug_owl_sare.py:lineage` has EFUF's loss and tokens for this model: the sum of a target
divided by 512, its schedules and weights by CLIP score, role names tokenised apart, and attention weights of
the abstractor dropped.

`--config configs/mplug_owl_sare.py:robust` trains a third run, grounded choice, whose settings
are not measured.

`--config configs/mplug_owl_sare.py:lora` has LoRA fine-tuning as a further attack, by LLaVA's recipe and on
LLaVA's data.
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import on_coco


def get_config(variant: str = "paper") -> ConfigDict:
    """Settings of mPLUG-Owl.

    Args:
      variant: `paper`, `robust` with the run `robust` besides, `lora` with that attack, or `lineage`
        as EFUF's public code trains this model.
    """
    config = on_coco("mplug_owl_sare", variant, "lineage")
    config.model.family = "mplug_owl"  # so a folder that is not there yet is missed as an mPLUG-Owl
    config.model.folder = "MAGAer13/mplug-owl-llama-7b"
    config.export.form = "published"
    if variant == "lineage":
        config.name = "mplug_owl_lineage"
        config.model.template = "owl_roles_apart"
        config.optim.objective_args = {"reduction": "div512"}
        config.optim.preset = "efuf"
        config.optim.dropout = 0.1
    return config.lock()
