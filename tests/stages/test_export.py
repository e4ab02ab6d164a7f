"""Stage 6 on a tiny random model: the forms, and captions counted against transformers'."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax import files, stages
from sare_jax.config import parse
from sare_jax.errors import UserError
from sare_jax.export import differences
from sare_jax.models.llava.export.tuned import load_llava_tuned
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.settings.road import Config
from sare_jax.stages.context import Context
from sare_jax.training.checkpoints import save_params
from tests.tiny_llava import pictures, write_llava
from tests.tiny_original import write_original

QUESTION = "Please describe the image."
TOKENS = 6


@pytest.fixture(scope="module", params=["hub", "original"])
def world(request, tmp_path_factory):
    """A base, pictures, and a workdir whose run `sare` has moved the projector."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "hub":
        write_llava(root / "model")
    else:
        write_original(root / "model", root / "tower")
    (root / "images").mkdir()
    for number, picture in enumerate(pictures(3)):
        picture.save(root / "images" / f"{number}.png")
    loaded = load_model(root / "model", dtype=jnp.float32)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.05 * rng.normal(size=x.shape).astype(np.float32), loaded.params)
    save_params(root / "run" / "checkpoints" / "sare", params, loaded)
    return root, params


def settings(root: Path, *, decoding: dict | None = None, **export) -> Config:
    return parse(
        {
            "name": "tiny",
            "stages": "export",
            "data": {"images": str(root / "images"), "annotations": str(root)},
            "model": {"folder": str(root / "model"), "dtype": "float32"},
            "runs": {"sare": {}},
            "evaluate": {"max_new_tokens": TOKENS},
            "decoding": decoding or {},
            "export": {"run": "sare", **export},
        }
    )


def write_answers(root: Path, workdir: Path, **generating) -> None:
    """What transformers says with the run's weights put in by hand; of the last picture something else."""
    context = Context(settings(root), workdir)
    stages.run(settings(root), workdir)
    model = LlavaForConditionalGeneration.from_pretrained(workdir / "export" / "sare").eval()
    answers = []
    for number in range(3):
        ids = torch.tensor([context.image_prompter.prompt(f"{number}.png", QUESTION)])
        pixels = np.stack(context.processor.load(root / "images", [f"{number}.png"]))
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            max_new_tokens=TOKENS,
            do_sample=False,
            **generating,
        )
        text = context.prompter.decode(out[0, ids.shape[1] :].tolist()).strip()
        entry = {"image_id": number, "image": f"{number}.png", "instruction": QUESTION}
        answers.append(entry | {"text": text if number < 2 else "something else"})
    files.write_jsonl(workdir / "answers" / "sare" / "origin" / "captions.jsonl", answers)


def test_whole_folder_is_written_once_and_the_change_is_printed(world, tmp_path, capsys):
    root, params = world
    stages.run(settings(root), root / "run")
    folder = root / "run" / "export" / "sare"
    assert "4 of 80 tensors have other values than in the base" in capsys.readouterr().out
    found = differences(open_llava(root / "model"), folder)
    assert all(name.startswith("multi_modal_projector.") for name in found.changed)
    for path, leaf in flatten(load_model(folder, dtype=jnp.float32).params).items():
        np.testing.assert_array_equal(leaf, flatten(params)[path])
    stages.run(settings(root), root / "run")
    assert "exported" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "file"), [("projector", "projector.safetensors"), ("efuf", "step_000000.pth")]
)
def test_other_forms_replace_the_folder(world, form, file):
    root, params = world
    workdir = root / "run"
    files.remove(workdir / "export")
    stages.run(settings(root, form=form, check_captions=2), workdir)
    found = load_llava_tuned(workdir / "export" / "sare" / file, open_llava(root / "model"))
    for path, leaf in flatten(found).items():
        np.testing.assert_array_equal(leaf, flatten(params)[path])
    assert not (workdir / "export_check.json").exists()
    files.remove(workdir / "export")


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_counted_against_transformers(world, beams, capsys):
    root, _ = world
    extra = {"num_beams": beams, "length_penalty": 2.0, "early_stopping": True} if beams > 1 else {}
    write_answers(root, root / "run", **extra)
    decoding = {"num_beams": beams, "length_penalty": 2.0, "early_stopping": "yes"}
    stages.run(settings(root, check_captions=3, decoding=decoding), root / "run")
    found = json.loads((root / "run" / "export_check.json").read_text())
    assert (found["n"], found["equal"]) == (3, 2)
    assert found["different"][0]["jax"] == "something else"
    assert found["rule"].startswith("greedy" if beams == 1 else "3-beam")
    assert "2 of 3 captions" in capsys.readouterr().out


def test_drawn_captions_are_not_compared(world):
    root, _ = world
    stages.run(settings(root), root / "run")
    with pytest.raises(UserError, match="check_captions: drawn captions"):
        stages.run(settings(root, check_captions=1, decoding={"temperature": 1.0}), root / "run")
