"""Runs that differ from SARE's in one thing: the ablation, the sensitivity, and the length of training."""

from collections.abc import Mapping, Sequence

from sare_jax.evaluation.columns import Measure
from sare_jax.evaluation.metrics.chair import CHAIR_S, RECALL
from sare_jax.report.figures import FigureGroup, Panel
from sare_jax.report.palette import MUTED
from sare_jax.report.svg import inline, panel
from sare_jax.reproduce.experiment import Experiment, Made, Page, Raw, run_of, with_runs
from sare_jax.reproduce.main_results import printed
from sare_jax.reproduce.repeats import mean_over_seeds
from sare_jax.reproduce.rows import Line, paper_table

OURS, BASELINE = "sare", "efuf"
ABLATION: dict[str, tuple[str, Raw]] = {
    "fine_grained": ("D_neg and D_pos alone", {"sent_weight": 0.0}),
    "sentence_only": ("D_sent alone", {"neg_weight": 0.0, "pos_weight": 0.0, "rho": 0.0}),
}
# The paper's values (Table 4). Its learning rate goes with them; on another model they may be far from good.
SENSITIVITY: dict[str, tuple[str, Sequence[float]]] = {
    "neg_weight": ("λ₁", (0.1, 0.2, 0.3, 0.4)),
    "sent_weight": ("λ₂", (0.1, 0.2, 0.3, 0.4)),
    "rho": ("ρ", (0.01, 0.05, 0.1, 0.15)),
}
EPOCHS = (0.25, 0.5, 1.0, 2.0, 3.0)


def _with(raw: Raw, changes: Mapping[str, tuple[str, Raw]], experiment: str) -> Raw:
    """SARE's run and the baseline's, and SARE's with each of the changes: name → label and settings."""
    ours = run_of(raw, OURS, experiment)
    runs = {BASELINE: run_of(raw, BASELINE, experiment), OURS: ours}
    runs |= {name: {**ours, **settings, "label": label} for name, (label, settings) in changes.items()}
    return with_runs(raw, runs, attacks={})


def _name(key: str, value: float) -> str:
    return f"sare_{key}_{value:g}".replace(".", "p")


def _table2(made: Made) -> Page:
    note, paper = printed(made, "table2")
    lines = [
        Line("base model", "base", paper="base/origin"),
        *(Line(label, name, paper=f"{name}/origin") for name, (label, _) in ABLATION.items()),
        Line("SARE", OURS, paper="sare/origin"),
    ]
    caption = "Which of the sets does what (the paper's Table 2)"
    return Page((paper_table(made, "table2", caption, [("", lines)], paper, note),))


def _sensitive(raw: Raw) -> Raw:
    changes = {
        _name(key, value): (f"{symbol} = {value:g}", {key: value})
        for key, (symbol, values) in SENSITIVITY.items()
        for value in values
    }
    return _with(raw, changes, "table4")


def _table4(made: Made) -> Page:
    note, paper = printed(made, "table4")
    groups = [
        (symbol, [Line(f"{value:g}", _name(key, value), paper=f"{key}={value:g}") for value in values])
        for key, (symbol, values) in SENSITIVITY.items()
    ]
    ours = made.context.config.runs[OURS]
    others = f"What is not varied: λ₁ {ours.neg_weight:g}, λ₂ {ours.sent_weight:g}, ρ {ours.rho:g}."
    caption = "SARE with other weights and radii (the paper's Table 4)"
    return Page((paper_table(made, "table4", caption, groups, paper, (others, *note)),))


def _longer(raw: Raw) -> Raw:
    changes = {_name("epochs", e): (f"{e:g} epochs", {"epochs": e, "steps": 0}) for e in EPOCHS}
    return _with(raw, changes, "fig4")


def _fig4(made: Made) -> Page:
    lines = [Line("0", "base"), *(Line(f"{e:g}", _name("epochs", e)) for e in EPOCHS)]
    caption = "SARE by passes over D_neg (the paper's Fig. 4), each a run of its own with the same order"
    table = paper_table(made, "fig4", caption, [("epochs", lines)], {}, ())
    points = [(0.0, "base"), *((e, _name("epochs", e)) for e in EPOCHS)]
    panels = tuple(_curve(made, measure, points) for measure in (CHAIR_S, RECALL))
    return Page((table,), FigureGroup("fig4", (), panels))


def _curve(made: Made, measure: Measure, points: Sequence[tuple[float, str]]) -> Panel:
    with panel() as (figure, axes):
        known = [(x, mean_over_seeds(made, run, "origin", measure)) for x, run in points]
        shown = [(x, value.number) for x, value in known if value.number is not None]
        axes.plot([x for x, _ in shown], [number for _, number in shown], marker="o")
        for x, value in known:
            if value.interval:
                axes.vlines(x, *value.interval, color=MUTED, linewidth=1)
        axes.set_xlabel("passes over D_neg")
        label = f"{measure.label} of SARE by passes over D_neg"
        return Panel(label, inline(figure, f"fig4_{measure.key}", label), measure.better)


TABLE2 = Experiment(
    "the ablation of the three sets", lambda raw: _with(raw, ABLATION, "table2"), _table2, repeated=True
)
TABLE4 = Experiment("the sensitivity to λ₁, λ₂ and ρ", _sensitive, _table4, repeated=True)
FIG4 = Experiment("the dynamics over several epochs", _longer, _fig4, repeated=True)
