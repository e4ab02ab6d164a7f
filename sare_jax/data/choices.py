"""Makes units of grounded choice: whole captions, with the objects that could be named at each opening.

Evidence is the base model's own answer to POPE's question about an object, as the log-odds of Yes against No.
An object is present where they are above `certain`, absent where they are below its negative, and neither in
between or where nobody asked. At an opening an object is represented by the first token of its name; objects
that share one are one choice, which is absent if all of them are, and present if any is.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sare_jax.data.batches import SETS, Tokenizer, TokenSets, Unit, token_set
from sare_jax.data.openings import Vocabulary, all_openings, first_tokens, mentions, token_places, vocabulary
from sare_jax.errors import UserError
from sare_jax.records.curated import Curated, Rows
from sare_jax.records.pope_lists import question_for

MULTIPLE = 8  # of row and target lengths
_SOFTEST = -12.0  # evidence below which a denied object is no likelier to be asked about
_SCALE = 4.0  # nats of evidence over which that falls by e


@dataclass(frozen=True, eq=False)
class Choices:
    """The captions that are trained on, and the objects that they could name.

    Attributes:
      rows: R captions with the names of their images.
      used: int[R'], rising indices in `rows` of the captions that are not empty.
      words: the C objects, with the phrases that name them.
      tokens: K distinct ids of the first tokens of the objects' names, rising.
      column: int[C], index in `tokens` of each object's first token.
      prompt: the prompt that the captions answer.
    """

    rows: Rows
    used: np.ndarray
    words: Vocabulary
    tokens: tuple[int, ...]
    column: np.ndarray
    prompt: str


def choices(curated: Curated, tokenizer: Tokenizer, prompt: str, *, most: int = 0) -> Choices:
    """Finds the objects that the captions name, and their tokens.

    Args:
      curated: captions, and the phrases that the extractor found in them.
      tokenizer: the model's, which also writes the conversation around a caption.
      prompt: the prompt that the captions answer.
      most: how many objects are kept, those that captions most often name; 0 keeps all.

    Raises:
      UserError: the captions name no object with "a" or "an".
    """
    captions = [str(caption) for caption in curated.rows.caption]
    phrases = [str(phrase) for table in (curated.neg, curated.pos) for phrase in table.object]
    words = vocabulary(captions, phrases, most=most)
    if not len(words):
        raise UserError(
            'curated: no caption names an object with "a" or "an", so there is nothing to choose from; '
            "caption more images, or set samples.kind=curated"
        )
    firsts = first_tokens(words, tokenizer, str(curated.rows.image[0]), prompt)
    tokens, column = np.unique(firsts, return_inverse=True)
    used = np.flatnonzero([caption.strip() != "" for caption in captions])
    return Choices(curated.rows, used, words, tuple(map(int, tokens)), column, prompt)


def asked_objects(known: Choices, most: int) -> np.ndarray:
    """Which objects the model is asked about on each caption's image, bool[R, C].

    Args:
      known: the captions and objects, from `choices`.
      most: objects of a caption: those that it names, in its order, then those that captions most often name
        together with these; 0 for all objects.
    """
    size = len(known.rows), len(known.words)
    if not most or most >= size[1]:
        return np.ones(size, bool)
    named = [[m.object for m in mentions(str(text), known.words)] for text in known.rows.caption]
    together = np.zeros((size[1], size[1]))
    for objects in named:
        distinct = np.unique(objects).astype(int)
        together[np.ix_(distinct, distinct)] += 1
    asked = np.zeros(size, bool)
    for row, objects in enumerate(named):
        order = list(dict.fromkeys(objects))
        usual = np.argsort(-together[order].sum(0), kind="stable") if order else range(size[1])
        asked[row, [*dict.fromkeys([*order, *usual])][:most]] = True
    return asked


def answer_tokens(known: Choices, tokenizer: Tokenizer, prompt: str) -> tuple[int, int]:
    """The tokens with which the answers Yes and No to a question start.

    Raises:
      UserError: both answers start with the same token.
    """
    pairs = np.zeros((2, 2), int)
    yes, no = (
        int(unit.tokens[-1]) for unit in question_units(known, tokenizer, pairs, ("Yes", "No"), prompt)
    )
    if yes == no:
        raise UserError("samples.prompt: the tokenizer begins Yes and No with one token; ask otherwise")
    return yes, no


def question_units(
    known: Choices, tokenizer: Tokenizer, pairs: np.ndarray, answers: Sequence[str], prompt: str
) -> list[Unit]:
    """Makes units of questions; the target is the first token of the answer.

    Args:
      known: the captions and objects, from `choices`.
      tokenizer: the model's, which also writes the conversation around a text.
      pairs: int[n, 2], index of the caption, whose image is asked about, and of the object.
      answers: n answers to train on, each "Yes" or "No".
      prompt: template of the question; {} stands for POPE's "Is there a … in the image?".

    Returns:
      n units. Their `caption` continues the numbers of the captions, so that each unit has a row of its own.
    """
    units = []
    for place, ((row, number), answer) in enumerate(zip(pairs.tolist(), answers, strict=True)):
        image = str(known.rows.image[row])
        text = prompt.replace("{}", question_for(known.words.names[number]))
        tokens, [(start, _)] = tokenizer.answer(image, text, answer, [(0, len(answer))], eos=False)
        whole = np.asarray(tokens[: start + 1], np.int32)
        units.append(Unit(whole, start, image, len(known.rows) + place, place))
    return units


def with_answers(sets: TokenSets, asked: Sequence[Unit], weight: float) -> TokenSets:
    """Adds the answers to questions to D_sent, as further units.

    L_sent becomes the mean over captions plus `weight` times the mean over answers, if a batch holds its
    share of both, as batches of packed rows do. It is still a mean over all units; so the units' weights make
    up for the common divisor.

    Args:
      sets: units of the captions, from `choice_sets`.
      asked: units of the answers, from `question_units`.
      weight: factor of the answers' mean loss beside the captions'.
    """
    sent = sets.sent
    captions = zip(sent.tokens, sent.start, sent.image, sent.caption, sent.unit, strict=True)
    units = [
        Unit(tokens, int(start), str(image), int(row), int(unit))
        for tokens, start, image, row, unit in captions
    ]
    joined = token_set([*units, *asked], MULTIPLE, sent.pad_id)
    shares = [len(joined) / len(units)] * len(units) + [weight * len(joined) / len(asked)] * len(asked)
    kept = [*sent.by_token["kept"], *(np.ones(1, bool) for _ in asked)]
    by_unit = {"weight": np.array(shares, np.float32)}
    return sets.having("sent", dataclasses.replace(joined, by_unit=by_unit, by_token={"kept": kept}))


def held_answers(evidence: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws the answers that training keeps as they are: half Yes, half No, near misses likelier.

    Args:
      evidence: float32[R, C], log-odds of Yes against No in nats; NaN where the model was not asked.
      count: number of answers to draw, with replacement.
      seed: starts the draw; the same seed draws the same answers.

    Returns:
      int[count, 2], index of the caption and of the object; int[0, 2] where the model was asked nothing.
    """
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.isfinite(evidence).any(1))
    drawn = []
    for row in rng.choice(rows, count) if len(rows) else ():
        affirmed, denied = np.flatnonzero(evidence[row] > 0), np.flatnonzero(evidence[row] <= 0)
        if len(affirmed) and (rng.random() < 0.5 or not len(denied)):
            drawn.append((row, rng.choice(affirmed)))
        else:
            weight = np.exp(np.maximum(evidence[row, denied], _SOFTEST) / _SCALE)
            drawn.append((row, rng.choice(denied, p=weight / weight.sum())))
    return np.array(drawn, int).reshape(-1, 2)


