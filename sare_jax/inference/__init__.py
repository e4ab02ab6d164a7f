"""Compiled generation with a key-value cache."""
