import json
import math

import numpy as np
import pytest
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu
from sacrebleu.metrics import BLEU

from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import bleu
from sare_jax.records.coco import read_truth
from tests.evaluation.small_worlds import truth_of, write_coco


def corpus(hypotheses, references, order=1, tokenizer=bleu.tokenize_13a):
    return float(bleu.corpus_bleu(bleu.word_counts(hypotheses, references, tokenizer).sum(axis=0), order))


def world(tmp_path, references):
    return read_truth(write_coco(tmp_path, {image_id: [] for image_id in references}, references))


def test_bl_02_all_references_clip_counts():
    both = ["a dog runs", "the brown dog is running on grass"]
    assert corpus(["the brown dog runs"], [both]) == 100
    assert corpus(["the brown dog runs"], [both[1:]]) == pytest.approx(35.43, abs=5e-3)


def test_bl_03_references_belong_to_texts():
    hypotheses = ["A B C", "x y z", "C D E"]
    own = [["A B C"], ["X Y Z"], ["C D E"]]
    assert corpus(hypotheses, own) == pytest.approx(66.67, abs=5e-3)
    with pytest.raises(UserError, match=r"3 texts but references for 1"):
        bleu.word_counts(hypotheses, [["A B C", "X Y Z", "C D E"]])
    with pytest.raises(UserError, match="1 text"):
        bleu.word_counts(hypotheses, [["A B C"], [], ["C D E"]])


def test_bl_05_short_texts_are_never_nan(tmp_path):
    assert corpus(["happy"], [["happy"]]) == 100
    assert corpus(["happy"], [["happy"]], order=4) == 0
    truth = world(tmp_path, {1: ["happy"], 2: ["sad"]})
    captions = [{"image_id": 1, "caption": "happy"}, {"image_id": 2, "caption": ""}]
    for rule in bleu.RULES:
        json.dumps(bleu.score(captions, truth, rule), allow_nan=False)


def test_bl_06_tokenizers_are_named_and_serve_both_sides(tmp_path):
    truth = world(tmp_path, {1: ["a dog, a cat."]})
    captions = [{"image_id": 1, "caption": "a dog a cat"}]
    coco = bleu.score(captions, truth, "word", tokenizer="coco")
    plain = bleu.score(captions, truth, "word", tokenizer="13a")
    assert (coco["bleu_4"], coco["tokenizer"]) == (100, "coco")
    assert plain["bleu_1"] < 100
    assert plain["tokenizer"] == "13a"
    with pytest.raises(UserError, match="ptb"):
        bleu.score(captions, truth, "word", tokenizer="ptb")


def test_bl_07_an_image_captioned_twice_is_an_error(tmp_path):
    truth = world(tmp_path, {7: ["a dog"]})
    captions = [{"image_id": 7, "caption": text} for text in ("a dog", "a cat")]
    for rule in bleu.RULES:
        with pytest.raises(UserError, match=r"image\(s\) 7"):
            bleu.score(captions, truth, rule)


def test_bl_08_a_tokenizer_that_loses_texts_stops():
    with pytest.raises(UserError, match="tokeniser returned nothing for 2 captions"):
        bleu.word_counts(["a dog", "a cat", ""], [["a dog"]] * 3, lambda text: "")


def test_bl_09_one_reference_is_enough():
    # 4 of 5 words, 2 of 4 pairs; as long as the reference, so no brevity penalty
    one = [["a dog runs on grass"]]
    assert corpus(["a dog sits on grass"], one, order=2) == pytest.approx(100 * math.sqrt(4 / 5 * 2 / 4))


def test_bl_10_corpus_and_sentence_mean_have_their_own_names(tmp_path):
    truth = world(tmp_path, {1: ["a cat"], 2: ["the dog sat on a mat"]})
    captions = [{"image_id": 1, "caption": "a cat"}, {"image_id": 2, "caption": "a dog sits on the red mat"}]
    result = bleu.score(captions, truth, "word")
    assert result["bleu_1"] == pytest.approx(77.78, abs=5e-3)
    assert result["bleu_1_sentence_mean"] == pytest.approx(85.71, abs=5e-3)


def test_bl_11_a_perfect_match_is_exactly_100(tmp_path):
    text = "The kitchen holds a white stove, two pans and a kettle that boils."
    truth = world(tmp_path, {1: [text], 2: [text + " So it is."]})
    captions = [{"image_id": i, "caption": truth.references[i][0]} for i in (1, 2)]
    result = bleu.score(captions, truth, "word")
    assert [result[f"bleu_{order}"] for order in (1, 2, 4)] == [100.0, 100.0, 100.0]
    assert result["intervals"]["bleu_4"] == [100.0, 100.0]


