"""Joining other processes, by flags or by a launcher; what is done once. (`test_scale` runs two for real.)"""

import jax
import pytest

from sare_jax import hosts, stages
from sare_jax.config import parse
from sare_jax.configs import llava_sare
from sare_jax.errors import UserError


@pytest.fixture
def joined(monkeypatch) -> list[dict]:
    """How often jax was asked to join others, and with what."""
    calls: list[dict] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: calls.append(settings))
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield calls
    jax.config.update("jax_cpu_collectives_implementation", None)


def test_one_process_joins_nobody(joined, monkeypatch):
    hosts.start("", 0, -1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    hosts.start("", 0, -1)
    assert joined == []


@pytest.mark.parametrize("variable", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_a_launcher_that_started_several_is_asked(joined, monkeypatch, variable):
    monkeypatch.setenv(variable, "4")
    hosts.start("", 0, -1)
    assert joined == [{}]


def test_flags_go_before_the_launcher(joined, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    hosts.start("node1:1234", 2, 1)
    assert joined == [{"coordinator_address": "node1:1234", "num_processes": 2, "process_id": 1}]


@pytest.mark.parametrize("given", [("node1:1", 0, -1), ("", 2, 0), ("node1:1", 2, 2), ("node1:1", 2, -1)])
def test_flags_that_do_not_belong_together_are_refused(joined, given):
    with pytest.raises(UserError, match="--coordinator=ADDRESS:PORT, --num_processes=N and --process_id"):
        hosts.start(*given)
    assert joined == []


def test_others_that_do_not_come_are_said(joined, monkeypatch):
    def fail(**settings):
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match="did not find each other: DEADLINE_EXCEEDED"):
        hosts.start("node1:1234", 2, 1)


def test_the_only_process_does_everything():
    done = []
    hosts.first_only(lambda: done.append(1), "work")
    assert done == [1]
    assert hosts.is_first()
    assert hosts.anywhere(True)
    assert not hosts.anywhere(False)


def test_stages_that_run_in_one_process_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "several", lambda: True)
    config = llava_sare.get_config()
    config.unlock()
    config.stages = "curate,unlearn,evaluate,export"
    with pytest.raises(UserError, match=r"evaluate, export cannot run .* --config\.stages=curate,unlearn"):
        stages.run(parse(config.to_dict()), tmp_path / "run")
    assert not (tmp_path / "run").exists()
