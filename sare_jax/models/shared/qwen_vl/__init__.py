"""What Qwen3-VL and Qwen2.5-VL share: images of any size, positions in a plane, prompts, files."""

__all__: list[str] = []
