"""The embedded world: the whole road on two CPU cores, with the truth known.

A model of a million weights is not one of seven billion: learning rate, λ, ρ and thresholds are its own,
chosen on validation images with `configs/demo_sweep.py` (table and conclusions: docs/demo_sweep.md).
"""

from ml_collections import ConfigDict

from sare_jax.configs.common import base_config

WEIGHTS = "sare_jax/demo/weights"


def get_config(variant: str = "full") -> ConfigDict:
    """Settings of the demo.

    Args:
      variant: `full`, or `short` for a quick pass over every stage with figures that mean little.
    """
    if variant not in ("full", "short"):
        raise ValueError(f"configs/demo_sare.py:{variant}: the variants are full and short")
    config = base_config("demo_sare" if variant == "full" else "demo_short")
    _world(config)
    _methods(config)
    if variant == "short":
        _shorten(config)
    return config.lock()


def _world(config: ConfigDict) -> None:
    """Data, models and prompts of the embedded world."""
    config.data.prepare = "sare_jax.demo.world:build"
    config.data.prepare_args = ConfigDict({"train": 1200, "val": 400, "test": 400, "seed": 0})
    config.data.split = "files"
    config.model.folder = f"{WEIGHTS}/llava"
    config.model.dtype = "float32"
    config.model.remat = "none"
    config.model.template = "hub"
    config.caption.prompt = config.evaluate.prompt
    config.caption.max_new_tokens = 128
    config.caption.batch_size = 64
    config.curate.clip = f"local-dir:{WEIGHTS}/clip"
    config.curate.clip_pretrained = ""
    config.curate.patch = 16
    config.curate.window = 4
    config.curate.top_patches = 4
    config.curate.thresholds.kind = "quantile"
    config.curate.thresholds.q1 = 0.05
    config.curate.image_batch = 64
    config.evaluate.max_new_tokens = 128
    config.evaluate.max_images = 200
    config.evaluate.probe_images = 200
    config.evaluate.options.pope.images = 50
    config.evaluate.batch_size = 64
    config.evaluate.question_batch_size = 256
    config.evaluate.options.perplexity.lm = f"{WEIGHTS}/lm"


def _methods(config: ConfigDict) -> None:
    """The five methods and the attacks."""
    config.optim.epochs = 1.0
    config.optim.batch_size = 8
    config.optim.checkpoint_every = 10
    config.optim.adamw.learning_rate = 2e-4
    config.optim.instruction = config.evaluate.prompt
    config.attack.adamw.learning_rate = 5e-5
    config.attacks.relearn_disjoint.num_samples = 0  # all that there are
    config.runs = ConfigDict(
        {
            "efuf": {"label": "EFUF (Eq. 1)", "rho": 0.0, "neg_weight": 0.2},
            "sare": {"label": "SARE", "rho": 0.05, "neg_weight": 0.2},
            "unlikelihood": {
                "label": "unlikelihood",
                "objective": "unlikelihood",
                "rho": 0.0,
                "neg_weight": 0.15,
            },
            "unlikelihood_sam": {
                "label": "unlikelihood + Targeted-SAM",
                "objective": "unlikelihood",
                "rho": 0.05,
                "neg_weight": 0.15,
            },
            "robust": {
                "label": "grounded choice",
                "objective": "grounded_choice",
                "samples": {"kind": "choices"},
                "packing": "packed",
                "batch_size": 32,  # 24 captions and 8 questions
                "steps": 37,
                "rho": 0.0,
                "neg_weight": 0.25,
                "pos_weight": 0.4,
                "sent_weight": 4.0,
                "adamw": {"learning_rate": 5e-4, "weight_decay": 0.0},
            },
        }
    )
    config.export.check_captions = 50
    config.report.landscape_images = 60
    config.report.matched = True
    config.report.ours = "robust"
    config.report.selection = "sare_jax/demo/selection.json"
    config.report.subject = (
        "A LLaVA of 1.4 million weights that describes a drawn world whose truth is known; it hallucinates "
        "since its descriptions have to be long and visible objects run out."
    )


def _shorten(config: ConfigDict) -> None:
    """The same stages on fewer images and steps."""
    config.data.prepare_args.update({"train": 300, "val": 60, "test": 60})
    config.optim.steps = 12
    config.runs.robust.update({"steps": 12, "samples": {"kind": "choices", "questions": 6}})
    config.optim.checkpoint_every = 4
    config.evaluate.max_images = 24
    config.evaluate.probe_images = 24
    config.evaluate.options.pope.images = 10
    config.export.check_captions = 8
    config.report.landscape_images = 16
    config.report.landscape_points = 3
    config.curate.thresholds.q1 = 0.2
    config.attacks = ConfigDict(
        {
            "relearn_8": {"num_samples": 8},
            "relearn_disjoint": {"kind": "relearn_disjoint", "num_samples": 0},
            "adversarial": {"kind": "prompt"},
        }
    )
    config.report.matched_attack = "relearn_8"
