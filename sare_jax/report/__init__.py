"""Tables, figures and the page that shows them."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.report.spec import ReportSpec, RunSpec, SettingSpec, spec_of
    from sare_jax.report.terminal import table_text
    from sare_jax.report.writing import write

__all__ = ["ReportSpec", "RunSpec", "SettingSpec", "spec_of", "table_text", "write"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        **dict.fromkeys(("ReportSpec", "RunSpec", "SettingSpec", "spec_of"), "sare_jax.report.spec"),
        "table_text": "sare_jax.report.terminal",
        "write": "sare_jax.report.writing",
    },
)
