"""From words to object categories: the vocabulary of CHAIR and its two-word rules."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

from sare_jax.errors import UserError
from sare_jax.files import hash_value, read_text
from sare_jax.language.lemmas import noun_lemmas

COCO_WORDS = Path(__file__).with_name("coco_words.txt")

# A hyphenated word is one token, so that "man-made" names no man; an apostrophe ends one ("dog's": a dog).
_TOKEN = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_GAP = re.compile(r"[\s-]+")  # what may stand between the words of a phrase

_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_VEHICLES = ("car", "airplane", "bus", "train", "truck", "boat")


class Mention(NamedTuple):
    """An object named in a text.

    Attributes:
      start: index of the word's or phrase's first character in the text.
      end: index behind its last character.
      word: the entry of the word table that it was read as, in the singular ("man" for "Men").
      category: the category of that entry ("person").
    """

    start: int
    end: int
    word: str
    category: str


@dataclass(frozen=True, eq=False)
class WordTable:
    """Words and phrases that name a category.

    Attributes:
      categories: names of the categories, in the order of the table's lines.
      category_of: category by word or phrase; all lower-case and singular.
      phrases: what a phrase of several words counts as: an entry of `category_of`, or None for no object.
      source: path of the file that it was read from.
    """

    categories: tuple[str, ...]
    category_of: dict[str, str]
    phrases: dict[str, str | None]
    source: str

    @cached_property
    def longest(self) -> dict[str, int]:
        """For each word that begins a phrase, the number of words in its longest one."""
        sizes: dict[str, int] = {}
        for phrase in self.phrases:
            first = phrase.partition(" ")[0]
            sizes[first] = max(sizes.get(first, 1), phrase.count(" ") + 1)
        return sizes

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content; equal tables give equal scores."""
        return hash_value([self.category_of, self.phrases])[:12]

    def fold(self, name: str) -> str | None:
        """The category that a name stands for ("Sofas" → "couch"), None where the table has no such word."""
        words = re.split(r"[\s_-]+", name.strip().lower())
        for phrase in _readings(words):
            if phrase in self.category_of:
                return self.category_of[phrase]
        return None


def categories_in(text: str, table: WordTable | None = None) -> list[Mention]:
    """Finds every object that a text names, in order.

    The longest phrase wins, from left to right; a phrase may count as one of its words ("passenger train") or
    as nothing ("train track"). Where the text speaks of a toilet, its seat is no chair (CHAIR reference,
    protocols 1.9 and 4).

    As in the reference, and unlike a human reader:
      vocabulary: only words of the list name an object. It has no "surfer" and no "batter", and it reads
        a notebook as a laptop.
      each word: every word of the list counts, beside another of the same meaning ("pickup truck" is two
        mentions) and in a compound that the list does not know ("train station" names a train).
      two words: no entry of three is ever joined: "stove top oven" is a stove and an oven, two mentions,
        though the list has the three words as one entry.
      no reading: every mention counts, also where it is denied, likened, painted, a colour ("an orange
        shirt") or a part ("the seat of the bicycle").

    Args:
      text: the text to search, in any case.
      table: words and their categories; COCO's 80 where none is given.

    Returns:
      One `Mention` for each time that an object is named; none overlap.
    """
    table = table or coco_table()
    tokens = list(_TOKEN.finditer(text))
    mentions: list[Mention] = []
    position = 0
    while position < len(tokens):
        size, word = _longest_entry(text, tokens, position, table)
        if word is not None:
            first, last = tokens[position], tokens[position + size - 1]
            mentions.append(Mention(first.start(), last.end(), word, table.category_of[word]))
        position += size
    if any(mention.word == "toilet" for mention in mentions):
        mentions = [mention for mention in mentions if mention.word != "seat"]
    return mentions


def _longest_entry(
    text: str, tokens: list[re.Match], position: int, table: WordTable
) -> tuple[int, str | None]:
    """How many tokens the entry at `position` takes, and the entry: None where there is no object."""
    words: list[str] = []
    first = tokens[position].group().lower().partition("-")[0]
    for token in tokens[position : position + table.longest.get(first, 1)]:
        if words and not _GAP.fullmatch(text, tokens[position + len(words) - 1].end(), token.start()):
            break
        words.append(token.group().lower())
    for size in range(len(words), 0, -1):
        for phrase in _readings(words[:size]):
            phrase = phrase.replace("-", " ")
            if phrase in table.phrases:
                return size, table.phrases[phrase]
            if phrase in table.category_of:
                return size, phrase
    return 1, None


def _readings(words: list[str]) -> list[str]:
    """The phrase with each singular of its last word, and as it is written."""
    *head, last = words
    return [" ".join([*head, form]) for form in (*noun_lemmas(last), last)]


@cache
def coco_table() -> WordTable:
    """The project's own table: the 80 COCO categories (coco_words.txt)."""
    return read_table(COCO_WORDS)


def read_table(path: Path) -> WordTable:
    """Reads a word table.

    Args:
      path: a text file with one category a line, as `category: word, word` or as the lineage's
        `category, word, word`. Lines that begin with # are comments.

    Raises:
      UserError: no such file, no category in it, or a word that stands for two categories; names them.
    """
    lines = read_text(path).splitlines()
    category_of: dict[str, str] = {}
    categories = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        category, words = _split_line(line)
        categories.append(category)
        for word in (category.replace("-", " "), *words):
            if category_of.setdefault(word, category) != category:
                raise UserError(
                    f"{path}:{number}: {word!r} names both {category_of[word]!r} and {category!r}; keep one"
                )
    if not categories:
        raise UserError(f"{path}: no category in the word table; write one a line, `category: word, word`")
    return WordTable(tuple(categories), category_of, _phrases(category_of), str(path))


def _split_line(line: str) -> tuple[str, list[str]]:
    head, colon, tail = line.partition(":")
    if not colon:
        head, _, tail = line.partition(",")
    words = [" ".join(word.lower().replace("-", " ").split()) for word in tail.split(",")]
    return " ".join(head.lower().split()), [word for word in words if word]


def _phrases(category_of: dict[str, str]) -> dict[str, str | None]:
    """Phrases that do not count as their words would; entries of three words are never joined.

    The reference lists ten animals and two vehicles; here every word of an animal category and of a vehicle
    category follows the same rule, so that a "baby lamb" is no person either.
    """
    phrases: dict[str, str | None] = {word: word for word in category_of if word.count(" ") == 1}
    for qualifier, words in (
        ("baby", _words_of(category_of, _ANIMALS)),
        ("adult", _words_of(category_of, _ANIMALS)),
        ("passenger", _words_of(category_of, _VEHICLES)),
    ):
        phrases.update({f"{qualifier} {word}": word for word in words})
    for phrase in ("baby animal", "adult animal", "baby cub", "adult cub", "home plate", "train track"):
        phrases[phrase] = None
    for phrase, word in (("toilet seat", "toilet"), ("hair dryer", "hair drier")):
        if word in category_of:
            phrases[phrase] = word
    return phrases


def _words_of(category_of: dict[str, str], categories: Iterable[str]) -> list[str]:
    return [word for word, category in category_of.items() if category in categories]
