"""Which extra of the package brings what a module imports, and what is said where it is not installed."""

import traceback
from pathlib import Path

PACKAGE = Path(__file__).parent
EXTRAS = {
    "api.model": "models",
    "api.texts": "evaluation",
    "curation": "curation",
    "curation.engine_ray": "ray",
    "curation.histogram": "report",
    "demo": "all",
    "evaluation": "evaluation",
    "evaluation.benchmarks.amber_objects": "curation",
    "evaluation.benchmarks.objhal_objects": "curation",
    "evaluation.metrics.language_model": "models",
    "frontier": "report",
    "language": "evaluation",
    "language.english": "curation",
    "llm": "evaluation",
    "report": "report",
    "online": "models",
    "probe": "all",
    "reproduce": "all",
    "run": "all",
    "settings.flags": "models",
    "sinks.tensorboard": "tensorboard",
    "sinks.wandb": "wandb",
    "stages": "all",
    **dict.fromkeys(("configs", "data", "export", "hosts", "inference", "models", "plan"), "models"),
    **dict.fromkeys(("progress", "training"), "models"),
}
"""Module or package, without `sare_jax.` → the extra that it needs; the longest name counts. What has no line
here runs with the package alone, without extras."""


def extra_of(module: str) -> str | None:
    """The extra that a module needs; None for one that needs none.

    Args:
      module: its name without `sare_jax.`, such as `evaluation.metrics.bleu`.
    """
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((EXTRAS[name] for name in names if name in EXTRAS), None)


def lacking(error: ImportError) -> str | None:
    """What to install where an import failed: `needs nltk: pip install 'sare_jax[evaluation]'`.

    The modules on the way count too: the report reads images, and with the extra of images alone its next
    import would fail.

    Returns:
      The line's end; None where no extra of this package would help.
    """
    places = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    inside = [path.relative_to(PACKAGE) for path in places if path.is_relative_to(PACKAGE)]
    name = (error.name or "").split(".")[0]
    needs = [extra_of(".".join(path.with_suffix("").parts)) for path in inside]
    if name in ("", PACKAGE.name) or not needs or needs[-1] is None:
        return None
    extras = ["all"] if "all" in needs else sorted({extra for extra in needs if extra})
    return f"needs {name}: pip install '{PACKAGE.name}[{','.join(extras)}]'"
