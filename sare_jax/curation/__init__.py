"""The PyTorch side: captions and images in, D_neg, D_pos and D_sent out as arrays. Never imports jax."""
