"""The object names that a language model's reply lists, and where the caption mentions them."""

import re
from collections import Counter
from collections.abc import Sequence

from sare_jax.curation.extractor import Found, Mention
from sare_jax.errors import UserError
from sare_jax.files import parse_json
from sare_jax.language.lemmas import noun_lemmas
from sare_jax.llm.replies import UnreadableError, after_reasoning

_REFUSAL = re.compile(
    r"\W*(?:unfortunately\W+)?(?:(?:i['’]?m|i am|we are)\s+)?(?:(?:very|so|afraid|really)\s+)*"
    r"(?:sorry|unable|not able|apolog\w+|as an? (?:ai|language model)"
    r"|(?:i|we)\s+(?:cannot|can not|can['’]?t|will not|won['’]t|do not|don['’]t|apologi[sz]e))\b",
    re.I,
)
_NOTHING = re.compile(r"\W*(?:none|nothing|n/?a|empty|(?:there (?:are|is) )?no\b[^,\n]*)\W*", re.I)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_NEXT_EXAMPLE = re.compile(r"\n\s*\(?(?:text|description|input|caption|note|explanation)\)?\s*[:(]", re.I)
_LEAD_IN = re.compile(r"[^:\n]*?(?<!\d):(?!\d)\s*")
_ASIDE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\([^()]*$")
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+")
_BEFORE_NAME = re.compile(
    r"(?:(?:and|or|a|an|the|some|several|many|two|three|four|five|six|his|her|their|its|another|other|\d+)\s+)+",
    re.I,
)
_AROUND = " \t.,;!?:\"'`*“”‘’«»…"
_TOKEN = re.compile(r"[^\s/—–]+")
_EDGES = ".,;!?:\"'`*“”‘’«»…()[]{}<>"


def names_in(reply: str) -> list[str]:
    """The names that a reply lists, in its order, each once.

    Names may be separated by commas, semicolons or lines, with or without bullets, or stand in a JSON array.
    Removed are a lead-in up to a colon, asides in brackets, quotes, articles, and further examples that the
    model makes up.

    Args:
      reply: the model's whole text.

    Returns:
      The names; empty if the model says that there is none.

    Raises:
      UnreadableError: "empty reply", "unfinished reasoning", "refused".
    """
    text = _FENCE.sub("", after_reasoning(reply))
    if not text:
        raise UnreadableError("empty reply")
    if _REFUSAL.match(text):
        raise UnreadableError("refused")
    text = _NEXT_EXAMPLE.split(text, maxsplit=1)[0]
    parts = _json_array(text)
    if parts is None:
        lead_in = _LEAD_IN.match(text)
        text = text[lead_in.end() :] if lead_in else text
        if _NOTHING.fullmatch(text):
            return []
        parts = re.split(r"[,;\n]", _ASIDE.sub(" ", text))
    names = (_bare(part) for part in parts)
    return list({name.casefold(): name for name in names if name}.values())


def find_names(caption: str, names: Sequence[str]) -> Found:
    """Looks for names in a caption: whole words, whatever their case, in the singular or the plural.

    Names that the caption does not contain are counted and left out. The others become mentions in the
    caption's own words, one for each occurrence. Longer names are matched first, so that "table" does not
    match within "dining table".

    Args:
      caption: the caption's text.
      names: names that the model listed, from `names_in`.
    """
    tokens = [_trimmed(match) for match in _TOKEN.finditer(caption)]
    forms = [_forms(caption[start:end]) for start, end in tokens]
    taken = [False] * len(tokens)
    mentions: list[Mention] = []
    left_out: Counter[str] = Counter()
    for name in sorted(_split_joined(names, forms), key=lambda name: -len(name.split())):
        wanted = [_forms(word) for word in _words(name)]
        starts = _places(wanted, forms) if wanted else []
        free = [start for start in starts if not any(taken[start : start + len(wanted)])]
        if not free:
            left_out["covered_by_another_name" if starts else "not_in_caption"] += 1
        for start in free:
            taken[start : start + len(wanted)] = [True] * len(wanted)
            mentions.append(_mention(caption, tokens[start][0], tokens[start + len(wanted) - 1][1]))
    return Found(tuple(sorted(mentions, key=lambda mention: mention.start)), left_out)


def _json_array(text: str) -> list[str] | None:
    start, end = text.find("["), text.rfind("]")
    if start < 0 or end < start:
        return None
    try:
        value = parse_json(text[start : end + 1], "reply")
    except UserError:
        return None
    return value if all(isinstance(item, str) for item in value) else None


def _bare(part: str) -> str:
    name = _BULLET.sub("", part).strip(_AROUND)
    return " ".join(name[_leading(name) :].strip(_AROUND).split())


def _leading(name: str) -> int:
    match = _BEFORE_NAME.match(name)
    return match.end() if match else 0


def _split_joined(names: Sequence[str], forms: list[frozenset[str]]) -> list[str]:
    """Splits "dog and cat", unless the caption has it as one ("salt and pepper shakers")."""
    parts: dict[str, None] = {}
    for name in names:
        whole = " and " not in name or _places([_forms(word) for word in _words(name)], forms)
        for part in [name] if whole else name.split(" and "):
            if bare := _bare(part):
                parts[bare] = None
    return list(parts)


def _words(text: str) -> list[str]:
    spans = [_trimmed(match) for match in _TOKEN.finditer(text)]
    return [text[start:end] for start, end in spans if end > start]


def _trimmed(token: re.Match) -> tuple[int, int]:
    """Span of a token without the punctuation around it and without a possessive 's."""
    text = token.group()
    start = token.start() + len(text) - len(text.lstrip(_EDGES))
    end = token.end() - len(text) + len(text.rstrip(_EDGES))
    if token.string[max(start, end - 2) : end].lower() in ("'s", "’s"):
        end -= 2
    return start, max(start, end)


def _forms(word: str) -> frozenset[str]:
    """A word in lower case and its singular forms; two words match if they share one."""
    folded = word.casefold()
    return frozenset({folded, *noun_lemmas(folded)}) if folded else frozenset()


def _places(wanted: list[frozenset[str]], forms: list[frozenset[str]]) -> list[int]:
    """Indices of tokens at which a sequence of words starts."""
    size = len(wanted)
    return [
        place
        for place in range(len(forms) - size + 1)
        if all(forms[place + i] & word for i, word in enumerate(wanted))
    ]


def _mention(caption: str, start: int, end: int) -> Mention:
    text = " ".join(caption[start:end].lower().split())
    return Mention(text, start, end, noun_lemmas(text.split()[-1])[0])
