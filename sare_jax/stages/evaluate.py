"""Stage 4: what a model says about held-out images, and what that measures."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sare_jax import files
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.errors import UserError
from sare_jax.evaluation.evaluate import measure
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.evaluation.judging.options import default_cache
from sare_jax.evaluation.judging.parse import read_score
from sare_jax.evaluation.metrics import pope
from sare_jax.llm.client import PRESETS, Endpoint, read_key
from sare_jax.pipeline import Task
from sare_jax.records.splits import Image
from sare_jax.settings import EvaluateConfig
from sare_jax.stages import benchmarks
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import load_params, steps_in
from sare_jax.training.state import Params

POPE_ANSWER_TOKENS = 8


def tasks(context: Context) -> Iterator[Task]:
    """Asks POPE's questions, the describing prompt and the benchmarks of the base model and of each run."""
    _judge(context.config.evaluate)  # a missing key is said before the models are asked, not after
    yield questions(context)
    yield from measured(context, BASE_RUN, ORIGIN, {"base": True}, lambda: context.loaded.params)
    for run in context.config.runs:
        yield from measured(context, run, ORIGIN, *tuned(context, run))


def tuned(context: Context, name: str) -> tuple[dict, Callable[[], Params]]:
    """The weights of a run: what they depend on, and how to get them."""
    folder = context.checkpoints(name)
    weights = {"params": context.digest(folder, "unlearn"), "step": steps_in(folder)[-1]}
    return weights, lambda: load_params(folder, context.loaded)


def questions(context: Context) -> Task:
    """POPE's three lists for the evaluation images (protocols 5)."""
    settings = context.config.evaluate
    folder = context.workdir / "pope" / settings.split
    images = [image.id for image in context.eval_images]
    return Task(
        name=f"evaluate/questions_{settings.split}",
        inputs={"annotations": annotations_hash(context), "images": images, "count": settings.pope_images},
        outputs=(folder,),
        run=lambda: _build_questions(context, images, folder),
    )


def measured(
    context: Context,
    run: str,
    setting: str,
    weights: dict,
    params: Callable[[], Params],
    prompt: str | None = None,
) -> Iterator[Task]:
    """Answers under one setting, and their metrics.

    Args:
      context: of the invocation.
      run: name of the model's row.
      setting: name of the condition.
      weights: what the weights depend on.
      params: gives the trainable weights; called only when there is something to ask.
      prompt: describing prompt in place of the configured one; it also stands before each POPE question.
    """
    settings = context.config.evaluate
    describing = prompt or settings.prompt
    asking = f"{prompt} {settings.pope_prompt}" if prompt else settings.pope_prompt
    pope_folder = context.workdir / "pope" / settings.split
    said = context.answers(run, setting)
    yield Task(
        name=f"answers/{run}/{setting}",
        inputs=context.model_inputs()
        | weights
        | {
            "images": files.hash_value([[image.id, image.file] for image in context.eval_images]),
            "questions": context.digest(pope_folder, "evaluate"),
            "prompts": [describing, asking],
            "max_new_tokens": settings.max_new_tokens,
            "decoding": dataclasses.asdict(context.config.decoding),
        },
        outputs=(said,),
        scratch=(_partial(said),),
        run=lambda: _ask_all(context, params(), describing, asking, said, f"{run}/{setting}"),
    )
    yield from benchmarks.asked(context, run, setting, weights, params, prompt)
    replies = benchmarks.answers(context, run, setting)
    yield Task(
        name=f"metrics/{run}/{setting}",
        inputs={
            "answers": files.digest(said),
            "benchmarks": {name: files.digest(path) for name, path in replies.items()},
            "annotations": annotations_hash(context),
            "lm": _lm_hash(settings.lm),
            "judge": [settings.judge, settings.judge_model],
            "bootstrap": settings.bootstrap,
        },
        outputs=(context.metrics(run, setting),),
        run=lambda: _measure(context, run, setting, weights),
    )


