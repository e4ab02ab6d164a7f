"""The configs of the published Qwen2.5-VLs, for what needs their shapes and no weights."""

from typing import Any

QWEN2_5_VL_3B, QWEN2_5_VL_7B = "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"
_TOWER = {
    "depth": 32,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "hidden_act": "silu",
    "hidden_size": 1280,
    "in_chans": 3,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
}
_COMMON = {
    "model_type": "qwen2_5_vl",
    "hidden_act": "silu",
    "image_token_id": 151655,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "rope_theta": 1_000_000.0,
    "use_sliding_window": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    QWEN2_5_VL_7B: {
        **_COMMON,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
        "vocab_size": 152064,
        "vision_config": {**_TOWER, "out_hidden_size": 3584},
    },
    QWEN2_5_VL_3B: {
        **_COMMON,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_hidden_layers": 36,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "vocab_size": 151936,
        "vision_config": {**_TOWER, "out_hidden_size": 2048},
    },
}
PROCESSOR: dict[str, Any] = {"min_pixels": 3_136, "max_pixels": 12_845_056}
