"""What an extractor is: captions in, for each the objects that it names, with the place of every mention."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mention:
    """One place where a caption names a thing.

    Attributes:
      text: the phrase in lower case without article, possessive and number: "hot dog", "red umbrella".
      start: character at which the phrase starts in the caption.
      end: character after its last one; `caption[start:end].lower() == text` up to white space.
      head: lemma of the head noun in lower case: "dog", "umbrella".
    """

    text: str
    start: int
    end: int
    head: str


@dataclass(frozen=True)
class Found:
    """What an extractor found in a caption.

    Attributes:
      mentions: the objects in order of place.
      left_out: reason → number of objects that it named and that cannot be used.
      failed: why it gave no answer at all; that is something else than an answer without objects.
    """

    mentions: tuple[Mention, ...] = ()
    left_out: Counter = field(default_factory=Counter)
    failed: str = ""


@dataclass(frozen=True)
class Extractor:
    """A way to find objects.

    Attributes:
      name: all that its findings depend on, for the manifest; kept findings of another name are not used.
      find: captions to findings, one each, in order.
    """

    name: str
    find: Callable[[Sequence[str]], Iterable[Found]]
