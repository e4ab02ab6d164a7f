"""What an objective may need beside the log-probabilities of its own tokens.

A need is a value in `Objective.needs`. It says which sets' losses get it, under which keyword, and makes that
keyword's value from what training has at hand. What comes from the starting weights (`StartingNeed`) is
measured once before training and kept with the units, in arrays a unit or a target token each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from sare_jax.objectives.likelihood import log_likelihood

ALL_SETS = ("neg", "pos", "sent")
Arrays = dict[str, jax.Array]


class Lexicon(NamedTuple):
    """Tokens that openings are read off by.

    Attributes:
      names: first tokens of the names of objects, rising.
      articles: first tokens of indefinite articles, rising.
    """

    names: tuple[int, ...]
    articles: tuple[int, ...]


NO_LEXICON = Lexicon((), ())


class Outputs(NamedTuple):
    """What the starting weights make of rows of one unit each.

    Attributes:
      logits: float32[B, W, V], those that predict each target token.
      activations: float32[B, W, D], as in `AtHand`; None where no need asks for them.
    """

    logits: jax.Array
    activations: jax.Array | None


class AtHand(NamedTuple):
    """What training has at hand when it computes the losses of one set in a batch of rows.

    Attributes:
      logits: float32[B, W, V], those that predict each target token of the rows, under the present weights.
      log_probs: float32[B, 1, W], of the target tokens themselves.
      by_unit: name → float32[B, U], a number for each unit, measured before training.
      by_token: name → [B, W, …], an array for each target token, measured before training.
      padded_length: tokens of the longest row of all sets.
      lexicon: token ids of names and articles, empty where the samples have no openings.
      preferred: log-probabilities float32[B, 1, W'] and mask bool[B, 1, W'] of the preferred continuation of
        each row's unit; None where there are none.
      activations: float32[B, W, D], output of one of the language model's layers at the positions that
        predict each target token, under the present weights; None where no need asks for them.
    """

    logits: jax.Array
    log_probs: jax.Array
    by_unit: Mapping[str, jax.Array]
    by_token: Mapping[str, jax.Array]
    padded_length: int
    lexicon: Lexicon
    preferred: tuple[jax.Array, jax.Array] | None
    activations: jax.Array | None


class Need(Protocol):
    """A need: a frozen dataclass with these."""

    @property
    def keyword(self) -> str:
        """Name of the losses' argument."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets whose losses get it."""

    def value(self, at_hand: AtHand) -> object:
        """The argument's value."""


@runtime_checkable
class StartingNeed(Protocol):
    """A need that is measured under the starting weights, once before training.

    It is measured on the units' own rows, or on those of their preferred continuations.
    """

    @property
    def keyword(self) -> str:
        """Name of the losses' argument."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets whose losses get it."""

    @property
    def measured_on(self) -> Literal["units", "preferred"]:
        """The rows that it is measured on."""

    def value(self, at_hand: AtHand) -> object:
        """The argument's value."""

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """Arrays [B] to be kept, from float32[B, W] and bool[B, W] of rows of one unit."""

    def by_token(self, outputs: Outputs) -> Arrays:
        """Arrays [B, W, …] to be kept."""


@dataclass(frozen=True)
class PaddedLength:
    """`length`: int, tokens of the longest row of all sets, packed or not."""

    keyword: ClassVar[str] = "length"
    sets: tuple[str, ...] = ALL_SETS

    def value(self, at_hand: AtHand) -> int:
        """See `Need`."""
        return at_hand.padded_length


@dataclass(frozen=True)
class UnitLikelihoods:
    """`reference`: float32[..., U], log-likelihood of each unit under the starting weights."""

    keyword: ClassVar[str] = "reference"
    measured_on: ClassVar[Literal["units"]] = "units"
    sets: tuple[str, ...] = ("neg",)

    def value(self, at_hand: AtHand) -> jax.Array:
        """See `Need`."""
        return at_hand.by_unit["reference"]

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """See `StartingNeed`."""
        return {"reference": log_likelihood(log_probs, mask)}

    def by_token(self, outputs: Outputs) -> Arrays:
        """See `StartingNeed`."""
        return {}


@dataclass(frozen=True)
class TokenDistributions:
    """`distributions`: the next token's distribution under the starting and under the present weights.

    A pair (reference, current) of float32[..., W, K + 1] log-probabilities, of the K tokens that are
    likeliest under the starting weights, and, last, of all others together. With K = vocabulary − 1, the
    largest K that has an effect, a KL divergence of the two is exact (`token_kl`). The pair takes
    4 (2 K + 1) bytes of disk and memory for each target token.

    Attributes:
      top: K ≥ 1, tokens whose probabilities are kept one by one.
      sets: the sets whose losses get the keyword.
    """

    top: int = 64
    sets: tuple[str, ...] = ("pos", "sent")
    keyword: ClassVar[str] = "distributions"
    measured_on: ClassVar[Literal["units"]] = "units"

    def value(self, at_hand: AtHand) -> tuple[jax.Array, jax.Array]:
        """See `Need`."""
        current = _coarse(at_hand.logits, at_hand.by_token["top_tokens"])
        return at_hand.by_token["top_log_probs"][:, None], current[:, None]

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """See `StartingNeed`."""
        return {}

    def by_token(self, outputs: Outputs) -> Arrays:
        """See `StartingNeed`."""
        logits = outputs.logits
        _, tokens = jax.lax.top_k(logits, min(self.top, logits.shape[-1] - 1))
        tokens = tokens.astype(jnp.int32)
        return {"top_tokens": tokens, "top_log_probs": _coarse(logits, tokens)}


