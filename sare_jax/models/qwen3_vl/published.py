"""The config of the published Qwen3-VL-2B, for what needs its shapes and no weights."""

from typing import Any

QWEN3_VL_2B = "Qwen/Qwen3-VL-2B-Instruct"
CONFIGS: dict[str, dict[str, Any]] = {
    QWEN3_VL_2B: {
        "model_type": "qwen3_vl",
        "image_token_id": 151655,
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_attention_heads": 16,
            "num_hidden_layers": 28,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {
                "mrope_interleaved": True,
                "mrope_section": [24, 20, 20],
                "rope_type": "default",
            },
            "rope_theta": 5_000_000,
            "vocab_size": 151936,
        },
        "vision_config": {
            "deepstack_visual_indexes": [5, 11, 17],
            "depth": 24,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 1024,
            "in_channels": 3,
            "intermediate_size": 4096,
            "num_heads": 16,
            "num_position_embeddings": 2304,
            "out_hidden_size": 2048,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
}
PROCESSOR: dict[str, Any] = {"size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}
