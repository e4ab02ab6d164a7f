"""SARE: sharpness-aware robust erasure of hallucinations in multimodal LLMs, in JAX."""
