"""The control against masking: whether an unlearned model still learns something harmless as fast."""

from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    absent,
    number_cell,
    number_text,
)


def masking(inputs: Inputs, spec: ReportSpec) -> Table | None:
    """One row a run: nats that it gained, beside the base model's; None where nothing was measured."""
    base = inputs.masking.get(spec.base)
    rows = [
        Row(run.key, run.label, _cells(inputs.masking[run.key], base))
        for run in spec.runs
        if run.key in inputs.masking
    ]
    if not rows:
        return None
    first = next(iter(inputs.masking.values()))
    columns = (
        Column("before", "nats a token before", None),
        Column("after", "after", None),
        Column("gained", "gained", None, "Fall of the loss of the neutral text."),
        Column("share", "of base", None, "Gained, as a share of what the base model gains in as many steps."),
    )
    return Table(
        "masking",
        f"Learning something harmless, {first['steps']} steps",
        "Run",
        columns,
        (Group("", "", tuple(rows)),),
        (
            "A model whose gradients are masked resists every fine-tuning, harmless ones included; one whose "
            "hallucinations are gone learns a neutral text as fast as the base model does.",
        ),
    )


def _cells(found: dict, base: dict | None) -> tuple[Cell, ...]:
    share = found["gained"] / base["gained"] if base and base["gained"] > 0 else None
    of_base = absent("base not measured")
    if share is not None:
        of_base = Cell(f"{number_text(100 * share, 0)} %", value=share)
    numbers = (number_cell(found[key], 2) for key in ("before", "after", "gained"))
    return (*numbers, of_base)
