"""How far attacks raise CHAIR_S in each run, compared with how far they raise it in the base model."""

from dataclasses import dataclass
from typing import Literal

from sare_jax.errors import UserError
from sare_jax.evaluation.compare import counts_of, told_apart
from sare_jax.evaluation.excess import excess as excess_of
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report.contrasts import measured, sampling, with_counts
from sare_jax.report.measures import benchmarks_in, metrics_in
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec

Verdict = Literal["less", "more", "none", "unpaired"]


@dataclass(frozen=True)
class GivenBack:
    """CHAIR_S of one run before and after an attack, in points.

    Attributes:
      before, after: CHAIR_S without and with the attack, in percent.
      by_base: points that the same attack adds to the base model; None if the base model was not attacked, or
        is the run itself.
      excess: amount − by_base, in points.
      interval: paired 95 % interval of the excess; None if the results hold no counts by image.
      n, discordant: number of images that were compared, and of those among them whose change differs from
        the base model's.
      verdict: whether less or more came back than the attack teaches the base model; `none` where neither can
        be told, `unpaired` without an interval.
    """

    before: float
    after: float
    by_base: float | None = None
    excess: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0
    discordant: int = 0
    verdict: Verdict = "unpaired"

    @property
    def amount(self) -> float:
        """Points of CHAIR_S that the attack added: after − before."""
        return self.after - self.before


def given_back(inputs: Inputs, spec: ReportSpec, run: str, setting: str) -> GivenBack | None:
    """CHAIR_S of a run before and after an attack; None if either was not measured.

    Raises:
      UserError: the rows were measured by different rules.
    """
    before, after = (measured(inputs, run, key, CHAIR_S).number for key in ("origin", setting))
    if before is None or after is None:
        return None
    base = [measured(inputs, spec.base, key, CHAIR_S).number for key in ("origin", setting)]
    if run == spec.base or base[0] is None or base[1] is None:
        return GivenBack(before, after)
    by_base = base[1] - base[0]
    difference = after - before - by_base
    paired = _paired(inputs, spec, run, setting)
    if paired is None:
        return GivenBack(before, after, by_base, difference)
    low, high = paired["interval"]
    verdict: Verdict = "none"
    if told_apart((low, high), paired["discordant"]):
        verdict = "less" if high < 0 else "more"
    return GivenBack(
        before, after, by_base, difference, (low, high), paired["n"], paired["discordant"], verdict
    )


def _paired(inputs: Inputs, spec: ReportSpec, run: str, setting: str) -> dict | None:
    """The entry of `evaluation.excess` for CHAIR_S; None if a result holds no counts by image."""
    section = CHAIR_S.path[0]
    key = ("excess", run, setting, section)
    if key not in inputs.cache:
        rows = [(inputs.result(r, s) or {}) for r in (run, spec.base) for s in ("origin", setting)]
        parts = [{section: with_counts(row.get(section))} for row in rows]
        inputs.cache[key] = {}
        if all(part[section] for part in parts):
            known = counts_of(metrics_in(spec), benchmarks_in(spec))
            try:
                inputs.cache[key] = excess_of(
                    (parts[0], parts[1]), (parts[2], parts[3]), known=known, **sampling(rows[1])
                )
            except UserError as error:
                raise UserError(f"metrics/{run} and metrics/{spec.base}, {setting}: {error}") from None
    return inputs.cache[key].get(CHAIR_S.result_name)
