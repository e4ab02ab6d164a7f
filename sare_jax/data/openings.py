"""Openings: where a caption is about to name an object, and could have named another one.

    At the beach, a boat floats on the left, and a small dog rests on the right.
                                                 ^       ^  ^
                                                 start   name end, of the second opening

An opening is a mention of an object with its noun phrase from the indefinite article on. Where its
name starts, any other object of the vocabulary could have been named, unless it was named before or takes
another article. The
vocabulary comes from the phrases that the curation's extractor found in the captions.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sare_jax.data.batches import Tokenizer
from sare_jax.language.lemmas import noun_lemmas
from sare_jax.language.words import coco_table

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ARTICLE = re.compile(r"\b(an?)\s+\Z", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Objects that captions name with an indefinite article.

    Attributes:
      names: the objects' names in the singular, the most frequent at openings first.
      articles: "a" or "an", as the captions have it right before each name.
      phrases: a phrase's words in lower case, the last in the singular, → index in `names` of the object that
        it names: ("small", "dog") → the index of "dog". −1 stands for objects that are not in `names`, whose
        phrases still hide those inside them.
    """

    names: tuple[str, ...]
    articles: tuple[str, ...]
    phrases: Mapping[tuple[str, ...], int]

    def __len__(self) -> int:
        return len(self.names)


class Mention(NamedTuple):
    """A place where a caption names an object of the vocabulary.

    Attributes:
      phrase: index of the character at which the phrase starts, adjectives included.
      end: index behind its last character.
      object: the object's index in `Vocabulary.names`.
      plural: whether the head noun stands in the plural.
    """

    phrase: int
    end: int
    object: int
    plural: bool


class Opening(NamedTuple):
    """A mention with its noun phrase from the article on.

    Attributes:
      start: index of the character at which the article starts.
      name: index of the character at which the object's name starts.
      end: index behind the name's last character.
      object: index in `Vocabulary.names` of the object that is named.
      choices: rising indices of the objects that could be named here: those that no mention before has named
        and, where the name follows the article directly, that take the same article. Empty at a caption's
        first opening, since every caption has to name something.
    """

    start: int
    name: int
    end: int
    object: int
    choices: tuple[int, ...]


def vocabulary(captions: Sequence[str], phrases: Iterable[str], *, most: int = 0) -> Vocabulary:
    """The objects that these captions name with "a" or "an".

    A phrase stands for the longest name that it ends with ("small brown dog" for "dog", if the extractor also
    found a dog alone), unless COCO's word table knows it as a name of its own ("hot dog").

    Args:
      captions: texts of the captions, one string each.
      phrases: what the extractor found in them (`Units.object`), in any order and any number of times.
      most: how many objects are kept, those that open most often; 0 keeps all.
    """
    words = sorted({_singular(phrase) for phrase in phrases if _WORD.search(phrase)})
    known = set(words)
    names = {phrase: _name(phrase, known) for phrase in words}
    every = sorted(set(names.values()))
    numbers = {name: number for number, name in enumerate(every)}
    rough = Vocabulary(
        tuple(map(" ".join, every)), (), {phrase: numbers[name] for phrase, name in names.items()}
    )
    counts, articles = Counter[int](), Counter[tuple[int, str]]()
    for caption in captions:
        for mention in mentions(caption, rough):
            article = None if mention.plural else _ARTICLE.search(caption, 0, mention.phrase)
            if article:
                counts[mention.object] += 1
                if _name_start(caption, mention, rough) == mention.phrase:
                    articles[mention.object, article[1].lower()] += 1
    chosen = sorted(counts, key=lambda number: (-counts[number], every[number]))[: most or None]
    indices = {number: index for index, number in enumerate(chosen)}
    return Vocabulary(
        names=tuple(rough.names[number] for number in chosen),
        articles=tuple(_article(rough.names[number], number, articles) for number in chosen),
        phrases={phrase: indices.get(number, -1) for phrase, number in rough.phrases.items()},
    )


def mentions(caption: str, vocabulary: Vocabulary) -> list[Mention]:
    """Every mention of an object in a caption, in order; the longest phrase wins, from left to right."""
    words = list(_WORD.finditer(caption))
    longest = max(map(len, vocabulary.phrases), default=0)
    kept, place = [], 0
    while place < len(words):
        size, mention = _longest(caption, words[place : place + longest], vocabulary)
        if mention is not None and mention.object >= 0:
            kept.append(mention)
        place += size
    return kept


def openings(caption: str, vocabulary: Vocabulary) -> list[Opening]:
    """The openings of a caption that have choices: all but the first, in order; see `all_openings`."""
    return all_openings(caption, vocabulary)[1:]


