"""`curate.folder`: sets that somebody made elsewhere enter the road as they are, or are refused by name."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.errors import UserError
from sare_jax.records.curated import read_curated
from sare_jax.records.splits import Splits
from tests import tiny_llava
from tests.evaluation.small_worlds import write_coco

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own_data.md"
IDS = range(1, 7)


def name(image_id: int) -> str:
    return f"COCO_val2014_{image_id:012d}.jpg"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Six annotated images, a model, and in `sets` what the page's example makes."""
    root = tmp_path_factory.mktemp("world")
    write_coco(root / "annotations", {i: ["dog"] for i in IDS}, {i: ["a dog"] for i in IDS})
    (root / "images").mkdir()
    for i, picture in zip(IDS, tiny_llava.pictures(len(IDS)), strict=True):
        picture.save(root / "images" / name(i))
    (root / "model").mkdir()
    tiny_llava.write_llava(root / "model")
    lines = [f"{name(i)} ### a dog" for i in (1, 2, 3)]
    (root / "used.txt").write_text("\n".join(lines))
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        exec(compile(example, str(PAGE), "exec"), {})
    return root


@pytest.fixture
def sets(world, tmp_path) -> Path:
    """A copy of the sets, to be changed."""
    return Path(shutil.copytree(world / "sets", tmp_path / "sets"))


def settings(root: Path, sets: Path, stages: str = "prepare,caption,curate", **curate):
    return parse(
        {
            "name": "own",
            "stages": stages,
            "data": {
                "images": str(root / "images"),
                "annotations": str(root / "annotations"),
                "split": "efuf",
                "used": str(root / "used.txt"),
                "reserve_validation": 1,
                "reserve_test": 1,
            },
            "model": {"folder": str(root / "model"), "dtype": "float32"},
            "curate": {"folder": str(sets), **curate},
        }
    )


def change(sets: Path, table: str, **columns) -> None:
    with np.load(sets / f"{table}.npz") as archive:
        np.savez(sets / f"{table}.npz", **{**archive, **columns})


def test_the_pages_example_enters_the_road_without_captions_or_clip(world, sets, tmp_path):
    done = stages.run(settings(world, sets), tmp_path / "w").executed
    assert done == ["prepare/splits", "curate"]
    curated = read_curated(tmp_path / "w" / "curated")
    caption = str(curated.rows.caption[0])
    assert caption[curated.neg.start[0] : curated.neg.end[0]] == " near a red kite"
    assert curated.manifest["counts"] == {"neg": 1, "pos": 1, "sent": 0}
    assert curated.manifest["given"]["neg.npz"] == files.hash_file(sets / "neg.npz")
    assert stages.run(settings(world, sets), tmp_path / "w").executed == []
    done = stages.run(settings(world, sets, stages="prepare,curate"), tmp_path / "without").executed
    assert done == ["prepare/splits", "curate"]
    change(sets, "neg", score=np.ones(1, np.float32))
    assert stages.run(settings(world, sets), tmp_path / "w").executed == ["curate"]


def test_the_sets_of_another_run_keep_what_their_manifest_tells(world, sets, tmp_path):
    told = {"thresholds": {"t0": 1.0}, "dropped": {"objects": {"between": 3}}, "counts": {"neg": 1}}
    (sets / "manifest.json").write_text(json.dumps(told))
    stages.run(settings(world, sets), tmp_path / "w")
    manifest = read_curated(tmp_path / "w" / "curated").manifest
    assert manifest["thresholds"] == told["thresholds"]
    assert manifest["dropped"] == told["dropped"]


@pytest.mark.parametrize(
    ("by", "column"), [("name", {"image": np.array([name(5)])}), ("number", {"image_id": np.array([5])})]
)
def test_images_that_are_set_aside_are_refused(world, sets, tmp_path, by, column):
    change(sets, "rows", **column)
    with pytest.raises(UserError, match=r"rows\.npz: .* 1 images are reserved .*: COCO_val2014_0+[15]\.jpg"):
        stages.run(settings(world, sets), tmp_path / "w")
    split = Splits.read(tmp_path / "w" / "splits.json")
    assert 5 in {image.id for image in (*split.val, *split.test)}
    assert not (tmp_path / "w" / "curated").exists()


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (
            "rows",
            {"image": np.array(["9.jpg"]), "image_id": np.array([9])},
            r"1 of 1 images cannot be used: .*9.jpg: missing",
        ),
        ("rows", {"caption": np.array(["A dog."])}, r"neg\.npz: unit 0 has the span 24:40, not in its capt"),
        ("neg", {"row": np.array([1])}, r"neg\.npz: row points outside of the 1 captions"),
        (
            "pos",
            {"score": np.array([np.nan], np.float32)},
            r"pos\.npz: score holds NaN or infinity; docs",
        ),
        ("pos", {"start": np.array([0.5])}, r"pos\.npz: start is float64\[1\]; docs/own_data\.md says"),
    ],
)
def test_what_does_not_fit_is_named(world, sets, tmp_path, table, columns, message):
    change(sets, table, **columns)
    with pytest.raises(UserError, match=message):
        stages.run(settings(world, sets), tmp_path / "w")


def test_an_empty_d_neg_a_bad_manifest_and_missing_files_are_named(world, sets, tmp_path):
    (sets / "manifest.json").write_text('{"dropped": {"objects": 3}}')
    with pytest.raises(UserError, match=r"manifest\.json: 'dropped': 'objects' is 3, need an object"):
        stages.run(settings(world, sets), tmp_path / "w")
    (sets / "manifest.json").write_text("{}")
    with np.load(sets / "neg.npz") as archive:
        np.savez(sets / "neg.npz", **{key: values[:0] for key, values in archive.items()})
    with pytest.raises(UserError, match=r"neg\.npz: holds no unit"):
        stages.run(settings(world, sets), tmp_path / "w")
    (sets / "pos.npz").unlink()
    with pytest.raises(UserError, match=r"config\.curate\.folder: .*pos\.npz: no such file; docs/own_data"):
        stages.run(settings(world, sets), tmp_path / "w")
    with pytest.raises(UserError, match=r"config\.curate\.folder: gone: no such folder"):
        stages.run(settings(world, Path("gone")), tmp_path / "w")
    with pytest.raises(UserError, match=r"config\.curate\.folder: the sets come from config\.curate\.efuf"):
        settings(world, sets, efuf="x")
