"""Reads yes, no or unknown from a free-form answer."""

import re
from functools import lru_cache
from typing import Literal

from sare_jax.language.words import categories_in

Verdict = Literal["yes", "no", "unknown"]

_MARKUP = re.compile(r"[*_`\"“”#>~\[\](){}]+")
_LABEL = re.compile(r"^(?:(?:the |my |final |short )*answer(?: is)?|assistant|response)\s*[:,-]?\s+")
_FIRST = re.compile(r"^(yes|yeah|yep|yup|no|nope|nah)\b(?! (?:person|idea)\b)")
_BOTH = re.compile(r"^yes\W+(?:and|or)\W+no\b|^no\W+(?:and|or)\W+yes\b")
_DOUBT = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|might|unclear|unsure|uncertain|unknown|likely|unlikely"
    r"|(?:not|n't|hard|difficult|impossible|unable|cannot) (?:\w+ )*?(?:sure|certain|clear|tell|say|determine"
    r"|answer|know|confirm|identify)|no idea|yes or no)\b"
)
_DENIAL = re.compile(
    r"\b(?:no|not|never|none|nothing|neither|nor|without|absent|missing|lacks?|cannot|can not)\b|n't\b"
)
_ASSERTION = re.compile(
    r"\b(?:there(?:'s| is| are)|(?:i|we|you) (?:can |do |also )*see|it (?:is|does)"
    r"|(?:is|are) (?:\w+ ){0,3}?(?:present|visible|shown|seen|depicted|featured|included|in|on|at|near|there)"
    r"|contains?|shows?|features?|includes?|depicts?|has|have|appears?|correct|true|indeed|certainly)\b"
)
_PHRASES = (  # a "no" that denies nothing, or that speaks of people
    (re.compile(r"\b(?:no|without(?: a| any)?) doubt\b"), "certainly"),
    (re.compile(r"\b(?:nothing|no one|nobody|none) (?:but|except(?: for)?|other than|besides)\b"), "solely"),
    (
        re.compile(
            r"\bno (?:\w+ ){1,2}?(?:but|except(?: for)?|other than|besides|apart from)"
            r"(?= (?:a|an|the|one|two|three|four|some|this|that)\b)"
        ),
        "solely",
    ),
    (re.compile(r"\bnot (?:only|just)\b"), "also"),
    (re.compile(r"\b(?:no one|nobody)\b"), "no person"),
)
_CLAUSE = re.compile(r"[.;!?\n]+|,? (?:but|however|although|though|whereas|while)\b")


def parse_official(text: str) -> Verdict:
    """The public script's rule (POPE `evaluate.py`): whatever holds no "no" in its first sentence is a yes.

    The text up to the first full stop, without commas, is split at spaces; one of the words "No", "not", "no"
    makes it a no. So "NO", "No!" and an empty answer are a yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


@lru_cache(maxsize=1 << 16)
def parse_robust(text: str, category: str | None = None) -> Verdict:
    """Reads an answer as a person would; what cannot be decided is unknown.

    Case, punctuation and markup do not matter. A leading yes or no decides. Otherwise doubt ("hard to say")
    is unknown; then the first clause that speaks of the object asked for decides, by whether it denies; a
    clause that names only other objects decides nothing.

    Args:
      text: what the model answered, whole.
      category: name of the category asked for; without it, any clause that denies or asserts decides.
    """
    plain = _plain(text)
    if verdict := _stated_first(plain):
        return verdict
    for clause in _CLAUSE.split(plain):
        named = {mention.category for mention in categories_in(clause)}
        if category is not None and "solely" in clause and named and not _DENIAL.search(clause):
            return "yes" if category in named else "no"
        if category is not None and named and category not in named:
            continue
        if _DENIAL.search(clause):
            return "no"
        if re.search(r"\b(?:yes|yeah)\b", clause):
            return "yes"
        if _ASSERTION.search(clause) and (category is None or category in named):
            return "yes"
    return "unknown"


@lru_cache(maxsize=1 << 16)
def parse_stated(text: str) -> Verdict:
    """Reads the yes or no that an answer states, whatever the question asks for.

    A leading yes or no decides, then the only one of the two words in the text, then whether the first clause
    calls the statement right or wrong. A description alone decides nothing.
    """
    plain = _plain(text)
    if verdict := _stated_first(plain):
        return verdict
    stated = set(re.findall(r"\b(?:yes|no)\b(?! person\b)", plain))
    if len(stated) == 1:
        return "yes" if "yes" in stated else "no"
    clause = _CLAUSE.split(plain)[0]
    if re.search(r"\b(?:incorrect|false|wrong|untrue|not)\b|n't\b", clause):
        return "no"
    return "yes" if re.search(r"\b(?:correct|true|right|indeed|certainly)\b", clause) else "unknown"


def clauses(text: str) -> list[tuple[str, bool]]:
    """The clauses of a text in lower case without markup, each with whether it denies something."""
    parts = [clause.strip() for clause in _CLAUSE.split(_plain(text))]
    return [(clause, _DENIAL.search(clause) is not None) for clause in parts if clause]


def _plain(text: str) -> str:
    """An answer in lower case, without markup and "The answer is", its lines as sentences."""
    plain = _MARKUP.sub(" ", text.replace("’", "'").lower())
    plain = _LABEL.sub("", " ".join(re.sub(r"\n+", ". ", plain.strip()).split()))
    for phrase, meaning in _PHRASES:
        plain = phrase.sub(meaning, plain)
    return plain


def _stated_first(plain: str) -> Verdict | None:
    """The verdict by a leading yes or no, or by an expression of doubt; None where there is neither."""
    if _BOTH.search(plain):
        return "unknown"
    if first := _FIRST.search(plain):
        return "yes" if first.group(1).startswith("y") else "no"
    return "unknown" if _DOUBT.search(plain) else None
