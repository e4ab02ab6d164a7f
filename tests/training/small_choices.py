"""A few captions with openings in the tiny vocabulary, and the settings of a run on their choices."""

import functools

import numpy as np

from sare_jax.objectives.grounded_choice import grounded_choice
from sare_jax.optim import AdamW
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.samples import ChoiceSamples
from sare_jax.training.asking import answer_odds
from sare_jax.training.samples import samples_of
from sare_jax.training.sharding import make_mesh
from sare_jax.training.starting import with_starting_values
from sare_jax.training.unlearn import unlearn
from tests import tiny_training as tiny

ONE = make_mesh(1)
LOADED = tiny.tiny_llava(3)  # of these seeds one that says Yes to some objects and No to others
CAPTIONS = (
    "a cat on a mat, a dog near it.",
    "a boat by a lake, a bird over it, a fox.",
    "two cups, a fork, a warm lamp on a rug.",
    "a dog in a bus, a hat, a cat.",
)
PHRASES = (
    "cat",
    "mat",
    "dog",
    "boat",
    "lake",
    "bird",
    "fox",
    "fork",
    "lamp",
    "warm lamp",
    "rug",
    "bus",
    "hat",
)
SETTINGS = OptimConfig(
    objective="grounded_choice",
    samples=ChoiceSamples(certain=0.1, answers=1.0),
    packing="packed",
    adamw=AdamW(learning_rate=1e-2, weight_decay=0.0),
    rho=0.0,
    neg_weight=0.25,
    pos_weight=0.4,
    sent_weight=1.0,
    steps=6,
    batch_size=8,
    checkpoint_every=2,
    instruction="say it",
)


class AnyText:
    """`Letters` for any text: in lower case, and a blank for each sign that has no token."""

    pad_id = tiny.PAD
    end_ids = (tiny.EOS,)
    longest_target = None

    def answer(self, image, instruction, text, spans, eos):
        """See `Letters`."""
        return tiny.Letters().answer(image, known(instruction), known(text), spans, eos)


def curated() -> Curated:
    """The captions; `PHRASES` are what the extractor found in them."""
    count = len(PHRASES)
    zeros, ones = np.zeros(count, np.int32), np.ones(count, np.int32)
    found = Units(zeros, zeros, ones, np.array(PHRASES), zeros, ones, ones.astype(np.float32))
    rows = Rows(
        np.array([f"{index}.png" for index in range(len(CAPTIONS))]),
        np.arange(len(CAPTIONS), dtype=np.int64),
        np.array(CAPTIONS),
    )
    none = np.zeros(0, np.float32)
    return Curated(rows, found, found, Sentences(none.astype(np.int32), none, none), {"rule": "test"})


def measuring(loaded, folder, features=tiny.features, batch_size=8):
    """Asks the starting weights, as `unlearn` does it."""
    return functools.partial(
        with_starting_values,
        loaded=loaded,
        features=features,
        mesh=ONE,
        batch_size=batch_size,
        folder=folder,
        made_from={},
    )


def asking(loaded, folder, features=tiny.features, batch_size=2):
    """Asks the starting weights about objects, as `unlearn` does it."""
    return functools.partial(
        answer_odds,
        loaded=loaded,
        features=features,
        mesh=ONE,
        batch_size=batch_size,
        pad_id=tiny.PAD,
        folder=folder,
        made_from={},
    )


def measured(loaded, folder, settings=SETTINGS):
    """Samples of a run, with all that its objective needs."""
    measure = measuring(loaded, folder)
    samples = samples_of(curated(), AnyText(), settings, asking(loaded, folder))
    objective = grounded_choice(**settings.objective_args)
    return samples, measure(samples.sets, (*objective.needs, *samples.needs)), objective


def train(loaded, folder, settings=SETTINGS, features=tiny.features):
    """The whole of `unlearn` on the captions."""
    return unlearn(
        loaded,
        curated(),
        AnyText(),
        features,
        settings,
        folder=folder / "checkpoints",
        log=folder / "log.jsonl",
        starting=folder / "starting",
        name="tiny",
        mesh=ONE,
    )


def known(text: str) -> str:
    return "".join(letter if letter in tiny.LETTERS else " " for letter in text.lower())
