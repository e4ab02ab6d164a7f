"""Two runs at once in one folder: the second one ends in a line and touches nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.curation import command as curation
from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import pope
from sare_jax.locks import locked
from sare_jax.records.curated import write_curated
from sare_jax.report import command as report
from tests import tiny_llava
from tests.evaluation.small_worlds import write_coco
from tests.records.test_curated import example

HOLDING = """
import sys
from pathlib import Path
from sare_jax.locks import locked
with locked(Path(sys.argv[1]) / ".lock", Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model").mkdir()
    tiny_llava.write_llava(tmp_path / "model")
    write_coco(tmp_path / "annotations", {i: ["dog"] for i in range(1, 5)}, {})
    (tmp_path / "images").mkdir()
    for i, picture in enumerate(tiny_llava.pictures(4), start=1):
        picture.save(tmp_path / "images" / f"COCO_val2014_{i:012d}.jpg")
    data = {"reserve_validation": 1, "reserve_test": 1}
    data |= {name: str(tmp_path / name) for name in ("images", "annotations")}
    return parse(
        {"name": "x", "stages": "prepare", "data": data, "model": {"folder": str(tmp_path / "model")}}
    )


REFUSED = {
    "pope": lambda workdir, coco: pope.main(
        [
            *f"build --truth {coco} --kind random --out {workdir}/q.jsonl".split(),
            *["--images", "1", "--questions-per-image", "2"],
        ]
    ),
    "report": lambda workdir, coco: report.main([str(workdir)]),
    "export-efuf": lambda workdir, coco: curation.main(
        ["export-efuf", "--curated", f"{workdir}/curated", "--efuf", f"{workdir}/efuf"]
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_that_writes_into_the_folder_is_refused_while_a_run_is_there(tmp_path, name):
    coco = write_coco(tmp_path / "coco", {1: ["dog"], 2: ["cat"]}, {1: ["a dog"], 2: ["a cat"]})
    workdir = tmp_path / "run"
    write_curated(workdir / "curated", example())
    files.write_json(workdir / "config.json", {})
    (workdir / "records").mkdir()
    before = sorted(workdir.rglob("*"))
    with (
        locked(workdir / ".lock", workdir),
        pytest.raises(UserError, match="run: another run is at work there"),
    ):
        REFUSED[name](workdir, str(coco))
    assert sorted(workdir.rglob("*")) == before
    if name != "report":  # of which there is nothing to report
        REFUSED[name](workdir, str(coco))
        assert len(sorted(workdir.rglob("*"))) > len(before)


def test_the_second_run_is_refused_and_the_next_one_after_it_is_not(config, tmp_path):
    workdir: Path = tmp_path / "run"
    workdir.mkdir()
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"run: another run is at work there \(process {first.pid} on"):
            stages.run(config, workdir)
        assert [path.name for path in workdir.iterdir()] == [".lock"]
    finally:
        first.kill()
        first.communicate()
    assert stages.run(config, workdir).executed == ["prepare/splits"]
    assert sorted(path.name for path in workdir.iterdir()) == ["config.json", "records", "splits.json"]
    assert len(files.read_json(workdir / "splits.json")["train"]) == 2
