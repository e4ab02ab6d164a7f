"""The mesh, where weights lie on it, and rows that devices cannot share evenly (case SH-01)."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from sare_jax import files, hosts
from sare_jax.attacks.interface import Pictures, Tools
from sare_jax.attacks.relearn import Relearn, relearn
from sare_jax.errors import UserError
from sare_jax.language.words import coco_table
from sare_jax.models import load
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.published import config_without_weights
from sare_jax.models.shared import partition
from sare_jax.models.shared.target import here
from sare_jax.optim import AdamW
from sare_jax.records.coco import Truth
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import (
    by_rows,
    frozen_placement,
    gathering,
    make_mesh,
    replicated,
    spread_rows,
)
from sare_jax.training.unlearn import unlearn
from tests import tiny_training as tiny

LOADED = tiny.tiny_llava()
placed = functools.cache(functools.partial(tiny.spread, LOADED))


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"),
    [(0, 1, (8, 1)), (0, 8, (1, 8)), (0, 2, (4, 2)), (3, 1, (3, 1)), (1, 3, (1, 3)), (2, 2, (2, 2))],
)
def test_the_mesh_has_the_shape_that_the_settings_say(data, fsdp, shape):
    mesh = make_mesh(data, fsdp)
    assert mesh.axis_names == ("data", "fsdp")
    assert mesh.devices.shape == shape


@pytest.mark.parametrize(
    ("data", "fsdp", "message"),
    [
        (9, 1, r"model\.data_parallel is 9, but jax sees 8 devices; lower it"),
        (0, 9, r"model\.fsdp is 9, but jax sees 8 devices; lower it"),
        (0, 3, r"model\.fsdp is 3, but jax sees 8 devices, which 3 does not divide; .*data_parallel=2"),
        (3, 4, r"model\.data_parallel is 3 × model\.fsdp 4, but jax sees 8 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(data, fsdp, message):
    with pytest.raises(UserError, match=message):
        make_mesh(data, fsdp)


def test_every_host_takes_part(monkeypatch):
    monkeypatch.setattr(hosts, "several", lambda: True)
    with pytest.raises(UserError, match=r"is 4, but jax sees 8 devices on 1 hosts.*data_parallel to 0"):
        make_mesh(4)


def test_rows_lie_over_all_devices():
    mesh = make_mesh(4, 2)
    batch = spread_rows({"tokens": np.arange(16).reshape(8, 2)}, mesh)
    assert {shard.data.shape for shard in batch["tokens"].addressable_shards} == {(1, 2)}
    assert len({str(shard.index) for shard in batch["tokens"].addressable_shards}) == 8
    assert batch["tokens"].sharding == by_rows(mesh)


def test_the_weights_of_the_7b_model_are_divided_but_never_between_layers():
    shapes, _ = config_without_weights("llava-hf/llava-1.5-7b-hf")
    _, leaves = load.abstract(FAMILY, shapes, here())
    place = frozen_placement(make_mesh(1, 8), "projector/.*", load.stacked_paths(FAMILY, shapes))
    specs = {path: place(path, leaf.shape).spec for path, leaf in leaves.items()}
    assert specs["language_model/layers/gate/kernel"] == PartitionSpec(None, "fsdp")
    assert specs["language_model/layers/down/kernel"] == PartitionSpec(None, "fsdp")
    assert specs["embed/table"] == PartitionSpec("fsdp")
    assert specs["vision_tower/positions"] == PartitionSpec(None, "fsdp")  # 577 is odd
    for path, leaf in leaves.items():
        is_layer = "/layers/" in path
        if path.startswith("projector/") or len(leaf.shape) - is_layer < 2:
            assert specs[path] == PartitionSpec(), path
        else:
            assert "fsdp" in specs[path], path
            assert not is_layer or specs[path][0] is None, path


def test_weights_that_nothing_divides_are_whole():
    place = frozen_placement(make_mesh(1, 8), "projector/.*", ("language_model/layers/q/kernel",))
    assert place("odd/kernel", (9, 15)).spec == PartitionSpec()
    # As many layers as devices, and still not divided between them.
    assert place("language_model/layers/q/kernel", (8, 9, 15)).spec == PartitionSpec()
    assert frozen_placement(make_mesh(8), "x", ())("embed/table", (64, 64)).spec == PartitionSpec()


def test_gathering_is_for_divided_weights_alone():
    with gathering(make_mesh(8)):
        assert jax.sharding.get_abstract_mesh().empty
    with gathering(make_mesh(4, 2)):
        assert not jax.sharding.get_abstract_mesh().empty
    assert remat_policy("none", make_mesh(8)) is None
    assert remat_policy("none", make_mesh(4, 2)) is not None


def test_sh_01_a_batch_of_19_on_eight_devices_has_the_loss_of_one(tmp_path):
    """Five rows fill it up and count nowhere."""
    losses = {}
    for name, mesh in (("one", make_mesh(1)), ("eight", make_mesh(8))):
        log = tmp_path / f"{name}.jsonl"
        unlearn(
            placed(mesh),
            tiny.curated(num_neg=25, num_pos=20, num_sent=4),
            tiny.Letters(),
            tiny.features,
            OptimConfig(steps=1, batch_size=19, instruction="say it"),
            folder=tmp_path / name,
            log=log,
            starting=tmp_path / "starting",
            name=name,
            mesh=mesh,
        )
        losses[name] = np.array([row[key] for row in files.read_jsonl(log) for key in ("neg", "pos", "sent")])
    np.testing.assert_allclose(losses["eight"], losses["one"], rtol=1e-6)


@pytest.mark.parametrize("remat", ["full", "dots", "none"])
def test_what_is_kept_and_where_weights_lie_does_not_change_an_attack(remat):
    def attack(mesh, policy):
        tools = Tools(
            loaded=placed(mesh),
            curated=tiny.curated(),
            prompter=tiny.Letters(),
            features=tiny.features,
            truth=Truth({}, {}, {}, coco_table(), "none"),
            mesh=mesh,
            remat_policy=policy,
            instruction="say it",
            name="relearn",
            at=Path,
            pictures=lambda name: Pictures(Path(name), tiny.Letters(), tiny.features),
        )
        return relearn(tools, LOADED.params, Relearn(num_samples=6, adamw=AdamW(1e-2, 0.0))).params

    alone = attack(make_mesh(1), None)
    mesh = make_mesh(2, 4)
    frozen = partition.flatten(placed(mesh).frozen)
    assert frozen["language_model/layers/q/kernel"].sharding != replicated(mesh)
    spread = attack(mesh, remat_policy(remat, mesh))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), spread, alone)
