"""Table 1, every method under every attack, and Table 3, the same before any attack on the other models."""

from sare_jax import files
from sare_jax.reproduce.experiment import Experiment, Made, Page, Raw, with_runs
from sare_jax.reproduce.repeats import is_repeat
from sare_jax.reproduce.rows import Line, paper_rows, paper_table

# model_type in config.json → the paper's name. MiniGPT-4's folder is that of its LLaMA.
_MODELS = {
    "llava": "LLaVA-v1.5-7B",
    "llava_llama": "LLaVA-v1.5-7B",
    "mplug-owl": "mPLUG-Owl-7B",
    "llama": "MiniGPT-4",
    "share4v": "ShareGPT4V",
}


# The paper's methods, and this project's own where a config has it.
METHODS = ("efuf", "sare", "robust")


def methods_of(raw: Raw) -> dict[str, Raw]:
    """The runs of `METHODS` that a config file has."""
    return {name: settings for name, settings in raw.get("runs", {}).items() if name in METHODS}


def _all_runs(raw: Raw) -> Raw:
    return with_runs(raw, methods_of(raw))


def _before_attacks(raw: Raw) -> Raw:
    return with_runs(raw, methods_of(raw), attacks={})


def _table1(made: Made) -> Page:
    groups = [
        (run.label, [_line(run.key, setting.key, setting.label) for setting in made.spec.settings])
        for run in made.spec.runs
        if not is_repeat(run.key)
    ]
    model, paper = printed(made, "table1")
    table = paper_table(
        made,
        "table1",
        "Hallucination rates and quality before and after each attack (the paper's Table 1)",
        groups,
        paper,
        model,
    )
    return Page((table,))


def _table3(made: Made) -> Page:
    lines = [_line(run.key, "origin", run.label) for run in made.spec.runs if not is_repeat(run.key)]
    model, paper = printed(made, "table3")
    table = paper_table(
        made, "table3", "Before any attack (the paper's Table 3)", [("", lines)], paper, model
    )
    return Page((table,))


def _line(run: str, setting: str, label: str) -> Line:
    return Line(label, run, setting, f"{run}/{setting}")


def printed(made: Made, table: str) -> tuple[tuple[str, ...], dict]:
    """A note on whose figures stand beside ours, and the paper's rows of the table."""
    known = paper_rows(table)
    config = files.read_json(made.context.source.folder / "config.json")
    name = _MODELS.get(str(config.get("model_type")), "")
    model = name if name in known else next(iter(known))
    note = f"Rows called paper are of {model}."
    return (note,), known[model]


TABLE1 = Experiment("every method under every attack", _all_runs, _table1, repeated=True)
TABLE3 = Experiment(
    "every method on another model, before any attack", _before_attacks, _table3, repeated=True
)
