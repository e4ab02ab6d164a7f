"""BLEU by two rules that have little in common, each under its own name.

`word`: corpus BLEU on words against all references (sacrebleu's counts). `efuf_char`: what EFUF's tables,
and so the paper's, hold: NLTK's sentence BLEU with smoothing method 7 on the *characters* of the caption and
of one reference. It measures length rather than quality, so lengths stand beside it (protocols 1.10).
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.columns import NOT_MEASURED, Measure, ungrouped
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.texts import Captions, Dropped, match_captions, read_records

Rule = Literal["word", "efuf_char"]
Tokenizer = Callable[[str], str]
RULES: tuple[Rule, ...] = ("word", "efuf_char")
ORDERS = (1, 2, 4)

WORD_COLUMNS = (
    "captions",
    *(f"matches_{order}" for order in range(1, 5)),
    *(f"ngrams_{order}" for order in range(1, 5)),
    "length",
    "reference_length",
    *(f"sentence_{order}" for order in ORDERS),
)
CHAR_COLUMNS = ("captions", *(f"sentence_{order}" for order in ORDERS), "length", "reference_length")


def corpus_bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """BLEU of summed counts, unsmoothed: no matching n-gram of some order gives 0.

    Args:
      sums: float[..., len(WORD_COLUMNS)].
      order: n-grams of 1 to this many words count, 1 to 4.

    Returns:
      float[...], 0 to 100, at most 100 exactly.
    """
    matches, ngrams = sums[..., 1 : 1 + order], sums[..., 5 : 5 + order]
    length, reference = sums[..., 9], sums[..., 10]
    precision = bootstrap.divide(matches, ngrams)
    positive = np.all(precision > 0, axis=-1)
    above_zero = np.where(positive[..., None], precision, 1.0)
    mean_log = np.log(above_zero).mean(axis=-1)
    brevity = np.minimum(0.0, 1.0 - bootstrap.divide(reference, length))
    return np.where(positive, np.minimum(100.0, 100.0 * np.exp(mean_log + brevity)), 0.0)


WORD_METRICS: dict[str, bootstrap.Metric] = {
    **{f"bleu_{order}": partial(corpus_bleu, order=order) for order in ORDERS},
    **{f"bleu_{order}_sentence_mean": bootstrap.ratio(11 + i, 0, 1.0) for i, order in enumerate(ORDERS)},
    "mean_length": bootstrap.ratio(9, 0, scale=1.0),
}
CHAR_METRICS: dict[str, bootstrap.Metric] = {
    **{f"bleu_{order}": bootstrap.ratio(1 + i, 0, scale=1.0) for i, order in enumerate(ORDERS)},
    "mean_length": bootstrap.ratio(4, 0, scale=1.0),
}
# Of the references alone: printed beside the captions' length, but no difference between two models.
WORD_REFERENCE = {"mean_reference_length": bootstrap.ratio(10, 0, scale=1.0)}
CHAR_REFERENCE = {"mean_reference_length": bootstrap.ratio(5, 0, scale=1.0)}


def tokenize_coco(text: str) -> str:
    """Lower-case words without punctuation, as COCO caption scores have it."""
    return " ".join(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.lower()))


def tokenize_13a(text: str) -> str:
    """The default of sacrebleu (mteval-v13a): case and punctuation count."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text)


TOKENIZERS: dict[str, Tokenizer] = {"13a": tokenize_13a, "coco": tokenize_coco}


def word_counts(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer = tokenize_13a
) -> np.ndarray:
    """N-gram matches and lengths of each text, from whose sums word BLEU is made.

    Args:
      hypotheses: the n texts to score.
      references: one or more reference texts for each of them.
      tokenizer: from a text to its tokens, separated by spaces; applied to hypotheses and references.

    Returns:
      float[n, len(WORD_COLUMNS)].

    Raises:
      UserError: lengths differ, a text without reference, or a tokenizer that loses texts.
    """
    from sacrebleu.metrics import BLEU

    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} texts but references for {len(references)}; "
            "references are listed for each text, not for each annotator"
        )
    if bare := sum(not own for own in references):
        raise UserError(f"{bare} text(s) have no reference")
    split = [tokenizer(text) for text in hypotheses]
    empty = [text for text, tokens in zip(hypotheses, split, strict=True) if not tokens.strip()]
    if lost := sum(any(map(str.isalnum, text)) for text in empty):
        raise UserError(f"tokeniser returned nothing for {lost} captions")
    # effective_order only quiets a warning: it changes sacrebleu's score, which is not used, not its counts.
    counter = BLEU(tokenize="none", force=True, max_ngram_order=4, effective_order=True)
    rows = np.zeros((len(split), len(WORD_COLUMNS)))
    for row, tokens, own in zip(rows, split, references, strict=True):
        bleu = counter.sentence_score(tokens, [tokenizer(reference) for reference in own])
        row[:11] = [1, *bleu.counts, *bleu.totals, bleu.sys_len, bleu.ref_len]
        row[11:] = [corpus_bleu(row, order) for order in ORDERS]
    return rows


