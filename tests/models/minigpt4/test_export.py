"""A tuned MiniGPT-4 in its published form: what changed, and who reads it back."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sare_jax.command import guarded
from sare_jax.errors import UserError
from sare_jax.export import export_model, verify
from sare_jax.export.command import main
from sare_jax.inference.generate import generate
from sare_jax.models.families import open_source
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from sare_jax.models.minigpt4 import export
from sare_jax.models.shared.partition import Tree, flatten
from sare_jax.training.checkpoints import save_params
from tests.models.minigpt4 import oracle
from tests.models.minigpt4.tiny import Written, write_minigpt4

TUNED = ("llama_proj.weight", "llama_proj.bias")
TORCH, SAFETENSORS = "pretrained_minigpt4.pth", "pretrained_minigpt4.safetensors"
STEPS = 12


class Run(NamedTuple):
    """A base on disk, as loaded, and parameters that are not its own."""

    base: Written
    loaded: LoadedModel
    params: Tree


@pytest.fixture(scope="module", params=["llama2", "llama2_norm", "vicuna"])
def run(request, tmp_path_factory) -> Run:
    return made(tmp_path_factory.mktemp(request.param), request.param, torch.float32)


def made(folder: Path, name: str, dtype: torch.dtype) -> Run:
    base = write_minigpt4(folder, name, dtype=dtype)
    source = open_source(base.settings.folder, base.settings)
    loaded = load_model(source, dtype=jnp.float32, max_trainable=0.9)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), loaded.params)
    return Run(base, loaded, params)


def written(run: Run, folder: Path) -> Path:
    export_model(run.loaded.source, run.params, folder, "published", step=3, settings={"rho": 0.05})
    return folder


def published(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.base.settings.files["pretrained"], weights_only=True)["model"]


def test_tuned_tensors_alone_change_in_both_files(run, tmp_path):
    folder = written(run, tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", TORCH, SAFETENSORS]
    kept = torch.load(folder / TORCH, weights_only=True)
    assert list(kept) == ["model"]
    base, beside = published(run), load_file(folder / SAFETENSORS)
    assert list(kept["model"]) == list(base)
    assert beside.keys() == base.keys()
    assert {name.startswith("llama_model.") for name in base} == {True, False}  # a buffer, which stays too
    kernel, bias = (np.asarray(run.params["llama_proj"][leaf]) for leaf in ("kernel", "bias"))
    for name, tensor in kept["model"].items():
        expected = {"llama_proj.weight": kernel.T, "llama_proj.bias": bias}.get(name, base[name].numpy())
        np.testing.assert_array_equal(tensor.numpy(), expected)
        np.testing.assert_array_equal(beside[name], expected)
    about = json.loads((folder / "config.json").read_text())
    assert (about["rho"], about["step"], about["base"]) == (0.05, 3, "llama")
    count = kernel.size + bias.size
    assert f"{count:,} tuned parameters" in verify(run.loaded.source, run.params, folder, "published", step=3)


@pytest.mark.parametrize("file", [TORCH, SAFETENSORS])
def test_our_loader_and_the_oracle_read_it_back_and_answer_alike(run, tmp_path, file):
    path = written(run, tmp_path / "out") / file
    files = dict(run.base.settings.files) | {"pretrained": str(path)}
    settings = dataclasses.replace(run.base.settings, files=files)
    source = open_source(settings.folder, settings)
    again = load_model(source, dtype=jnp.float32, max_trainable=0.9)
    for name, leaf in flatten(again.params).items():
        np.testing.assert_array_equal(leaf, flatten(run.params)[name])
    prompter = source.family.prompter(source, settings)
    prompt = prompter.prompt("What is in the image?", again.shape.num_image_tokens)
    side = again.config.vision.image_size
    pixels = np.random.default_rng(1).standard_normal((1, side, side, 3)).astype(np.float32)
    ours = generate(
        again.graphdef,
        again.params,
        again.frozen,
        np.array([prompt], np.int32),
        np.array([len(prompt)], np.int32),
        again.merge(again.params, again.frozen).encode_images(pixels),
        max_new_tokens=STEPS,
        end_ids=(prompter.eos_id,),
        pad_id=prompter.pad_id,
    )
    tensors = {name: tensor for name, tensor in run.base.tensors.items() if name not in TUNED}
    if file == TORCH:
        tensors |= torch.load(path, weights_only=True)["model"]
    else:
        tensors |= {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    towers, image = run.base.towers, again.config.image_token_id
    with torch.no_grad():
        embeds = oracle.embeddings(tensors, run.base.llama, prompt, image, images, towers)
        theirs = oracle.greedy(run.base.llama, embeds, STEPS, prompter.eos_id)
        untuned = oracle.embeddings(run.base.tensors, run.base.llama, prompt, image, images, towers)
        before = oracle.greedy(run.base.llama, untuned, STEPS, prompter.eos_id)
    ids = np.asarray(ours.ids)[0, : int(ours.counts[0])].tolist()
    assert prompter.decode(ids) == prompter.decode(theirs)
    assert ids == theirs != before


def test_a_16_bit_base_keeps_its_dtype_where_nothing_is_lost(tmp_path):
    run = made(tmp_path / "base", "vicuna", torch.float16)
    exact = run._replace(params=jax.tree.map(lambda x: 2 * x, run.loaded.params))
    kept = torch.load(written(exact, tmp_path / "exact") / TORCH, weights_only=True)["model"]
    assert {kept[name].dtype for name in TUNED} == {torch.float16}
    finer = torch.load(written(run, tmp_path / "finer") / TORCH, weights_only=True)["model"]
    assert {finer[name].dtype for name in TUNED} == {torch.float32}
    for params, folder in ((exact.params, "exact"), (run.params, "finer")):
        verify(run.loaded.source, params, tmp_path / folder, "published", step=3)


@pytest.mark.parametrize("file", [TORCH, SAFETENSORS])
def test_what_was_written_wrongly_is_noticed(run, tmp_path, file, monkeypatch):
    def broken(path, *given):
        tensors, *rest = given
        write(path, {name: value * (name not in TUNED) for name, value in tensors.items()}, *rest)

    def broken_stream(path, layout, data, about):
        write(path, layout, [value * 0 for value in data], about)

    module = export.torch_pickle if file == TORCH else export
    write = module.write_file
    monkeypatch.setattr(module, "write_file", broken if file == TORCH else broken_stream)
    folder = written(run, tmp_path / "out")
    with pytest.raises(UserError, match=rf"{file}: llama_proj\.\w+, .*are not as they were written"):
        verify(run.loaded.source, run.params, folder, "published", step=3)


def test_parameters_of_another_file_are_refused(run, tmp_path):
    params = dict(run.params) | {"vision_norm": dict(run.loaded.frozen["vision_norm"])}
    with pytest.raises(UserError, match=r"ln_vision\.\w+ was tuned too"):
        export_model(run.loaded.source, params, tmp_path / "out", "published", step=3, settings={})


def test_a_folder_of_something_else_is_not_replaced(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("keep")
    with pytest.raises(UserError, match="exists and is no such export"):
        written(run, tmp_path / "out")
    assert (tmp_path / "out" / "letter.txt").read_text() == "keep"


@pytest.fixture
def command(run, tmp_path) -> list[str]:
    save_params(tmp_path / "checkpoints", run.params, run.loaded)
    settings = run.base.settings
    files = [part for name, path in settings.files.items() for part in ("--file", f"{name}={path}")]
    base = ["--base", settings.folder, "--family", settings.family, *files]
    return [*base, "--checkpoint", str(tmp_path / "checkpoints"), "--out", str(tmp_path / "out")]


def test_the_command_exports_a_checkpoint(run, command, tmp_path, capsys):
    main([*command, "--form", "published"])
    assert "read back and equal in both files" in capsys.readouterr().out
    kept = torch.load(tmp_path / "out" / TORCH, weights_only=True)["model"]
    np.testing.assert_array_equal(kept["llama_proj.bias"], run.params["llama_proj"]["bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--form", "folder"], "'folder' is not known; give one of published"),
        (["--form", "published", "--file", "eva=x"], "config.model.files.eva: unknown key"),
        (["--form", "published", "--file", "pretrained"], "'pretrained' is not NAME=PATH"),
    ],
)
def test_mistakes_are_one_line(command, change, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        guarded(main)([*command, *change])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
