import json
import re

import numpy as np
import pytest

from sare_jax.curation import scored as scored_module
from sare_jax.curation import scoring, stage
from sare_jax.curation.audit import auc
from sare_jax.curation.clip import ClipConfig
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.scored import Work
from sare_jax.curation.select import PAPER, Thresholds
from sare_jax.curation.truth import Truth
from sare_jax.curation.windows import Windows
from sare_jax.data import images
from sare_jax.errors import UserError
from sare_jax.records.arrays import read_arrays, write_arrays
from sare_jax.records.curated import read_curated
from sare_jax.settings import QuantileThresholds
from tests.curation.tiny_clip import CAPTIONS, make_clip_folder, write_captions
from tests.faults.mutate import DAMAGES

QUANTILES = QuantileThresholds(q0=0.7, q1=0.3, q2=0.4)
SMALL = Windows(patch=16, window=4)
TWO_BY_TWO = Work(image_batch=2, view_batch=4, workers=2)


@pytest.fixture
def curate(world, clip_folder, nlp, tmp_path):
    """Curates the small world; keywords override."""
    captions, images = world

    def run(out=tmp_path / "curated", reserved=(), truth=None, **changes):
        settings = {
            "clip": ClipConfig(str(clip_folder), device="cpu"),
            "thresholds": QUANTILES,
            "windows": SMALL,
            "work": TWO_BY_TWO,
            "extractor": spacy_extractor(nlp),  # loaded once for all tests
        }
        return stage.curate(
            captions, images, out, Recipe(**settings | changes), reserved=reserved, truth=truth
        )

    return run


def same_arrays(a, b):
    left, right = read_curated(a), read_curated(b)
    for table in ("rows", "neg", "pos", "sent"):
        for name, values in vars(getattr(left, table)).items():
            np.testing.assert_array_equal(values, getattr(getattr(right, table), name))
    assert len(left.neg)
    assert len(left.pos)


def test_units_point_into_their_captions(curate, tmp_path):
    manifest = curate()
    curated = read_curated(tmp_path / "curated")
    assert manifest == curated.manifest
    assert (len(curated.neg), len(curated.pos), len(curated.sent)) == tuple(
        manifest["counts"][name] for name in ("neg", "pos", "sent")
    )
    for units in (curated.neg, curated.pos):
        for row, start, end, phrase, m_start, m_end in zip(
            units.row,
            units.start,
            units.end,
            units.object,
            units.mention_start,
            units.mention_end,
            strict=True,
        ):
            caption = curated.rows.caption[row]
            assert caption in CAPTIONS
            assert caption[m_start:m_end].lower() == phrase
            assert start <= m_start < m_end <= end
            assert caption[end - 1] not in ",.;!?:"
            assert start == 0 or caption[start] == " "
    assert (curated.neg.score < manifest["thresholds"]["t1"]).all()
    assert (curated.pos.score > manifest["thresholds"]["t0"]).all()


def test_manifest_says_what_reproduces_it(curate, clip_folder):
    manifest = curate()
    assert manifest["clip"]["model"] == "local-dir:tiny-clip"
    assert len(manifest["clip"]["weights"]) == 64
    assert manifest["clip"]["prompt"] == "A photo containing {object}."
    assert manifest["windows"] == {"patch": 16, "window": 4, "top_patches": 4}
    assert manifest["sentence_rule"] == "paper"
    assert manifest["thresholds"]["chosen"]["how"] == "quantiles of the scores"
    assert manifest["counts"]["captions"] == manifest["counts"]["captions_scored"] == 6
    assert manifest["counts"]["images_scored_whole"] == 1  # 40 pixels wide
    assert manifest["dropped"]["mentions"]["repeated_mention"] == 1  # "The dog … The dog"


