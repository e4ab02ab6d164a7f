"""Settings of the smallest whole road, for runs that are killed or damaged; a config file for `main.py`."""

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare


def get_config() -> ConfigDict:
    """All stages with two runs, one of which asks questions first, on a few images."""
    config = demo_sare.get_config("short")
    config.unlock()
    config.name = "small_road"
    config.data.prepare_args.update({"train": 64, "val": 10, "test": 16})
    config.evaluate.max_images = 8
    config.evaluate.probe_images = 4
    config.evaluate.options.pope.images = 4
    config.evaluate.bootstrap = 50
    config.optim.steps = 6
    config.optim.checkpoint_every = 2
    config.runs = {name: config.runs[name].to_dict() for name in ("sare", "robust")}
    config.runs.robust.steps = 6
    config.export.check_captions = 2
    config.report.update({"baseline": "sare", "landscape_images": 2, "gallery": 2, "selection": ""})
    return config.lock()