def choice_sets(known: Choices, tokenizer: Tokenizer, evidence: np.ndarray, certain: float) -> TokenSets:
    """Makes units of the captions for all three sets.

    A unit is a whole caption, so that L_k is a mean over captions and its openings are summed. A caption
    without an opening, or without an absent object at any, is a unit all the same, whose loss is 0.

    Args:
      known: the captions and objects, from `choices`.
      tokenizer: the model's, which also writes the conversation around a text.
      evidence: float32[R, C], log-odds of Yes against No in nats; NaN where the model was not asked.
      certain: log-odds in nats; above it an object is present, below its negative absent.

    Returns:
      Units with arrays a token (`sare_jax.objectives.choosing`): in `neg` and `pos`, which end behind the
      last opening, `absent` or `present` bool[t, K], the choices where a name starts, K the distinct first
      tokens, and `words` int32[t], the tokens of the phrase before; in `sent`, which ends with the caption,
      `kept` bool[t], where no opening is.

    Raises:
      UserError: no opening has a choice that is certain.
    """
    units: dict[str, list[Unit]] = {kind: [] for kind in SETS}
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("absent", "present", "words", "kept")}
    other = 0
    for row in map(int, known.used):
        text, image = str(known.rows.caption[row]), str(known.rows.image[row])
        opened = all_openings(text, known.words)
        tokens, starts = token_places(opened, text, tokenizer, image, known.prompt)
        _, [(first, _)] = tokenizer.answer(image, known.prompt, text, [(0, len(text))], eos=True)
        size = max((name for _, name in starts), default=first) + 1 - first
        absent, present = (np.zeros((size, len(known.tokens)), bool) for _ in range(2))
        words, kept = np.zeros(size, np.int32), np.ones(len(tokens) - first, bool)
        mentioned = mentions(text, known.words)
        for opening, (start, name) in zip(opened, starts, strict=True):
            kept[start - first : name + 1 - first] = False
            if tokens[name] != known.tokens[known.column[opening.object]]:
                other += 1  # its name is spelled with other tokens here, and so might the others be
                continue
            named = [mention.object for mention in mentioned if mention.end <= opening.start]
            free = _columns(known, opening.choices) & ~_columns(known, named)
            shown, missing = _sorted(known, opening.choices, evidence[row], certain)
            absent[name - first], present[name - first] = free & missing, free & shown
            words[name - first] = name - start
        whole = np.asarray(tokens, np.int32)
        for kind, end in (("neg", first + size), ("pos", first + size), ("sent", len(tokens))):
            units[kind].append(Unit(whole[:end], first, image, row, row))
        for key, value in (("absent", absent), ("present", present), ("words", words), ("kept", kept)):
            arrays[key].append(value)
    for key in ("absent", "present"):
        if not any(each.any() for each in arrays[key]):
            raise UserError(
                f"samples: at no opening of {len(known.used)} captions an object is certainly {key}; lower "
                "samples.certain, or raise samples.questions or samples.vocabulary"
            )
    sets = {kind: token_set(units[kind], MULTIPLE, tokenizer.pad_id) for kind in SETS}
    by_token = {
        "neg": {"absent": arrays["absent"], "words": arrays["words"]},
        "pos": {"present": arrays["present"], "words": arrays["words"]},
        "sent": {"kept": arrays["kept"]},
    }
    made = {kind: dataclasses.replace(sets[kind], by_token=by_token[kind]) for kind in SETS}
    return TokenSets(**made, lost={"neg": {"other tokens": other}} if other else {})


def _columns(known: Choices, objects: Sequence[int]) -> np.ndarray:
    """bool[K], the first tokens of these objects."""
    chosen = np.zeros(len(known.tokens), bool)
    chosen[known.column[list(objects)]] = True
    return chosen


def _sorted(
    known: Choices, objects: Sequence[int], evidence: np.ndarray, certain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two bool[K], the choices among these objects that are present, and those that are absent."""
    numbers = np.asarray(objects, int)
    shown = numbers[evidence[numbers] > certain]
    unsure = numbers[~(evidence[numbers] < -certain)]
    return _columns(known, shown.tolist()), _columns(known, numbers.tolist()) & ~_columns(
        known, unsure.tolist()
    )