def test_cur_12_thresholds_of_another_model_are_refused(curate, clip_folder, tmp_path):
    with pytest.raises(UserError, match=r"ViT-B-32-quickgelu/openai.*local-dir:tiny-clip"):
        curate(thresholds=PAPER)
    manifest = curate()
    kept = Thresholds(**manifest["thresholds"])
    other = make_clip_folder(tmp_path / "other-clip", seed=1)
    with pytest.raises(UserError, match=r"local-dir:tiny-clip.*local-dir:other-clip"):
        curate(thresholds=kept, clip=ClipConfig(str(other), device="cpu"))
    assert curate(thresholds=kept)["thresholds"] == manifest["thresholds"]


def test_cur_04_records_that_do_not_fit_are_counted(curate, world, tmp_path):
    captions, _ = world
    records = [json.loads(line) for line in captions.read_text().splitlines()][:2]
    write_captions(captions, [*records, {"image_id": 2, "image": "2.png", "caption": "It is so calm."}])

    def one_score_short(scorer, batches):
        for batch in scored_module.local(scorer, batches):
            batch[1]["scores"][0].pop()
            yield batch

    manifest = curate(engine=one_score_short)
    assert manifest["dropped"]["captions"] == {"mismatch": 1, "no object": 1}
    assert manifest["counts"]["captions_scored"] == 1


def test_cur_14_text_goes_through_byte_for_byte(curate, world, tmp_path):
    captions, _ = world
    texts = [
        "A dog. Sign reads ### sale",
        "A dog runs\nnear a cat",
        "A cat, Stars *",
        "A dog in a café 🐶, and a cat",
        "A\u2028dog; a car\x85",
        'A red kite \\ "quoted", a dog',
    ]
    write_captions(
        captions, [{"image_id": i, "image": f"{i}.png", "caption": t} for i, t in enumerate(texts)]
    )
    manifest = curate(thresholds=Thresholds(1e3, 1e3, -1e3))
    assert manifest["counts"]["captions"] == 6
    rows = read_curated(tmp_path / "curated").rows
    assert [str(c) for c in rows.caption] == texts
    assert rows.image_id.tolist() == list(range(6))


def test_cur_15_reserved_images_are_refused(curate):
    with pytest.raises(UserError, match=r"2 images reserved.*image_id 3"):
        curate(reserved={3, 5, 99})


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "damaged"),  # CUR-16
        (lambda path: path.write_bytes(b""), "unidentified"),  # IM-11
        (lambda path: path.write_text("<html>404</html>"), "unidentified"),
        (lambda path: path.unlink(), "missing"),
    ],
    ids=["cur_16_truncated", "im_11_zero_bytes", "im_11_html", "missing"],
)
def test_one_bad_image_is_skipped_counted_and_named(curate, world, damage, kind):
    _, images = world
    damage(images / "3.png")
    manifest = curate()
    assert manifest["counts"]["captions_scored"] == 5
    assert manifest["dropped"]["captions"] == {f"image {kind}": 1}
    assert [bad["image"] for bad in manifest["bad_images"]] == ["3.png"]
    with pytest.raises(UserError, match=r"3\.png"):
        curate(bad_images="raise")


def test_a_name_that_leaves_the_image_folder_is_not_followed(curate, world):
    captions, images = world
    (images / "0.png").rename(images.parent / "0.png")
    records = [json.loads(line) for line in captions.read_text().splitlines()]
    records[0]["image"] = "../0.png"
    write_captions(captions, records)
    assert curate()["dropped"]["captions"] == {"image outside the folder": 1}


