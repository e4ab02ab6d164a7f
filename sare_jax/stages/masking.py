"""The control against masking, a part of stage 5: how fast each model learns something harmless."""

import dataclasses
from collections.abc import Callable, Iterator

from sare_jax import files
from sare_jax.attacks.masking import LEAST_GAIN, learning_speed
from sare_jax.config import BASE_RUN
from sare_jax.pipeline import Task
from sare_jax.stages import attacking
from sare_jax.stages.context import Context
from sare_jax.training.state import Params


def tasks(context: Context) -> Iterator[Task]:
    """Makes `masking/<run>.json` of the base model and each run."""
    settings = context.config.masking
    if not settings.steps:
        return
    for run in (BASE_RUN, *context.config.runs):
        inputs, params = attacking.weights_of(context, run)
        yield Task(
            name=f"masking/{run}",
            inputs=context.model_inputs()
            | inputs
            | {
                "curated": context.digest(context.curated, "curate"),
                "settings": dataclasses.asdict(settings),
                "instruction": attacking.instruction_of(context, run),
            },
            outputs=(context.masking(run),),
            run=_measuring(context, run, params),
        )


def _measuring(context: Context, run: str, params: Callable[[], Params]) -> Callable[[], None]:
    def measure() -> None:
        tools = attacking.tools_of(context, run, f"{run} learns something harmless")
        found = learning_speed(tools, params(), context.config.masking)
        files.write_json(context.masking(run), {"run": run, **found})
        if run == BASE_RUN and found["gained"] < LEAST_GAIN:
            print(
                f"masking: the base model gained {found['gained']:.2f} nats a token, and {LEAST_GAIN:g} are "
                "needed to compare speeds; raise config.masking.steps or config.masking.adamw.learning_rate",
                flush=True,
            )

    return measure
