"""A finished run's workdir, made once."""

import shutil
from pathlib import Path

import pytest

from sare_jax.records.coco import Truth, read_truth
from sare_jax.report import ReportSpec, write
from sare_jax.report.read import Inputs, read
from tests.report.workdirs import RATES, make_workdir


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> Path:
    """Do not write into it."""
    return make_workdir(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def truth(workdir) -> Truth:
    return read_truth(workdir / "data" / "annotations")


@pytest.fixture
def inputs(workdir) -> Inputs:
    return read(workdir, ReportSpec())


@pytest.fixture(scope="session")
def bare(tmp_path_factory) -> Path:
    """A workdir with the results of two runs and nothing else; do not write into it."""
    few = {key: rate for key, rate in RATES.items() if key in (("base", "origin"), ("sare", "origin"))}
    whole = make_workdir(tmp_path_factory.mktemp("bare"), rates=few)
    folder = whole / "bare"
    folder.mkdir()
    (whole / "metrics").rename(folder / "metrics")
    return folder


@pytest.fixture(scope="session")
def written(workdir, truth, tmp_path_factory):
    """A copy of the workdir with its report."""
    folder = tmp_path_factory.mktemp("written") / "run"
    shutil.copytree(workdir, folder)
    write(folder, truth=truth, images_dir=folder / "data" / "images")
    return folder