def test_an_interrupted_run_goes_on_and_gives_the_same_arrays(curate, tmp_path):
    curate(tmp_path / "whole")
    calls = []

    def stops_after(count):
        def engine(scorer, batches):
            for batch, records in zip(batches, scored_module.local(scorer, batches), strict=True):
                if len(calls) == count:
                    raise KeyboardInterrupt
                calls.append(batch)
                yield records

        return engine

    with pytest.raises(KeyboardInterrupt):
        curate(tmp_path / "resumed", engine=stops_after(2))
    assert not (tmp_path / "resumed").exists()
    with (tmp_path / ".resumed_work" / "scores" / "scores.jsonl").open("a") as stream:
        stream.write('[{"image": "4.png", "whole": fal')  # killed while writing
    curate(tmp_path / "resumed", engine=stops_after(99))
    assert sorted(job.image for batch in calls for job in batch) == [f"{i}.png" for i in range(6)]
    same_arrays(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_scratch_is_made_again(curate, tmp_path, damage):
    curate(tmp_path / "whole")
    curate(tmp_path / "again")
    kept = [
        path
        for part in ("objects", "scores")
        for path in sorted((tmp_path / ".again_work" / part).rglob("*"))
        if path.is_file()
    ]
    assert {path.suffix for path in kept} == {"", ".jsonl", ".npz"}
    for path in kept:
        DAMAGES[damage](path)
        curate(tmp_path / "again")
        same_arrays(tmp_path / "whole", tmp_path / "again")
        assert path.exists()


def test_a_changed_score_is_noticed(curate, tmp_path):
    curate(tmp_path / "whole")
    curate(tmp_path / "again")
    journal = tmp_path / ".again_work" / "scores" / "scores.jsonl"
    text = journal.read_text()
    number = re.search(r"\d\d\.\d", text)[0]
    journal.write_text(text.replace(number, f"{float(number) + 1:.1f}", 1))
    curate(tmp_path / "again")
    same_arrays(tmp_path / "whole", tmp_path / "again")
    assert journal.read_text() == text


@pytest.mark.parametrize(
    "change",
    {
        "fewer": lambda kept: {name: values[:-1] for name, values in kept.items()},
        "shorter": lambda kept: kept | {"features": kept["features"][:, :-1, None]},
        "other_phrases": lambda kept: kept | {"phrases": kept["phrases"][::-1]},
        "other_type": lambda kept: kept | {"features": kept["features"].astype(np.float64)},
        "nothing": lambda kept: {},
    }.items(),
    ids=lambda item: item[0],
)
def test_kept_phrases_that_do_not_fit_are_made_again(curate, tmp_path, change, caplog):
    curate(tmp_path / "whole")
    curate(tmp_path / "again")
    (tmp_path / ".again_work" / "scores" / "scores.jsonl").unlink()
    (path,) = (tmp_path / ".again_work" / "scores" / "phrases").iterdir()
    write_arrays(path, change[1](read_arrays(path)))
    caplog.clear()
    curate(tmp_path / "again")
    assert [message.endswith("; made again") for message in caplog.messages] == [True]
    same_arrays(tmp_path / "whole", tmp_path / "again")


@pytest.mark.parametrize("line", [b"3\n", b"null\n", b'{"sum": "", "value": []}\n', b"twice"])
def test_a_line_of_the_scores_that_nobody_wrote_there_is_discarded(curate, tmp_path, line, caplog):
    curate(tmp_path / "whole")
    curate(tmp_path / "again")
    path = tmp_path / ".again_work" / "scores" / "scores.jsonl"
    first, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, first if line == b"twice" else line, *others]))
    caplog.clear()
    curate(tmp_path / "again")
    assert ["line 2 changed since it was written" in message for message in caplog.messages] == [True]
    assert path.read_bytes() == b"".join([first, *others])
    same_arrays(tmp_path / "whole", tmp_path / "again")


def test_new_thresholds_score_nothing_anew(curate):
    first = curate()
    never = None  # calling it would fail
    second = curate(
        thresholds=QuantileThresholds(q0=0.9, q1=0.1, q2=0.5), rule="efuf", conflicts="drop", engine=never
    )
    assert second["counts"]["objects"] == first["counts"]["objects"]
    assert second["counts"]["neg"] < first["counts"]["neg"]
    assert second["scores"] == first["scores"]


