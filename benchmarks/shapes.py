"""The model and the samples that `benchmarks.step` and its peer both run; plain numbers."""

VISION = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "image_size": 336,
    "patch_size": 14,
}
TEXT = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32064,
}
IMAGE_TOKEN = 32000
# Tokens before, of and behind the image.
SYSTEM, IMAGE, PROMPT = 35, 576, 12
# Set → tokens of context and of target.
UNITS = {"neg": (50, 14), "pos": (40, 14), "sent": (0, 110)}
