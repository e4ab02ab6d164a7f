"""Qwen2.5-VL (3B, 7B)."""

__all__: list[str] = []
