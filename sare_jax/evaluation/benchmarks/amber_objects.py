"""AMBER's descriptions: which of their nouns an image shows, by the rules of its `inference.py`.

junyangwang0410/AMBER at 534babf; protocols 8.1. Nouns are found there by nltk's perceptron tagger and made
singular by WordNet; here by spaCy's small tagger and lemminflect, so a few nouns differ. Near synonyms are
words whose vectors in spaCy's `en_core_web_lg` are more than 0.8 alike, there and here. Where that model is
not installed, a noun counts only as the very words of AMBER's lists, so more nouns count as invented.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import eq
from typing import TYPE_CHECKING, NamedTuple

from sare_jax.language.lemmas import noun_lemmas

if TYPE_CHECKING:
    from spacy.language import Language

VECTORS = "en_core_web_lg"
THRESHOLD = 0.8
_NO_VECTORS = ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "senter", "ner")

Similar = Callable[[str, str], bool]


@dataclass(frozen=True)
class Scene:
    """What AMBER's files say of one image, and of words.

    Attributes:
      truth: the annotated objects; one that stands there twice counts twice.
      feared: objects that a person would guess and that are not there (`hallu` in the files).
      association: object → words that count as naming it (`relation.json`).
      vocabulary: all words of `relation.json`; no other noun counts.
      safe: words that never count as invented (`safe_words.txt`).
    """

    truth: tuple[str, ...]
    feared: tuple[str, ...]
    association: dict[str, list[str]]
    vocabulary: frozenset[str]
    safe: frozenset[str]


class Found(NamedTuple):
    """What one description names.

    Attributes:
      nouns: nouns of the vocabulary, each time that they are named.
      invented: those of them that the image does not show.
      covered: annotated objects that are named.
      feared: objects of the scene's `feared` that are named.
    """

    nouns: int
    invented: int
    covered: int
    feared: int


class _Listed:
    """Objects with the words that name them, of which the first that fits a noun is marked."""

    def __init__(self, objects: Sequence[str], association: dict[str, list[str]]):
        associated = [(word, place) for place, name in enumerate(objects) for word in association[name]]
        self.words = [*associated, *((name, place) for place, name in enumerate(objects))]
        self.named: set[int] = set()

    def mark(self, noun: str, fits: Similar) -> bool:
        for word, place in self.words:
            if fits(noun, word):
                self.named.add(place)
                return True
        return False


def find(nouns: Iterable[str], scene: Scene, similar: Similar) -> Found:
    """What a description names, noun by noun in its order, as the released script decides.

    A noun that names an object by its own word is no candidate for another object. One that equals a feared
    word counts as that, and still as shown where it is similar to a word of the truth.

    Args:
      nouns: the description's nouns in the singular (`nouns_of`).
      scene: lists of AMBER's files for the image.
      similar: whether two words are near synonyms (`near_synonyms`).
    """
    truth, feared = _Listed(scene.truth, scene.association), _Listed(scene.feared, scene.association)
    counted = [noun for noun in nouns if noun in scene.vocabulary]
    invented = 0
    for noun in counted:
        if noun in scene.safe or truth.mark(noun, eq):
            continue
        feared.mark(noun, eq)
        feared.mark(noun, similar)
        invented += not truth.mark(noun, similar)
    return Found(len(counted), invented, len(truth.named), len(feared.named))


def nouns_of(texts: Iterable[str]) -> list[list[str]]:
    """The nouns of each text in the singular, each time that they stand there.

    A noun with a capital is left out: WordNet's lemmatizer returns it as it is, and AMBER's vocabulary has
    small letters alone. Of several singulars the shortest is taken, as that lemmatizer does.
    """
    docs = _tagger().pipe(texts, disable=["parser", "attribute_ruler", "lemmatizer"])
    return [
        [
            min(noun_lemmas(token.text), key=len)
            for token in doc
            if token.tag_.startswith("NN") and token.text == token.text.lower()
        ]
        for doc in docs
    ]


@cache
def _tagger() -> "Language":
    from sare_jax.curation.objects import load_tagger  # spaCy takes seconds to import

    return load_tagger()


@cache
def installed_vectors() -> "Language | None":
    """The vectors of spaCy's `en_core_web_lg`, its other parts; None where it is not installed."""
    import spacy

    return spacy.load(VECTORS, exclude=list(_NO_VECTORS)) if spacy.util.is_package(VECTORS) else None


def near_synonyms(vectors: "Language | None") -> Similar:
    """Whether two words are near synonyms: the cosine of their vectors is above 0.8; equal words always are.

    Args:
      vectors: a spaCy model with word vectors; None leaves equal words alone.
    """
    if vectors is None:
        return eq
    doc = cache(vectors.make_doc)

    @cache
    def similar(first: str, second: str) -> bool:
        one, other = doc(first), doc(second)
        if not (one.vector_norm and other.vector_norm):
            return first == second
        return bool(one.similarity(other) > THRESHOLD)

    return similar
