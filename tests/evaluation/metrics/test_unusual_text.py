"""Text that is not ASCII through the measures (its way through the tokenizers is in data/test_prompts.py)."""

import json
import math

from sare_jax.evaluation.metrics import bleu, chair, perplexity
from sare_jax.records.coco import read_truth
from tests.evaluation.small_worlds import write_coco

TEXT = "A dog in a café 🐶 〜 with a “quoted” chair."


def test_tk_10_measures_take_all_characters(tmp_path, lm_folder):
    truth = read_truth(write_coco(tmp_path, {1: ["dog"]}, {1: [TEXT, "A dog — naïve."]}))
    captions = [{"image_id": 1, "caption": TEXT}]
    objects = chair.score(captions, truth)
    # The references name the chair too.
    assert (objects["chair_i"], objects["recall"]) == (0, 100)
    for rule in bleu.RULES:
        overlap = bleu.score(captions, truth, rule)
        json.dumps(overlap, allow_nan=False)
    assert round(bleu.score(captions, truth, "word")["bleu_4"]) == 100
    assert math.isfinite(perplexity.score([TEXT], lm_folder)["mean"])
    assert perplexity.score([TEXT], lm_folder)["per_image"]["tokens"] == [len(TEXT.encode())]
