"""Readers and writers of the files that stages and commands share. No jax, no torch."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.records.coco import Truth, read_truth
    from sare_jax.records.curated import Curated, read_curated
    from sare_jax.records.texts import read_records

__all__ = ["Curated", "Truth", "read_curated", "read_records", "read_truth"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "Curated": "sare_jax.records.curated",
        "Truth": "sare_jax.records.coco",
        "read_curated": "sare_jax.records.curated",
        "read_records": "sare_jax.records.texts",
        "read_truth": "sare_jax.records.coco",
    },
)
