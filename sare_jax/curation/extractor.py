"""The interface of extractors, which find the objects that a caption names and where it mentions them."""

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
      mentions: in the order of the caption.
      left_out: reason → number of names that the extractor gave but that cannot be used.
      failed: why there is no result; an empty string if the extractor succeeded, with or without objects.
    """

    mentions: tuple[Mention, ...] = ()
    left_out: Counter = field(default_factory=Counter)
    failed: str = ""


@dataclass(frozen=True)
class Extractor:
    """A way to find objects.

    Attributes:
      name: identifies everything that the results depend on. It stands in the manifest, and stored results of
        an extractor of another name are not used.
      find: captions → one result per caption, in order.
    """

    name: str
    find: Callable[[Sequence[str]], Iterable[Found]]
