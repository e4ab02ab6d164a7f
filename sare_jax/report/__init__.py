"""Tables, figures and the page that shows them."""

from sare_jax.report.spec import ReportSpec, RunSpec, SettingSpec, spec_of
from sare_jax.report.terminal import table_text
from sare_jax.report.writing import write

__all__ = ["ReportSpec", "RunSpec", "SettingSpec", "spec_of", "table_text", "write"]