def char_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """EFUF's character BLEU of each text against one reference: float[n, len(CHAR_COLUMNS)], 0 to 100."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method7
    rows = np.zeros((len(hypotheses), len(CHAR_COLUMNS)))
    for row, text, own in zip(rows, hypotheses, references, strict=True):
        # A call for each order, as in EFUF: method 7 looks one order ahead, after the last always at 5-grams,
        # so one call for all orders gives other values.
        scores = [sentence_bleu([own], text, [1 / order] * order, smooth) for order in ORDERS]
        row[:] = [1, *(100 * score for score in scores), len(text), len(own)]
    return rows


def score(
    captions: list[dict],
    truth: Truth,
    rule: Rule,
    *,
    tokenizer: str = "13a",
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """BLEU-1, -2 and -4 of captions against the truth's reference captions.

    Args:
      captions: records with `image_id` (or `image`) and `caption`.
      truth: the reference captions of each image, see `records.coco.read_truth`.
      rule: `word` (all references) or `efuf_char` (the last one listed, as EFUF's dict keeps it).
      tokenizer: how the word rule splits: `13a` (sacrebleu's own) or `coco` (lower case, no punctuation).
      dropped: reason → places of the records that reading the file left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `bleu_1`, `bleu_2`, `bleu_4` (0 to 100; corpus for `word`, mean over captions for
      `efuf_char`), for `word` also `…_sentence_mean`, `mean_length` and `mean_reference_length` (in tokens or
      characters), `n`, `skipped`, `dropped`, `intervals`, `rule`, `tokenizer`, `settings`, `per_image`.

    Raises:
      UserError: unknown rule, no references, two captions of an image, nothing to score.
    """
    if rule not in RULES or tokenizer not in TOKENIZERS:
        raise UserError(f"rule {rule!r}, tokenizer {tokenizer!r}: expected {RULES} and {tuple(TOKENIZERS)}")
    matched = _with_references(match_captions(captions, truth, dropped), truth)
    own = [truth.references[image_id] for image_id in matched.image_ids]
    if rule == "word":
        counts = word_counts(matched.texts, own, TOKENIZERS[tokenizer])
        metrics, columns = WORD_METRICS | WORD_REFERENCE, WORD_COLUMNS
        described = "words, all references, corpus, unsmoothed"
    else:
        counts = char_counts(matched.texts, [references[-1] for references in own])
        metrics, columns = CHAR_METRICS | CHAR_REFERENCE, CHAR_COLUMNS
        described = "characters, one reference, NLTK smoothing method 7, mean over captions"
    return {
        "metric": f"bleu.{rule}",
        **{name: bootstrap.value(counts, metric) for name, metric in metrics.items()},
        "n": len(counts),
        "references": sum(map(len, own)) if rule == "word" else len(own),
        "skipped": sum(map(len, matched.dropped.values())),
        "dropped": matched.dropped.summary(),
        "intervals": bootstrap.intervals(counts, metrics, draws=draws, seed=seed),
        "rule": f"{rule}: {described}",
        "tokenizer": tokenizer if rule == "word" else "characters",
        "settings": matched.settings,
        "per_image": bootstrap.per_image(matched.image_ids, columns, counts),
    }


def _with_references(matched: Captions, truth: Truth) -> Captions:
    """Leaves out, and counts, captions of images without a reference."""
    dropped = Dropped(matched.dropped)
    kept: dict[int, str] = {}
    for image_id, text in zip(matched.image_ids, matched.texts, strict=True):
        if truth.references.get(image_id):
            kept[image_id] = text
        else:
            dropped.add("no reference caption", image_id)
    if not kept:
        raise UserError(f"{truth.source}: no reference captions for these images; BLEU needs captions_*.json")
    return Captions(list(kept), list(kept.values()), dropped, matched.settings)


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation bleu`."""
    parser = console.parser("bleu", "BLEU-1, -2 and -4 of captions")
    parser.add_argument("--captions", required=True, help="JSON lines of image_id and caption")
    parser.add_argument("--truth", required=True, help="COCO annotations folder with captions_*.json")
    parser.add_argument("--rule", choices=RULES, action="append", help="both where none is given")
    parser.add_argument("--tokenizer", choices=TOKENIZERS, default="13a", help="of the word rule")
    console.add_common(parser)
    options = parser.parse_args(argv)
    truth = read_truth(options.truth)
    captions, dropped = read_records(options.captions)
    common = {
        "tokenizer": options.tokenizer,
        "dropped": dropped,
        "draws": options.draws,
        "seed": options.seed,
    }
    with console.naming(options.captions):
        results = {rule: score(captions, truth, rule, **common) for rule in options.rule or RULES}
    for result in results.values():
        result["settings"] |= {"captions": console.file_identity(options.captions)}
    if options.json:
        console.print_json(results)
        return
    for rule, result in results.items():
        names = [*(WORD_METRICS if rule == "word" else CHAR_METRICS), "mean_reference_length"]
        console.print_table(f"BLEU, {rule}", result, names)


def _measure(at_hand: AtHand, settings: None) -> dict[str, Any] | str:
    if not at_hand.has_references:
        return f"{NOT_MEASURED}: no reference captions"
    return {
        rule: score(at_hand.captions, at_hand.truth, rule, draws=at_hand.draws, seed=at_hand.seed)
        for rule in RULES
    }


METRIC = Metric(
    name="bleu",
    title="BLEU",
    about="BLEU-1, -2 and -4 against the reference captions, by words and by EFUF's rule (characters)",
    measure=_measure,
    command=main,
    counts={
        "bleu.word": ungrouped(WORD_COLUMNS, WORD_METRICS),
        "bleu.efuf_char": ungrouped(CHAR_COLUMNS, CHAR_METRICS),
    },
    columns=tuple(
        Measure(
            f"bleu{order}",
            f"BLEU-{order}",
            ("bleu", "word", f"bleu_{order}"),
            "higher",
            help="Overlap of word sequences with all reference captions; falls as captions outgrow them.",
        )
        for order in ORDERS
    ),
    other=tuple(
        Measure(
            f"bleu{order}_char",
            f"BLEU-{order}, characters",
            ("bleu", "efuf_char", f"bleu_{order}"),
            "higher",
        )
        for order in ORDERS
    ),
    rules={"word": "BLEU", "efuf_char": "BLEU, characters"},
)
