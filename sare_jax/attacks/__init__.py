"""Attempts to bring the erased hallucinations back."""
