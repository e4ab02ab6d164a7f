"""The session for people: captions of every run and setting, blind (`evaluation.human.session`)."""

from collections.abc import Iterator
from pathlib import Path

from sare_jax import files
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.evaluation.human.marks import HumanSettings
from sare_jax.evaluation.human.session import KEY, SESSION, draw
from sare_jax.evaluation.worst import worst_captions
from sare_jax.pipeline import Task
from sare_jax.stages import measuring
from sare_jax.stages.context import Context

Row = tuple[str, str]


def tasks(context: Context) -> Iterator[Task]:
    """Makes `human/session.jsonl`, and beside it the key that says whose captions these are.

    All runs and settings whose answers are there take part. None is made where the metric `human` is not
    asked for, or its `captions` are 0.
    """
    settings = _settings(context)
    answers = {
        (run, setting): context.answers(run, setting) / "captions.jsonl"
        for run in (BASE_RUN, *context.config.runs)
        for setting in (ORIGIN, *context.config.attacks)
    }
    answers = {row: path for row, path in answers.items() if path.is_file()}
    if settings is None or not settings.captions or not answers:
        return
    folder = context.workdir / "human"
    yield Task(
        name="human/session",
        inputs={
            "answers": {"/".join(row): files.hash_file(path) for row, path in answers.items()},
            "annotations": context.annotations_hash,
            "captions": settings.captions,
            "seed": settings.seed,
        },
        outputs=(folder / SESSION, folder / KEY),
        run=lambda: _write(context, folder, answers, settings),
    )


def _settings(context: Context) -> HumanSettings | None:
    """The settings of the metric `human`; None where it is not asked for."""
    chosen = measuring.metrics_in(context.config.evaluate)
    return next((options for _, options in chosen if isinstance(options, HumanSettings)), None)


def _write(context: Context, folder: Path, answers: dict[Row, Path], settings: HumanSettings) -> None:
    measured = {
        row: worst_captions(files.read_jsonl(path), context.truth)[0]  # those that the metrics are about
        for row, path in answers.items()
    }
    session, key = draw(measured, settings.captions, settings.seed)
    files.write_jsonl(folder / SESSION, session)
    files.write_jsonl(folder / KEY, key)
    print(
        f"human: {len(session)} captions of {len(answers)} rows for people to mark: python -m "
        f"sare_jax.evaluation human serve --session {folder / SESSION} --images {context.images} --out FILE",
        flush=True,
    )
