"""Benchmarks with images and questions of their own, from their official files."""