def annotations_hash(context: Context) -> str:
    """Hash of all COCO files of the annotation folder."""
    return files.digest(context.annotations)


def describe(
    context: Context, params: Params, images: Sequence[Image], prompt: str, out: Path, name: str
) -> list[dict]:
    """Asks one describing prompt of each image; answers go to `out` as JSON lines."""
    settings = context.config.evaluate
    requests = [
        {"id": image.id, "image_id": image.id, "image": image.file, "instruction": prompt} for image in images
    ]
    return context.ask(
        params,
        requests,
        out,
        name=name,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        decoding=context.config.decoding,
    )


def _ask_all(context: Context, params: Params, describing: str, asking: str, said: Path, name: str) -> None:
    """All answers under one setting; the folder appears when it is whole, its parts are kept meanwhile."""
    settings = context.config.evaluate
    partial = _partial(said)
    partial.mkdir(parents=True, exist_ok=True)
    describe(context, params, context.eval_images, describing, partial / "captions.jsonl", f"{name} captions")
    for kind in _kinds(context):
        questions = files.read_jsonl(context.workdir / "pope" / settings.split / f"{kind}.jsonl")
        requests = pope.requests(questions, lambda question: asking.replace("{}", question))
        context.ask(
            params,
            requests,
            partial / f"pope_{kind}.jsonl",
            name=f"{name} POPE {kind}",
            max_new_tokens=POPE_ANSWER_TOKENS,
            batch_size=settings.pope_batch_size,
        )
    files.remove(said)
    partial.rename(said)


def _measure(context: Context, run: str, setting: str, weights: dict) -> None:
    settings = context.config.evaluate
    said = context.answers(run, setting)
    result = measure(
        files.read_jsonl(said / "captions.jsonl"),
        {kind: files.read_jsonl(said / f"pope_{kind}.jsonl") for kind in _kinds(context)},
        context.truth,
        lm_path=settings.lm or None,
        benchmarks={
            name: (benchmarks.BENCHMARKS[name], files.read_jsonl(path))
            for name, path in benchmarks.answers(context, run, setting).items()
        },
        judge=_judge(settings),
        settings={"max_new_tokens": settings.max_new_tokens},
        draws=settings.bootstrap,
    )
    result["provenance"] = {
        "run": run,
        "setting": setting,
        "split": settings.split,
        "config": files.hash_value(files.read_json(context.workdir / "config.json")),
        **context.model_inputs(),
        **weights,
    }
    files.write_json(context.metrics(run, setting), result)


def _judge(settings: EvaluateConfig) -> Judge | None:
    """Who rates informativeness: a preset with its key from the environment, or an address without one."""
    if not settings.judge:
        return None
    preset = PRESETS.get(settings.judge)
    address = preset.base_url if preset else settings.judge
    model = settings.judge_model or (preset.model if preset else "")
    if not model:
        raise UserError(f"config.evaluate.judge_model: empty; name the model that {address} is to use")
    key = read_key(preset.key_variable, address) if preset else ""
    return Judge(Endpoint(address, model, key), default_cache(), read_score)


def _build_questions(context: Context, images: list[int], folder: Path) -> None:
    with files.replacing(folder) as draft:
        draft.mkdir()
        for kind in _kinds(context):
            questions = pope.build(
                context.truth, kind, num_images=context.config.evaluate.pope_images, seed=0, image_ids=images
            )
            files.write_jsonl(draft / f"{kind}.jsonl", questions)


def _kinds(context: Context) -> tuple[str, ...]:
    """POPE's lists, or none where the config asks for no POPE images."""
    return pope.KINDS if context.config.evaluate.pope_images else ()


def _partial(said: Path) -> Path:
    return said.with_name(f".{said.name}.partial")


def _lm_hash(name: str) -> str:
    folder = Path(name)
    return files.digest(folder) if folder.is_dir() else name