@dataclass(frozen=True)
class PreferredContinuations:
    """`preferred`: log-probabilities and mask of a better continuation of each negative's context.

    A pair of float32[..., W'] and bool[..., W'], of what follows in the caption where the hallucinated piece
    is left out (`sare_jax.data.preferred`). For rows of one unit alone.
    """

    keyword: ClassVar[str] = "preferred"
    sets: ClassVar[tuple[str, ...]] = ("neg",)

    def value(self, at_hand: AtHand) -> tuple[jax.Array, jax.Array]:
        """See `Need`."""
        if at_hand.preferred is None:
            raise ValueError(
                "PreferredContinuations: the batch has none; they come with rows of one unit alone"
            )
        return at_hand.preferred


@dataclass(frozen=True)
class PreferredLikelihoods:
    """`preferred_reference`: float32[..., U], log-likelihood of the preferred under the starting weights.

    It goes with `PreferredContinuations`.
    """

    keyword: ClassVar[str] = "preferred_reference"
    sets: ClassVar[tuple[str, ...]] = ("neg",)
    measured_on: ClassVar[Literal["preferred"]] = "preferred"

    def value(self, at_hand: AtHand) -> jax.Array:
        """See `Need`."""
        return at_hand.by_unit["preferred_reference"]

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """See `StartingNeed`."""
        return {"preferred_reference": log_likelihood(log_probs, mask)}

    def by_token(self, outputs: Outputs) -> Arrays:
        """See `StartingNeed`."""
        return {}


@dataclass(frozen=True)
class OtherNegatives:
    """A second batch of negatives in every step, drawn independently, on which ε* is found.

    So the perturbation stands for an attack with samples of its own. The gradient at θ + ε* is that of the
    first batch. No loss gets a keyword.
    """

    keyword: ClassVar[str] = ""
    sets: ClassVar[tuple[str, ...]] = ()

    def value(self, at_hand: AtHand) -> None:
        """See `Need`."""
        return None


@dataclass(frozen=True)
class Activations:
    """`activations`: float32[..., W, D], output of a layer where each target token is predicted.

    Attributes:
      layer: the language model's layer, counted from 1; the same in all needs of an objective.
      sets: the sets whose losses get the keyword.
    """

    layer: int
    sets: tuple[str, ...] = ALL_SETS
    keyword: ClassVar[str] = "activations"

    def value(self, at_hand: AtHand) -> jax.Array:
        """See `Need`."""
        return _required(at_hand.activations)[:, None]


@dataclass(frozen=True)
class StartingActivations:
    """`starting_activations`: the same under the starting weights.

    They take 4 D bytes of disk and memory for each target token, 16 kB in a model of seven billion weights.

    Attributes:
      layer: as in `Activations`.
      sets: the sets whose losses get the keyword.
    """

    layer: int
    sets: tuple[str, ...] = ("pos", "sent")
    keyword: ClassVar[str] = "starting_activations"
    measured_on: ClassVar[Literal["units"]] = "units"

    def value(self, at_hand: AtHand) -> jax.Array:
        """See `Need`."""
        return at_hand.by_token["activations"][:, None]

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """See `StartingNeed`."""
        return {}

    def by_token(self, outputs: Outputs) -> Arrays:
        """See `StartingNeed`."""
        return {"activations": _required(outputs.activations)}


def layer_of(needs: tuple[Need, ...]) -> int | None:
    """The layer whose output the needs ask for; None where none does.

    Raises:
      ValueError: they ask for several.
    """
    layers = {need.layer for need in needs if isinstance(need, Activations | StartingActivations)}
    if len(layers) > 1:
        raise ValueError(f"an objective's needs ask for the outputs of one layer, not of {sorted(layers)}")
    return layers.pop() if layers else None


def _required(activations: jax.Array | None) -> jax.Array:
    if activations is None:
        raise ValueError("nothing computed the activations that a need asks for (`layer_of`)")
    return activations


def has(needs: tuple[Need, ...], kind: type) -> bool:
    """Whether one of the needs is of this kind."""
    return any(isinstance(need, kind) for need in needs)


def _coarse(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """float32[..., K + 1] log-probabilities of int32[..., K] tokens, and of all others together."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jnp.put_along_axis(jnp.zeros(log_probs.shape, bool), tokens, True, axis=-1, inplace=False)
    # Summed over the others themselves: 1 − Σ of the chosen would lose its digits.
    rest = jax.nn.logsumexp(log_probs, axis=-1, where=~chosen, keepdims=True)
    return jnp.concatenate([jnp.take_along_axis(log_probs, tokens, axis=-1), rest], axis=-1)
