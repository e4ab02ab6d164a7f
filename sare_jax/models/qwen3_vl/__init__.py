"""Qwen3-VL, the dense ones with DeepStack (2B, 4B, 8B)."""

__all__: list[str] = []
