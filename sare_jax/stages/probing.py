"""What weights know at openings of the base model's captions, and how far they have moved.

CHAIR_S saturates at 100 %, and a caption shows one word of all that could have stood there. So, besides the
answers, the log-odds of every object at every opening are measured, under all weights on the same captions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sare_jax import files
from sare_jax.attacks import AS_CONFIGURED, Asking
from sare_jax.config import BASE_RUN, ORIGIN
from sare_jax.data.openings import Opening, Vocabulary, first_tokens, openings, token_places, vocabulary
from sare_jax.evaluation import separation
from sare_jax.language.halves import categories_named, category_of
from sare_jax.language.words import categories_in
from sare_jax.pipeline import Task
from sare_jax.records.coco import Truth
from sare_jax.stages import attacking
from sare_jax.stages.context import Context
from sare_jax.training.state import Params


def probed(
    context: Context,
    run: str,
    setting: str,
    weights: dict,
    params: Callable[[], Params],
    asking: Asking = AS_CONFIGURED,
) -> Iterator[Task]:
    """Makes `probes/<run>/<setting>.json` where the config asks for it; see `measuring.measured`."""
    settings = context.config.evaluate
    if not settings.probe_images:
        return
    captions = context.answers(BASE_RUN, ORIGIN)
    instruction = asking.prompt or settings.prompt
    yield Task(
        name=f"probes/{run}/{setting}",
        inputs=context.model_inputs()
        | weights
        | {
            "captions": context.digest(captions, "evaluate"),
            "annotations": context.annotations_hash,
            "images": [settings.probe_images, context.images_hash(context.eval_images)],
            "instruction": instruction,
            "rule": separation.RULE,
            "bootstrap": settings.bootstrap,
        },
        outputs=(context.probe(run, setting),),
        run=lambda: _probe(context, run, setting, params(), instruction),
    )


def _probe(context: Context, run: str, setting: str, params: Params, instruction: str) -> None:
    from sare_jax.training.displacement import displacement

    base = context.loaded.params
    found: dict[str, Any] = {
        "run": run,
        "setting": setting,
        "separation": separation_of(context, params, instruction, f"{run}/{setting} openings"),
        "displacement": {"from_base": displacement(params, base)},
    }
    if setting != ORIGIN:
        before = attacking.weights_of(context, run)[1]()
        found["displacement"]["by_attack"] = displacement(params, before)
    files.write_json(context.probe(run, setting), found)


def separation_of(context: Context, params: Params, instruction: str, label: str) -> dict[str, Any]:
    """Log-odds of present and absent objects under some weights, as `separation.score` gives them."""
    from sare_jax.training.choices import Caption, name_log_probs

    settings, prompter = context.config.evaluate, context.image_prompter
    records = files.read_jsonl(context.answers(BASE_RUN, ORIGIN) / "captions.jsonl")[: settings.probe_images]
    texts = [record["text"] for record in records]
    table = context.truth.table
    words = vocabulary(texts, {mention.word for text in texts for mention in categories_in(text, table)})
    found = [openings(text, words) for text in texts]
    captions = []
    for record, text, there in zip(records, texts, found, strict=True):
        tokens, places = token_places(there, text, prompter, record["image"], instruction)
        captions.append(Caption(record["image"], tokens, places))
    names = first_tokens(words, prompter, records[0]["image"], instruction) if words.names else []
    log_probs = name_log_probs(
        context.loaded,
        params,
        captions,
        names,
        features=context.features,
        pad_id=prompter.pad_id,
        mesh=context.mesh,
        batch_size=context.rows_of("evaluate.batch_size"),
        label=label,
    )
    ids = [int(record["image_id"]) for record in records]
    choices = choices_of(ids, texts, found, words, names, context.truth)
    values = separation.log_odds(log_probs[choices.opening, choices.object])
    return separation.score(
        ids,
        separation.Choices(choices.image, values, choices.present, choices.named),
        draws=settings.bootstrap,
    )


class Chosen(NamedTuple):
    """K objects that could be named at openings: places of image, opening and object, and what is true."""

    image: np.ndarray
    opening: np.ndarray
    object: np.ndarray
    present: np.ndarray
    named: np.ndarray


def choices_of(
    image_ids: Sequence[int],
    texts: Sequence[str],
    found: Sequence[Sequence[Opening]],
    words: Vocabulary,
    names: Sequence[int],
    truth: Truth,
) -> Chosen:
    """The choices whose truth is known.

    Left out are objects of no category or of one that was named before, and names that begin with the same
    token as another choice of which the opposite is true; of names with the same token one counts.

    Args:
      image_ids: COCO image id of each caption.
      texts: the captions.
      found: openings of each.
      words: the vocabulary.
      names: first token of each of its names.
      truth: what is in the images.
    """
    categories = [category_of(name, truth.table) for name in words.names]
    rows: list[tuple[int, int, int, bool, bool]] = []
    number = 0
    for place, (image, text, there) in enumerate(zip(image_ids, texts, found, strict=True)):
        present = truth.categories(image)
        for opening in there:
            before = categories_named([text[: opening.start]], truth.table)
            by_token: dict[int, list[int]] = {}
            for choice in sorted(opening.choices, key=lambda choice: choice != opening.object):
                if categories[choice] is not None and categories[choice] not in before:
                    by_token.setdefault(names[choice], []).append(choice)
            for alike in by_token.values():
                if len({categories[choice] in present for choice in alike}) == 1:
                    first = alike[0]
                    rows.append((place, number, first, categories[first] in present, first == opening.object))
            number += 1
    columns = np.array(rows, int).reshape(-1, 5).T
    return Chosen(*columns[:3], *(column.astype(bool) for column in columns[3:]))
