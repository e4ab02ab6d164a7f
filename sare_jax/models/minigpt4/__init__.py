"""MiniGPT-4 on Llama-2-chat and on Vicuna: EVA ViT-g, a Q-Former for Vicuna's, one linear layer, a LLaMA."""

__all__: list[str] = []
