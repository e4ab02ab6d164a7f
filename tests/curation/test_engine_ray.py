import json
import logging

import pytest

from sare_jax import files
from sare_jax.curation import stage
from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.engines import engine_of
from sare_jax.curation.objects import spacy_extractor
from sare_jax.curation.recipe import Recipe
from sare_jax.curation.scored import Plan, Work, local
from sare_jax.curation.windows import Windows
from sare_jax.errors import UserError
from sare_jax.settings import QuantileThresholds
from tests.curation.tiny_clip import make_clip_folder

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]'")

SMALL = Windows(patch=16, window=4)


@pytest.fixture(scope="module")
def two_machines():
    """A cluster of two machines with a core each; both are this one."""
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    try:
        cluster.add_node(**size)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_two_workers_go_on_from_a_local_run_and_give_its_arrays(
    two_machines, world, clip_folder, nlp, tmp_path
):
    captions, images = world
    (images / "4.png").write_bytes((images / "4.png").read_bytes()[:200])  # reported alike, too

    def curate(name, engine):
        return stage.curate(
            captions,
            images,
            tmp_path / name,
            Recipe(
                clip=ClipConfig(str(clip_folder), device="cpu"),
                thresholds=QuantileThresholds(q0=0.7, q1=0.3, q2=0.4),
                windows=SMALL,
                extractor=spacy_extractor(nlp),
                work=Work(image_batch=1, view_batch=4, workers=2),
                engine=engine,
            ),
        )

    def stops(scorer, batches):
        yield next(local(scorer, batches))
        raise KeyboardInterrupt

    curate("here", engine_of("local"))
    with pytest.raises(KeyboardInterrupt):
        curate("there", stops)
    curate("there", engine_of("ray"))
    journals = [
        (tmp_path / f".{name}_work" / "scores" / "scores.jsonl").read_text() for name in ("here", "there")
    ]
    assert journals[0] == journals[1]
    assert len(journals[0].splitlines()) == 6
    assert files.digest(tmp_path / "here") == files.digest(tmp_path / "there")


def test_one_worker_a_machine_or_a_gpu(monkeypatch):
    from sare_jax.curation import engine_ray

    def machines(*resources):
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": r} for r in resources])

    machines({"CPU": 8.0}, {"CPU": 4.0}, {})
    assert engine_ray._workers("auto") == engine_ray._Workers(count=2, cpus=4, gpus=0, device="cpu")
    with pytest.raises(UserError, match="--device cuda: no machine of the Ray cluster has a GPU"):
        engine_ray._workers("cuda")
    machines({"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0}, {"CPU": 12.0, "GPU": 2.0})
    assert engine_ray._workers("auto") == engine_ray._Workers(count=6, cpus=4, gpus=1, device="auto")
    assert engine_ray._workers("cpu").count == 3
    machines({"memory": 1.0})
    with pytest.raises(UserError, match="no CPU to work on"):
        engine_ray._workers("auto")


def test_a_worker_that_lacks_the_images_or_has_other_weights_says_so(clip_folder, tmp_path):
    from sare_jax.curation.engine_ray import _Worker

    config = ClipConfig(str(clip_folder), device="cpu")
    clip = Clip(config)
    row = {"batch": json.dumps([["0.png", [[0]]]])}
    nowhere = _Worker(config, clip.weights_hash, Plan(SMALL, tmp_path / "none", Work()), [])
    assert "none: no such image folder; every machine must see it" in nowhere(row)["refused"]
    other = ClipConfig(str(make_clip_folder(tmp_path / "tiny-clip", seed=1)), device="cpu")
    stranger = _Worker(other, clip.weights_hash, Plan(SMALL, tmp_path, Work()), [])
    assert "other weights than where the run was started" in stranger(row)["refused"]
