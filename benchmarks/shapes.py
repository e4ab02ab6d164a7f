"""The model and the samples that `benchmarks.step` and its peer both run; plain numbers.

`SARE_SHAPE` names one of `SHAPES`: `small` runs on a CPU, `tiny` is for trying, `7b` is LLaVA-1.5-7B's.
"""

import os


def _shape(
    width: int, mlp: int, layers: int, vision: int, vision_layers: int, image: int
) -> tuple[dict, dict]:
    heads = max(1, width // (128 if width > 512 else 64))
    return (
        {
            "hidden_size": vision,
            "intermediate_size": 4 * vision,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": max(1, vision // 64),
            "image_size": image,
            "patch_size": 14,
        },
        {
            "hidden_size": width,
            "intermediate_size": mlp,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "vocab_size": 32064,
        },
    )


SHAPES = {
    "tiny": _shape(64, 96, 2, 64, 2, 56),
    "small": _shape(512, 1376, 8, 256, 6, 336),
    "1b": _shape(2048, 5504, 16, 1024, 24, 336),
    "7b": _shape(4096, 11008, 32, 1024, 24, 336),
}
VISION, TEXT = SHAPES[os.environ.get("SARE_SHAPE", "small")]
IMAGE_TOKEN = 32000
# Tokens before, of and behind the image.
SYSTEM, IMAGE, PROMPT = 35, (VISION["image_size"] // VISION["patch_size"]) ** 2, 12
# Set → tokens of context and of target.
UNITS = {"neg": (50, 14), "pos": (40, 14), "sent": (0, 110)}