def all_openings(caption: str, vocabulary: Vocabulary) -> list[Opening]:
    """All openings of a caption, in order.

    Mentions without an indefinite article ("two dogs", "the dog") open nothing and still count as named.
    """
    opened: list[Opening] = []
    named: set[int] = set()
    for mention in mentions(caption, vocabulary):
        article = None if mention.plural else _ARTICLE.search(caption, 0, mention.phrase)
        if article:
            name = _name_start(caption, mention, vocabulary)
            free = (number for number in range(len(vocabulary)) if number not in named)
            direct = name == mention.phrase
            choices = tuple(
                number
                for number in free
                if opened and (not direct or vocabulary.articles[number] == article[1].lower())
            )
            opened.append(Opening(article.start(1), name, mention.end, mention.object, choices))
        named.add(mention.object)
    return opened


def first_tokens(vocabulary: Vocabulary, tokenizer: Tokenizer, image: str, instruction: str) -> list[int]:
    """The id of the first token of each name behind its article; it stands for the object at an opening."""
    firsts = []
    for name, article in zip(vocabulary.names, vocabulary.articles, strict=True):
        span = (len(article) + 1, len(article) + 1 + len(name))
        tokens, [(start, _)] = tokenizer.answer(image, instruction, f"{article} {name}", [span], eos=False)
        firsts.append(tokens[start])
    return firsts


def article_tokens(tokenizer: Tokenizer, image: str, instruction: str) -> tuple[int, ...]:
    """Rising distinct ids of the first tokens of "a" and "an", small and capital, behind other words."""
    firsts = set()
    for article in ("a", "an", "A", "An"):
        text = f"it. {article} thing"
        tokens, [(start, _)] = tokenizer.answer(image, instruction, text, [(4, 4 + len(article))], eos=False)
        firsts.add(int(tokens[start]))
    return tuple(sorted(firsts))


def token_places(
    opened: Sequence[Opening], caption: str, tokenizer: Tokenizer, image: str, instruction: str
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenizes prompt and caption, and finds the openings among the tokens.

    Args:
      opened: openings of this caption.
      caption: text of the caption.
      tokenizer: the model's, which also writes the conversation around the caption.
      image: file name of the caption's image.
      instruction: the prompt that the caption answers.

    Returns:
      The ids of the tokens of prompt, caption and end; and for each opening the indices in them of its
      article's and of its name's first token. The tokens between are the article and any adjectives.
    """
    spans = [span for opening in opened for span in (opening[0:2], opening[1:3])]
    tokens, token_spans = tokenizer.answer(image, instruction, caption, spans, eos=True)
    starts = [start for start, _ in token_spans]
    return tokens, list(zip(starts[::2], starts[1::2], strict=True))


def _singular(phrase: str) -> tuple[str, ...]:
    words = [word.lower() for word in _WORD.findall(phrase)]
    return (*words[:-1], noun_lemmas(words[-1])[0])


def _name(phrase: tuple[str, ...], known: set[tuple[str, ...]]) -> tuple[str, ...]:
    """The name that a phrase stands for: a phrase that no other one ends, or that the word table knows."""
    if " ".join(phrase) in coco_table().phrases:
        return phrase
    shorter = (phrase[first:] for first in range(1, len(phrase)))
    inner = next((part for part in shorter if part in known), None)
    return phrase if inner is None else _name(inner, known)


def _longest(caption: str, words: Sequence[re.Match], vocabulary: Vocabulary) -> tuple[int, Mention | None]:
    """How many words the longest phrase takes that starts with the first of `words`, and its mention."""
    together = 1
    while together < len(words) and caption[words[together - 1].end() : words[together].start()].isspace():
        together += 1
    for size in range(together, 0, -1):
        *ahead, last = (word[0].lower() for word in words[:size])
        for form in (last, *noun_lemmas(last)):
            number = vocabulary.phrases.get((*ahead, form))
            if number is not None:
                return size, Mention(words[0].start(), words[size - 1].end(), number, form != last)
    return 1, None


def _name_start(caption: str, mention: Mention, vocabulary: Vocabulary) -> int:
    """Index of the character at which the name, the last words of the phrase, starts."""
    words = list(_WORD.finditer(caption, mention.phrase, mention.end))
    size = len(vocabulary.names[mention.object].split(" "))
    return words[-size].start()


def _article(name: str, number: int, counts: Counter[tuple[int, str]]) -> str:
    """The article most often right before a name; where both are equal, the one for its first letter."""
    a, an = counts[number, "a"], counts[number, "an"]
    if a == an:
        return "an" if name[0].lower() in "aeiou" else "a"
    return "an" if an > a else "a"
