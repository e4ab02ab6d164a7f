"""LLaVA-1.5-7B with the settings of the paper's A.3."""

from ml_collections import ConfigDict

from configs.common import base_config


def get_config() -> ConfigDict:
    config = base_config("llava_sare")
    config.model.folder = "llava-hf/llava-1.5-7b-hf"
    config.data.images = "data/coco/train2014"
    config.data.annotations = "data/coco/annotations"
    config.data.split = "reserve"
    return config.lock()
