"""What a run is trained on: token rows of the curated sets, or of captions and the choices that they had."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sare_jax.data.batches import Tokenizer, TokenSets, Unit, tokenize
from sare_jax.data.choices import (
    Choices,
    answer_tokens,
    asked_objects,
    choice_sets,
    choices,
    held_answers,
    question_units,
    with_answers,
)
from sare_jax.data.openings import article_tokens
from sare_jax.data.preferred import with_preferred
from sare_jax.objectives.choosing import Articles
from sare_jax.objectives.needs import NO_LEXICON, Lexicon, Need, PreferredContinuations, has
from sare_jax.records.curated import Curated
from sare_jax.settings.optim import OptimConfig, objective_of
from sare_jax.settings.samples import ChoiceSamples, CuratedSamples
from sare_jax.training.preset import with_score_weights

# Questions, and the first tokens of Yes and No → float32[n], log-odds of Yes under the starting weights.
Ask = Callable[[Sequence[Unit], int, int], np.ndarray]


@dataclass(frozen=True)
class Samples:
    """Samples of a run.

    Attributes:
      sets: token rows.
      lexicon: tokens of names and articles, where there are choices.
      needs: what the samples need of the starting weights, beside the objective's needs.
    """

    sets: TokenSets
    lexicon: Lexicon = NO_LEXICON
    needs: tuple[Need, ...] = ()


def samples_of(curated: Curated, tokenizer: Tokenizer, settings: OptimConfig, ask: Ask) -> Samples:
    """The samples that a run's settings name.

    Args:
      curated: captions and sets.
      tokenizer: the model's `ImagePrompter`.
      settings: the run's `optim` section.
      ask: asks the starting weights, resumably: `asking.answer_odds`.

    Raises:
      UserError: there is nothing to train on.
    """
    return _KINDS[type(settings.samples)](curated, tokenizer, settings, ask)


def curated_samples(curated: Curated, tokenizer: Tokenizer, settings: OptimConfig, ask: Ask) -> Samples:
    """D_neg, D_pos and D_sent; see `samples_of`."""
    sets = tokenize(curated, tokenizer, settings.instruction)
    if settings.preset == "efuf":
        sets = with_score_weights(sets, curated)
    if has(objective_of(settings).needs, PreferredContinuations):
        neg = with_preferred(sets.neg, curated, tokenizer, settings.instruction)
        sets = dataclasses.replace(sets, neg=neg)
    return Samples(sets)


def choice_samples(curated: Curated, tokenizer: Tokenizer, settings: OptimConfig, ask: Ask) -> Samples:
    """Captions with their choices by the base model's evidence, and answers to be held; see `samples_of`."""
    wanted = settings.samples
    assert isinstance(wanted, ChoiceSamples)
    known = choices(curated, tokenizer, settings.instruction, most=wanted.vocabulary)
    odds = evidence(known, tokenizer, wanted, ask)
    sets = choice_sets(known, tokenizer, odds, wanted.certain)
    if wanted.answers_weight:
        held = held_answers(odds, max(1, round(wanted.answers * len(sets.sent))), settings.seed)
        answers = ["Yes" if odds[row, number] > 0 else "No" for row, number in held]
        asked = question_units(known, tokenizer, held, answers, wanted.prompt)
        sets = with_answers(sets, asked, wanted.answers_weight)
    articles = article_tokens(tokenizer, str(curated.rows.image[0]), settings.instruction)
    return Samples(sets, Lexicon(known.tokens, articles), (Articles(articles),))


def evidence(known: Choices, tokenizer: Tokenizer, wanted: ChoiceSamples, ask: Ask) -> np.ndarray:
    """The base model's log-odds of Yes against No to POPE's questions about objects.

    Args:
      known: captions and objects.
      tokenizer: the model's `ImagePrompter`.
      wanted: which questions are asked, and how they are put.
      ask: as in `samples_of`.

    Returns:
      float32[R, C], of each caption's image and each object; NaN where nobody asked.
    """
    pairs = np.argwhere(asked_objects(known, wanted.questions))
    units = question_units(known, tokenizer, pairs, ["Yes"] * len(pairs), wanted.prompt)
    odds = np.full((len(known.rows), len(known.words)), np.nan, np.float32)
    odds[tuple(pairs.T)] = ask(units, *answer_tokens(known, tokenizer, wanted.prompt))
    return odds


_KINDS: Mapping[type, Callable[..., Samples]] = {
    CuratedSamples: curated_samples,
    ChoiceSamples: choice_samples,
}
