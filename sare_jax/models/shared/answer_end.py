"""How answers end. Without jax, as prompters are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AnswerEnd:
    """How answers end in a family's training, and so where its generation has to stop.

    Attributes:
      ids: the tokens that follow a whole answer.
      stop: strings that end an answer in generation, beside the end tokens of the model's files.
      longest: tokens that a target may have, `ids` included; what is beyond them is cut off. None sets no
        limit.
    """

    ids: tuple[int, ...]
    stop: tuple[str, ...] = ()
    longest: int | None = None
