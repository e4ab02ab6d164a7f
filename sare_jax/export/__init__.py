"""Tuned weights in the forms that other programs read; each model family has its own."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.export.compared import differences
    from sare_jax.export.forms import export_form, export_model, verify

__all__ = ["differences", "export_form", "export_model", "verify"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "differences": "sare_jax.export.compared",
        **dict.fromkeys(("export_form", "export_model", "verify"), "sare_jax.export.forms"),
    },
)