def test_other_scores_are_not_reused(curate, world):
    _, images = world
    first = curate()
    assert curate(windows=None)["scores"] != first["scores"]
    (images / "0.png").write_bytes((images / "1.png").read_bytes())
    assert curate()["scores"] != first["scores"]


def test_batch_sizes_do_not_move_scores(curate):
    a = curate(work=Work(image_batch=1, view_batch=3, workers=1))["scores"]["objects"]
    b = curate(work=Work(image_batch=6, view_batch=64, workers=3))["scores"]["objects"]
    np.testing.assert_allclose(a, b, atol=1e-3)


def test_several_captions_of_one_image_decode_it_once(curate, world, monkeypatch):
    captions, _ = world
    records = [{"image_id": i % 2, "image": f"{i % 2}.png", "caption": c} for i, c in enumerate(CAPTIONS)]
    write_captions(captions, records)
    loaded = []

    def load_image(path, max_pixels):
        loaded.append(path.name)
        return images.load_image(path, max_pixels)

    monkeypatch.setattr(scoring, "load_image", load_image)
    assert curate()["counts"]["images_scored"] == 2
    assert sorted(loaded) == ["0.png", "1.png"]


def test_truth_is_recorded_and_selects_nothing(curate, tmp_path):
    names = ("dog", "cat", "frisbee", "person", "kite", "bench", "car", "umbrella")
    truth = Truth(
        {i: frozenset({"dog", "cat", "car"}) for i in range(6)},
        lambda phrase: [name for name in names if name in phrase.split()],
    )
    curate(tmp_path / "without")
    manifest = curate(tmp_path / "with", truth=truth)
    same_arrays(tmp_path / "without", tmp_path / "with")
    audit = manifest["audit"]
    neg = read_curated(tmp_path / "with").neg
    judged = [phrase for phrase in neg.object if truth.categories_of(phrase)]
    absent = [phrase for phrase in judged if truth.categories_of(phrase)[-1] not in ("dog", "cat", "car")]
    assert audit["neg"]["judged"] == len(judged)
    assert audit["neg"]["precision"] == len(absent) / len(judged)
    assert audit["judged"] + audit["unjudged"] == manifest["counts"]["objects"]
    with pytest.raises(UserError, match="image_id 5"):
        curate(truth=Truth({i: frozenset() for i in range(5)}, truth.categories_of))


def test_auc_counts_pairs():
    scores, labels = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, True, False, True])
    assert auc(scores, labels) == (1 + 0.5 + 1 + 1) / 4
    assert auc(scores, np.ones(4, bool)) is None


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], "no record in it"),
        ([{"caption": "A dog."}], "1 no image named"),
        ([{"image_id": 0, "image": "0.png", "caption": None}], "1 caption is no text"),
        ([{"image_id": 0, "image": "0.png", "caption": "It is calm and quiet."}], "names an object"),
        ([{"image_id": 0, "image": "0.png", "caption": "  "}], "names an object"),
        ([{"image_id": 0, "image": "x.png", "caption": "A dog."}], "none of the 1 captioned images"),
    ],
)
def test_captions_that_cannot_be_used(curate, world, captions, message):
    write_captions(world[0], captions)
    with pytest.raises(UserError, match=message):
        curate()


def test_empty_d_neg_says_what_to_change_and_leaves_what_was_there(curate, tmp_path):
    curate()
    before = (tmp_path / "curated" / "neg.npz").read_bytes()
    with pytest.raises(UserError, match=r"D_neg is empty.*raise curate\.thresholds\.t1 or q1"):
        curate(thresholds=Thresholds(1000, -1000, 0))
    assert (tmp_path / "curated" / "neg.npz").read_bytes() == before


def test_image_folder_missing_or_empty(world, clip_folder, tmp_path):
    captions, _ = world
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such image folder"), ("empty", "folder is empty")):
        with pytest.raises(UserError, match=message):
            stage.curate(
                captions, tmp_path / name, tmp_path / "out", Recipe(clip=ClipConfig(str(clip_folder)))
            )
