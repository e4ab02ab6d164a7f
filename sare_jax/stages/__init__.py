"""The stages of the road, one file each: what each reads, makes and depends on."""

from pathlib import Path

from sare_jax import files, pipeline
from sare_jax.config import to_dict
from sare_jax.settings import Config
from sare_jax.stages import attack, caption, curate, evaluate, export, prepare, report, unlearn
from sare_jax.stages.context import Context

MODULES = {
    "prepare": prepare,
    "caption": caption,
    "curate": curate,
    "unlearn": unlearn,
    "evaluate": evaluate,
    "attack": attack,
    "export": export,
    "report": report,
}


def run(config: Config, workdir: Path) -> pipeline.Ledger:
    """Runs the stages that the config names.

    Args:
      config: the settings; written into the workdir as `config.json`.
      workdir: folder of all artifacts.

    Returns:
      The ledger, which knows what was done and what was up to date already.
    """
    context = Context(config, workdir)
    context.source  # noqa: B018  a missing model or vision tower is said before any work is done
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / "config.json", to_dict(config))
    print(f"workdir {workdir}; settings in {workdir / 'config.json'}", flush=True)
    stages = {name: (lambda module=module: module.tasks(context)) for name, module in MODULES.items()}
    pipeline.run(stages, config.stages, context.ledger)
    return context.ledger
