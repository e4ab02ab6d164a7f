"""What must not change a score: order, the size of a batch, records that stand in a file twice."""

import json
import random

import pytest

from sare_jax.evaluation.benchmarks import gqa, hallusion, mme, qbench, repope, scienceqa
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.metrics import bleu, chair, language_model, perplexity, pope
from sare_jax.records.coco import read_truth
from tests.evaluation.benchmarks.small_benchmarks import (
    pairs,
    write_gqa,
    write_mme,
    write_qbench,
    write_scienceqa,
)
from tests.evaluation.benchmarks.small_judges import write_hallusion, write_repope
from tests.evaluation.small_worlds import write_coco

NOUNS = ("dog", "cat", "cup", "train", "man", "tables", "wine glasses", "hot dog", "bear", "sky")
SEEDS = range(5)


def sentence(rng: random.Random) -> str:
    return " ".join(
        f"a {rng.choice(NOUNS)} {rng.choice(('near', 'and', 'on'))}" for _ in range(rng.randrange(7))
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Random annotations, references and captions of 40 images, some captions empty."""
    rng = random.Random(0)
    ids = rng.sample(range(1, 10**6), 40)
    categories = {
        i: rng.sample(("dog", "cat", "cup", "train", "person", "bear"), rng.randrange(1, 5)) for i in ids
    }
    references = {i: [sentence(rng) + " so" for _ in range(rng.randrange(1, 5))] for i in ids}
    folder = write_coco(tmp_path_factory.mktemp("world"), categories, references)
    return read_truth(folder), [{"image_id": i, "caption": sentence(rng)} for i in ids]


def numbers(result, names):
    return [result[name] for name in names]


def disturbed(records, rng):
    """The records in another order, a third of them twice."""
    again = rng.sample(records, len(records) // 3)
    mixed = [dict(record) for record in [*records, *again]]
    rng.shuffle(mixed)
    return mixed


@pytest.mark.parametrize("seed", SEEDS)
def test_chair_and_bleu(world, seed):
    truth, captions = world
    rng = random.Random(seed)
    mixed = disturbed(captions, rng)
    assert numbers(chair.score(mixed, truth, draws=2), chair.METRICS) == pytest.approx(
        numbers(chair.score(captions, truth, draws=2), chair.METRICS), abs=1e-12
    )
    for rule, metrics in (("word", bleu.WORD_METRICS), ("efuf_char", bleu.CHAR_METRICS)):
        assert numbers(bleu.score(mixed, truth, rule, draws=2), metrics) == pytest.approx(
            numbers(bleu.score(captions, truth, rule, draws=2), metrics), abs=1e-9
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_references_changes_only_the_rule_that_takes_one(world, seed, tmp_path):
    truth, captions = world
    rng = random.Random(seed)
    shuffled = {i: rng.sample(texts, len(texts)) for i, texts in truth.references.items()}
    other = read_truth(write_coco(tmp_path, {i: list(c) for i, c in truth.instances.items()}, shuffled))
    assert numbers(chair.score(captions, other, draws=2), chair.METRICS) == numbers(
        chair.score(captions, truth, draws=2), chair.METRICS
    )
    assert numbers(bleu.score(captions, other, "word", draws=2), bleu.WORD_METRICS) == numbers(
        bleu.score(captions, truth, "word", draws=2), bleu.WORD_METRICS
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_pope(world, seed):
    truth, _ = world
    rng = random.Random(seed)
    questions = pope.build(truth, "random", num_images=10, questions_per_image=2, seed=seed)
    texts = ("Yes", "No.", "There is none", "maybe", "", "Yes, a dog.")
    answers = [{"question_id": q["question_id"], "answer": rng.choice(texts)} for q in questions]
    plain = pope.score(questions, answers, draws=2)
    mixed = pope.score(rng.sample(questions, len(questions)), disturbed(answers, rng), draws=2)
    for first, second in ((plain, mixed), (plain["robust"], mixed["robust"])):
        assert numbers(first, pope.METRICS) == numbers(second, pope.METRICS)
    assert plain["questions"] == mixed["questions"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("module", "write"),
    [
        (mme, lambda folder: write_mme(folder, {"count": pairs("a", "b", "c"), "OCR": pairs("d", "e")})),
        (
            gqa,
            lambda folder: write_gqa(
                folder, {str(i): (f"n{i % 3}", "Is it?", "yes", "verify") for i in range(9)}
            ),
        ),
        (scienceqa, write_scienceqa),
        (qbench, write_qbench),
        (hallusion, write_hallusion),
        (repope, write_repope),
    ],
)
def test_benchmarks(module, write, seed, tmp_path):
    rng = random.Random(seed)
    asked = requests(module.BENCHMARK, write(tmp_path))
    answers = [{**r, "text": rng.choice(("Yes", "no", "A", "B. it", "The answer is C.", ""))} for r in asked]
    plain = module.BENCHMARK.score(asked, answers, draws=2)
    mixed = module.BENCHMARK.score(rng.sample(asked, len(asked)), disturbed(answers, rng), draws=2)
    names = module.BENCHMARK.shown
    assert numbers(plain, names) == pytest.approx(numbers(mixed, names), abs=1e-12)
    assert plain["questions"] == mixed["questions"]


@pytest.mark.parametrize("limit", [1, 64, 200, 10**6])
def test_perplexity_at_any_batch_size_and_in_any_order(world, lm_folder, monkeypatch, limit):
    texts = [record["caption"] for record in world[1] if record["caption"]][:12]
    plain = perplexity.score(texts, lm_folder, draws=2)
    monkeypatch.setattr(language_model, "BATCH_TOKENS", limit)
    mixed = perplexity.score(texts[::-1], lm_folder, draws=2)
    assert numbers(mixed, perplexity.METRICS) == pytest.approx(numbers(plain, perplexity.METRICS), rel=1e-5)
    assert mixed["per_image"]["nll"][::-1] == pytest.approx(plain["per_image"]["nll"], rel=1e-5)


def test_a_caption_that_stands_there_twice_counts_once_for_perplexity_too(world, lm_folder, tmp_path, capsys):
    path = tmp_path / "captions.jsonl"
    records = [record for record in world[1] if record["caption"]][:6]
    rows = []
    for listed in (records, records + records[:3]):
        path.write_text("".join(json.dumps(record) + "\n" for record in listed))
        perplexity.main(["--captions", str(path), "--model", str(lm_folder), "--json"])
        rows.append(json.loads(capsys.readouterr().out))
    assert numbers(rows[0], perplexity.METRICS) == numbers(rows[1], perplexity.METRICS)
    assert rows[1]["dropped"]["repeated"]["count"] == 3
