"""The floor of the robustness test: a demo model that never hallucinated, under the demo's attacks.

    python main.py --config configs/demo_sare.py      first: its captions are what the floor relearns
    python main.py --config configs/demo_floor.py

The floor has the size, the seed and the eyes of the demo's model; the writer of its lessons fills in remarks
alone (`python -m sare_jax.demo.train_llava --boldness 0`). It is attacked in the same way, with the same
units of D_neg, which are cut from the demo model's captions. What these teach it, no unlearning can be asked
to withstand. `--config.report.floor=runs/demo_floor` puts it into another run's table of attacks.
"""

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare

CAPTIONS = "runs/demo_sare/captions/captions.jsonl"


def get_config(captions: str = CAPTIONS) -> ConfigDict:
    """Settings of the floor.

    Args:
      captions: captions of the training images by the model that was to forget.
    """
    config = demo_sare.get_config()
    config.unlock()
    config.name = "demo_floor"
    config.model.folder = f"{demo_sare.WEIGHTS}/llava_floor"
    config.caption.file = captions
    config.stages = "prepare,caption,curate,evaluate,attack"
    config.runs = ConfigDict()
    return config.lock()
