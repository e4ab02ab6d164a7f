"""Object HalBench's way from extracted objects to COCO categories.

`eval/eval_gpt_obj_halbench.py` of RLHF-V/RLAIF-V at 83d917b; protocols 8.5. The released script reads the
names with spaCy's `en_core_web_trf`; here it is the small model. COCO's categories have the same words.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from sare_jax.language.words import coco_table
from sare_jax.llm.replies import UnreadableError, after_reasoning

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

SHORT = 3
"""Answers of this many words or fewer are taken to name nothing, unasked, as in the released script."""

INSTRUCTION = """\
Below is what someone answered to a question about a picture. List every object that the answer says is to \
be seen in the picture.

Question: {question}

The answer, between the marks:
<answer>
{answer}
</answer>

Take the answer for true. List only what it names itself, and only things that can be seen. Give each \
object's bare name, without colour, material, number or other qualities.
Reply with a JSON list of texts and nothing else, like ["dog", "tennis racket"]; with [] where it names none.
"""
_LIST = re.compile(r"\[[^\[\]]*\]")
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")
_NOUNS = ("NN", "NNS", "NNP", "NNPS")


def prompt_for(question: dict, text: str) -> str:
    """What the judge is asked about one answer; empty for one of three words or fewer."""
    if len(text.split()) <= SHORT:
        return ""
    return INSTRUCTION.format(question=question["question"], answer=text.strip())


def read_objects(reply: str) -> list[str]:
    """The one JSON list of texts that a reply holds, or the last of several.

    Raises:
      UnreadableError: "empty reply", "unfinished reasoning", "no list".
    """
    text = after_reasoning(reply)
    if not text:
        raise UnreadableError("empty reply")
    for found in reversed(_LIST.findall(text)):
        try:
            names = json.loads(found)
        except json.JSONDecodeError:
            continue
        if is_names(names):
            return names
    raise UnreadableError("no list")


def is_names(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def categories_of(extracted: Iterable[str]) -> list[str]:
    """The COCO categories of the distinct objects that an answer names, one for each object that has any.

    Of a name's words, two neighbours that make a known phrase decide ("brown teddy bear": teddy bear). Else
    each run of nouns is one object, so a compound that is no word of the list is none ("kitchen counter").
    What remains counts once an answer; two words of one category are two objects.

    Args:
      extracted: names of objects, as a language model lists them.
    """
    docs = _tagger().pipe([f"a {name}" for name in extracted])
    objects = list(dict.fromkeys(found for doc in docs for found in _objects(doc)))
    if "toilet" in objects:  # its seat is no chair
        objects = [name for name in objects if name != "seat"]
    return [_categories()[name] for name in objects if name in _categories()]


def _objects(doc: "Doc") -> list[str]:
    phrases = _phrases_in([token.lemma_ for token in doc])
    if phrases:
        return [entry for entry in phrases if entry is not None]
    runs: list[list[str]] = [[]]
    for token in doc:
        if token.tag_ in _NOUNS:
            runs[-1].append(token.lemma_)
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if run]


def _phrases_in(lemmas: Sequence[str]) -> list[str | None]:
    """What each two neighbours count as that are a known phrase; None where they count as nothing."""
    found, place = [], 0
    while place < len(lemmas):
        phrase = " ".join(lemmas[place : place + 2])
        if phrase in _phrases():
            found.append(_phrases()[phrase])
            place += 1
        place += 1
    return found


@cache
def _categories() -> dict[str, str]:
    """Word → category, as in the released list, where one word has a capital."""
    words = dict(coco_table().category_of)
    words["iPhone"] = words.pop("iphone")
    return words


@cache
def _phrases() -> dict[str, str | None]:
    """Phrases of two words and the word that each counts as; fewer than those of this project's CHAIR.

    Of these only the two-word entries of the list, and what stands beside one of ten animals or two vehicles.
    """
    table = coco_table()
    entries = {phrase: phrase for phrase in table.category_of if phrase.count(" ") == 1}
    young = {f"{age} {name}": name for age in ("baby", "adult") for name in _ANIMALS}
    nothing = {f"{age} {name}": None for age in ("baby", "adult") for name in ("animal", "cub")}
    vehicles = {f"passenger {name}": name for name in ("jet", "train")}
    seat = {"toilet seat": "toilet"}
    return {**entries, **young, **nothing, **vehicles, **seat, "home plate": None, "train track": None}


@cache
def _tagger() -> "Language":
    from sare_jax.curation.objects import load_tagger  # spaCy takes seconds to import

    return load_tagger()