@pytest.fixture(scope="module")
def real_pairs(coco80):
    """Real captions, each of the length that models write, with the image's other references."""
    truth = read_truth(coco80)
    hypotheses = [" ".join(truth.references[i][:2]) for i in truth.image_ids]
    return hypotheses, [list(truth.references[i][2:]) for i in truth.image_ids]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_word_rule_equals_sacrebleu(real_pairs, order):
    hypotheses, references = real_pairs
    streams = [[own[k] if k < len(own) else None for own in references] for k in range(4)]
    theirs = BLEU(max_ngram_order=order, smooth_method="none").corpus_score(hypotheses, streams[:3])
    ours = corpus(hypotheses, [own[:3] for own in references], order)
    assert ours == pytest.approx(theirs.score, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("tokenizer", ["13a", "coco"])
def test_word_rule_equals_nltk(real_pairs, order, tokenizer):
    hypotheses, references = real_pairs
    tokens = bleu.TOKENIZERS[tokenizer]
    theirs = corpus_bleu(
        [[tokens(text).split() for text in own] for own in references],
        [tokens(text).split() for text in hypotheses],
        weights=[1 / order] * order,
    )
    assert corpus(hypotheses, references, order, tokens) == pytest.approx(100 * theirs, abs=1e-9)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_efuf_rule_equals_nltk_called_for_one_caption(coco80, real_pairs, order):
    truth = read_truth(coco80)
    captions = [{"image_id": i, "caption": t} for i, t in zip(truth.image_ids, real_pairs[0], strict=True)]
    smooth = SmoothingFunction().method7
    theirs = [
        sentence_bleu([truth.references[c["image_id"]][-1]], c["caption"], (1 / order,) * order, smooth)
        for c in captions
    ]
    result = bleu.score(captions, truth, "efuf_char", draws=2)
    assert result[f"bleu_{order}"] == pytest.approx(100 * sum(theirs) / len(theirs), abs=1e-9)


def character_bleu(text, reference, order):
    """The lineage's rule, written out: clipped character n-grams, NLTK's method 4, then 5, brevity."""

    def precision(n):
        grams = [text[i : i + n] for i in range(len(text) - n + 1)]
        theirs = [reference[i : i + n] for i in range(len(reference) - n + 1)]
        matches = sum(min(grams.count(gram), theirs.count(gram)) for gram in set(grams))
        return matches, max(1, len(grams))

    if not text or precision(1)[0] == 0:
        return 0.0
    values, unseen = [], 1
    for n in range(1, order + 1):
        matches, total = precision(n)
        if matches == 0 and len(text) > 1:
            values.append(math.log(len(text)) / (2**unseen * 5) / total)
            unseen += 1
        else:
            values.append(matches / total)
    ahead = [*values[1:], precision(5)[0] / precision(5)[1]]
    smooth, last = [], values[0] + 1
    for value, following in zip(values, ahead, strict=True):
        last = (last + value + following) / 3
        smooth.append(last)
    brevity = min(0.0, 1 - len(reference) / len(text))
    return 100 * math.exp(brevity + sum(map(math.log, smooth)) / order)


def test_efuf_rule_equals_its_definition(real_pairs):
    hypotheses, references = real_pairs
    texts = [*hypotheses[:12], "", "x", "zq", "A dog."]
    own = [*(r[-1] for r in references[:12]), "a dog", "x", "a dog", "A dog runs on the grass."]
    rows = bleu.char_counts(texts, own)
    expected = [[character_bleu(t, o, n) for n in (1, 2, 4)] for t, o in zip(texts, own, strict=True)]
    np.testing.assert_allclose(rows[:, 1:4], expected, atol=1e-9)


def test_efuf_rule_takes_the_last_reference_and_has_a_floor(tmp_path):
    truth = world(tmp_path, {1: ["something else", "a dog runs"], 2: ["zzz", "zzz"]})
    captions = [{"image_id": 1, "caption": "a dog runs"}, {"image_id": 2, "caption": "zx" * 400}]
    result = bleu.score(captions, truth, "efuf_char")
    same, unrelated = result["per_image"]["sentence_1"]
    assert same == pytest.approx(100 * (2 + 1 + 1) / 3)  # method 7 exceeds 100
    assert unrelated > 33.3  # with next to nothing in common
    assert result["references"] == 2


def test_images_without_references_are_counted(tmp_path):
    truth = read_truth(write_coco(tmp_path, {1: ["dog"], 2: ["cat"]}, {1: ["a dog"]}))
    captions = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat"}]
    result = bleu.score(captions, truth, "word")
    assert (result["n"], result["dropped"]["no reference caption"]["which"]) == (1, ["2"])
    with pytest.raises(UserError, match="captions_"):
        bleu.score(captions, truth_of(tmp_path, {1: ["dog"], 2: ["cat"]}), "word")


def test_command_line_on_real_images(coco80, tmp_path, capsys):
    truth = read_truth(coco80)
    path = tmp_path / "captions.jsonl"
    rows = [{"image_id": i, "caption": truth.references[i][0]} for i in truth.image_ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bleu.main(["--captions", str(path), "--truth", str(coco80), "--json"])
    results = json.loads(capsys.readouterr().out)
    assert results["word"]["bleu_4"] == 100.0
    assert results["efuf_char"]["bleu_1"] < 90
    bleu.main(["--captions", str(path), "--truth", str(coco80), "--rule", "efuf_char"])
    shown = capsys.readouterr().out
    assert "BLEU, efuf_char" in shown
    assert "BLEU, word" not in shown
