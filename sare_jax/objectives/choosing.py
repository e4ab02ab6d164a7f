"""What an objective may need where captions had a choice: see `sare_jax.objectives.needs`."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.objectives.needs import Arrays, AtHand, Outputs

_NONE = -1e30


class Choice(NamedTuple):
    """How likely rows are to name some objects where a name starts.

    Attributes:
      odds: float32[B, 1, W], log-odds of naming any of them against naming no object at all.
      there: bool[B, 1, W], whether a name starts here and there are such objects; elsewhere `odds` says
        nothing.
    """

    odds: jax.Array
    there: jax.Array


@dataclass(frozen=True)
class OpeningChoices:
    """`choice`: the `Choice` among some objects at each opening of a unit.

    With p(a) the probability of the article that stands there, p(S) that of the first tokens of the objects S
    where the name starts, V all objects and p(no article) that of what begins no noun phrase of the kind, the
    log-odds are log p(a) p(S) − log(p(no article) + p(a) (1 − p(V))). What stands between article and name is
    given, and so is the other article, behind which other names fit, no part of the sum. The rows come with
    arrays a token (`sare_jax.data.choices`): `NAME` bool[B, W, K], which of the lexicon's K names are such
    objects; and `words` int32[B, W], how many tokens of the phrase stand before the name.

    Attributes:
      name: key of the by-token array that marks the objects.
      sets: whose losses get it.
    """

    name: str
    sets: tuple[str, ...]
    keyword: ClassVar[str] = "choice"

    def value(self, at_hand: AtHand) -> Choice:
        """See `Need`."""
        chosen, words = at_hand.by_token[self.name], at_hand.by_token["words"]
        logits, lexicon = at_hand.logits.astype(jnp.float32), at_hand.lexicon
        total = jax.nn.logsumexp(logits, axis=-1)
        # Not −∞, which has no gradient where a token has no such objects at all.
        names = jnp.where(chosen, logits[..., np.array(lexicon.names)], _NONE)
        named = jax.nn.logsumexp(names, axis=-1) - total
        unnamed = _without(logits, lexicon.names) - total
        place = jnp.arange(words.shape[-1])
        first = place == place[:, None] - words[..., None]
        article = jnp.sum(jnp.where(first, at_hand.log_probs, 0), axis=-1)
        no_article = _without(logits, lexicon.articles) - total
        no_article = jnp.sum(jnp.where(first, no_article[:, None], 0), axis=-1)
        odds = article + named - jnp.logaddexp(no_article, article + unnamed)
        return Choice(odds[:, None], jnp.any(chosen, axis=-1)[:, None])


@dataclass(frozen=True)
class KeptTokens:
    """`kept`: bool[B, 1, W], the tokens whose distribution is to stay as it is.

    Those in no opening, at which the starting weights begin none either: where an article is likely, a
    caption that goes on otherwise could have named something, and whether it does is to be learnt. The rows
    come with `kept` bool[B, W] (`sare_jax.data.choices`) and with the array of `Articles`.

    Attributes:
      most: probability of an article up to which a token is kept.
    """

    most: float = 0.05
    keyword: ClassVar[str] = "kept"
    sets: ClassVar[tuple[str, ...]] = ("sent",)

    def value(self, at_hand: AtHand) -> jax.Array:
        """See `Need`."""
        return (at_hand.by_token["kept"] & (at_hand.by_token["article"] <= self.most))[:, None]


@dataclass(frozen=True)
class Articles:
    """How likely an article is at each target token under the starting weights, kept as `article`.

    Attributes:
      tokens: those that begin one.
    """

    tokens: tuple[int, ...]
    keyword: ClassVar[str] = ""
    sets: ClassVar[tuple[str, ...]] = ("sent",)
    measured_on: ClassVar[Literal["units"]] = "units"

    def value(self, at_hand: AtHand) -> None:
        """See `Need`."""
        return None

    def by_unit(self, log_probs: jax.Array, mask: jax.Array) -> Arrays:
        """See `StartingNeed`."""
        return {}

    def by_token(self, outputs: Outputs) -> Arrays:
        """See `StartingNeed`."""
        probs = jax.nn.softmax(outputs.logits.astype(jnp.float32), axis=-1)
        return {"article": jnp.sum(probs[..., np.array(self.tokens)], axis=-1)}


def _without(logits: jax.Array, tokens: tuple[int, ...]) -> jax.Array:
    """float32[...], logsumexp of the logits float32[..., V] of all tokens but these."""
    left_out = np.zeros(logits.shape[-1], bool)
    left_out[list(tokens)] = True
    return jax.nn.logsumexp(jnp.where(left_out, _NONE, logits), axis=-1)
