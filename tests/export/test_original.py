"""A base in the original form becomes a folder of the hub's form."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from sare_jax.data.images import load_image
from sare_jax.demo.render import render
from sare_jax.demo.scenes import sample_scene
from sare_jax.errors import UserError
from sare_jax.export import differences, shards
from sare_jax.models.llava.export import hub_form
from sare_jax.models.llava.export.folder import export_folder
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.safetensors_io import read_tensors
from tests.tiny_llava import VOCABULARY
from tests.tiny_original import write_original, write_sharegpt4v
from tests.tiny_sentencepiece import write_sentencepiece

ROWS = VOCABULARY + 16  # of the tiny model; a multiple of 16, not of 64
TABLES = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")
PROJECTOR = {
    f"multi_modal_projector.{layer}.{leaf}"
    for layer in ("linear_1", "linear_2")
    for leaf in ("weight", "bias")
}
QUESTION = "Please describe the image."


def moved(params, size=1e-2):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + size * rng.normal(size=leaf.shape).astype(np.float32), params)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny original model, drawn pictures, and its export with a moved projector."""
    root = tmp_path_factory.mktemp("world")
    write_original(root / "base", root / "tower")
    source = open_llava(root / "base")
    loaded = load_model(source, dtype=jnp.float32)
    params = moved(loaded.params)
    export_folder(source, params, root / "out")
    (root / "images").mkdir()
    for number in range(4):
        rng = np.random.default_rng(number)
        render(sample_scene(rng), rng).save(root / "images" / f"{number}.png")
    return root, source, loaded, params


@pytest.fixture(scope="module")
def ours(world):
    """(token ids, picture) -> logits of the tuned model by this project, float32[T, V]."""
    _, _, loaded, params = world

    @jax.jit
    def run(tokens, pixels):
        model = loaded.merge(params, loaded.frozen)
        return model.logits(model.hidden(tokens, model.encode_images(pixels)))

    def logits(ids, pixels):
        tokens = np.zeros((1, 160), np.int32)  # one length, so one compilation
        tokens[0, : len(ids)] = ids
        return np.asarray(run(tokens, pixels[None]))[0, : len(ids)]

    return logits


@pytest.fixture(scope="module")
def theirs(world):
    model, report = LlavaForConditionalGeneration.from_pretrained(world[0] / "out", output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def test_ex_05_tables_are_padded_and_everything_else_keeps_its_bytes(world):
    root, source, _, _ = world
    found = differences(source, root / "out")
    assert found.changed.keys() == PROJECTOR
    assert found.grown == dict.fromkeys(TABLES, 512 - ROWS)
    assert not found.missing
    assert not found.added
    new = read_tensors(root / "out")
    assert not [name for name in new if "inv_freq" in name or "position_ids" in name]
    for name in TABLES:
        old = source.tensors[name].map()
        assert new[name].map()[:ROWS].tobytes() == old.tobytes()
        mean = np.broadcast_to(old.mean(axis=0), (512 - ROWS, old.shape[1]))
        np.testing.assert_allclose(new[name].map()[ROWS:], mean, rtol=1e-5, atol=1e-7)


def test_published_sizes_get_the_rows_and_ids_of_llava_hf(tmp_path, world):
    """32000 rows become 32064, the image token is 32000, padding 32001 (protocols 7.1)."""
    source = world[1]
    text = replace(source.config.text, vocab_size=32000)
    real = replace(source, config=replace(source.config, text=text, image_token_id=32000))
    assert hub_form.num_rows(real.config) == 32064
    hub_form.write_files(real, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["image_token_index"], config["text_config"]["vocab_size"]) == (32000, 32064)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids("<image>") == 32000


def test_added_tokens_are_never_chosen(world, theirs):
    ids = torch.randint(3, 400, (8, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits
    assert logits.shape[-1] == 512
    assert int(logits.argmax(-1).max()) < ROWS
    torch.testing.assert_close(logits[..., ROWS], logits[..., :ROWS].mean(-1), rtol=1e-4, atol=1e-5)


def test_ex_09_logits_in_transformers_are_those_of_the_tuned_model(world, ours, theirs):
    root, source, _, _ = world
    processor, prompter = LlavaImageProcessor.from_source(source), LlavaPrompter.from_source(source)
    pixels = np.stack(processor.load(root / "images", ["0.png"]))
    ids = prompter.prompt(QUESTION, source.config.num_image_tokens)
    with torch.no_grad():
        there = theirs(
            input_ids=torch.tensor([ids]), pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2)
        ).logits[0]
    assert float(np.abs(ours(ids, pixels[0]) - there[:, :ROWS].numpy()).max()) < 1e-4


def test_greedy_text_in_transformers_is_ours_on_drawn_pictures(world, ours, theirs):
    """With transformers' own tokenizer, chat template and image processor, to the letter."""
    root, source, _, _ = world
    prompter, images = LlavaPrompter.from_source(source), LlavaImageProcessor.from_source(source)
    processor = AutoProcessor.from_pretrained(root / "out", backend="pil")
    answers = set()
    for number in range(4):
        picture = load_image(root / "images" / f"{number}.png")
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
        prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = processor(text=prompt, images=picture, return_tensors="pt")
        ids = prompter.prompt(QUESTION, source.config.num_image_tokens)
        assert inputs.input_ids[0].tolist() == ids
        pixels = images(picture)
        np.testing.assert_allclose(inputs.pixel_values[0].permute(1, 2, 0), pixels, rtol=0, atol=1e-6)
        with torch.no_grad():
            said = theirs.generate(**inputs, max_new_tokens=16, do_sample=False)[0].tolist()
        while len(ids) < len(said):
            ids = [*ids, int(np.argmax(ours(ids, pixels)[-1]))]
        assert ids == said
        answers.add(prompter.decode(ids[-16:]))
    assert len(answers) > 1


def test_import_export_import_is_the_identity(world, tmp_path):
    root, _, loaded, params = world
    again = load_model(root / "out", dtype=jnp.float32)
    for path, leaf in flatten(params).items():
        np.testing.assert_array_equal(flatten(again.params)[path], leaf)
    old, new = flatten(loaded.frozen), flatten(again.frozen)
    assert old.keys() == new.keys()
    for path, leaf in old.items():
        axis = {"embed/table": 0, "head/kernel": 1}.get(path)
        same = new[path] if axis is None else np.take(new[path], range(ROWS), axis)
        np.testing.assert_array_equal(same, leaf)
    export_folder(open_llava(root / "out"), again.params, tmp_path / "second")
    for file in (root / "out").iterdir():
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes(), file.name


def test_ex_08_all_files_are_there_with_the_fields_that_transformers_needs(world):
    root, source, _, _ = world
    names = {path.name for path in (root / "out").iterdir()}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    fields = json.loads((root / "out" / "processor_config.json").read_text())
    assert fields["patch_size"] == source.config.vision.patch_size
    assert fields["vision_feature_select_strategy"] == "default"
    generation = json.loads((root / "out" / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (1, 2)
    with safe_open(root / "out" / "model.safetensors", "np") as stream:
        assert stream.metadata() == {"format": "pt"}


@pytest.mark.parametrize(("aspect", "mode"), [("pad", "pad"), (None, "center_crop")])
def test_im_03_export_keeps_how_pictures_are_made_square(aspect, mode, tmp_path):
    write_original(tmp_path / "base", tmp_path / "tower", image_aspect_ratio=aspect)
    source = open_llava(tmp_path / "base")
    export_folder(source, load_model(source, dtype=jnp.float32).params, tmp_path / "out")
    own = LlavaImageProcessor.from_source(source)
    assert own.mode == mode
    assert LlavaImageProcessor.from_source(open_llava(tmp_path / "out")) == own
    rng = np.random.default_rng(0)
    wide = render(sample_scene(rng), rng).resize((80, 40))
    there = AutoProcessor.from_pretrained(tmp_path / "out", backend="pil").image_processor
    pixels = there(wide, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(pixels, own(wide), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", ["grouped", "tied", "wide", "last_layer", "full"])
def test_every_shape_loads_strictly_with_equal_logits(shape, tmp_path):
    model = write_original(tmp_path / "base", tmp_path / "tower", shape, weights="safetensors_shards")
    source = open_llava(tmp_path / "base")
    export_folder(source, load_model(source, dtype=jnp.float32).params, tmp_path / "out")
    again, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    side = source.config.vision.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    image = [source.config.image_token_id] * source.config.num_image_tokens
    ids = torch.tensor([[1, 5, *image, 9, 30, 7]])
    theirs_image = torch.where(ids == source.config.image_token_id, model.config.image_token_id, ids)
    with torch.no_grad():
        new = again.eval()(input_ids=ids, pixel_values=pixels).logits[..., :ROWS]
        old = model(input_ids=theirs_image, pixel_values=pixels).logits
    torch.testing.assert_close(new, old, rtol=0, atol=1e-5)


def test_ex_06_sharegpt4v_keeps_its_own_tower_and_its_dtype(tmp_path):
    tower = tmp_path / "ShareGPT4V-7B_Pretrained_vit-large336-l12"
    model = write_sharegpt4v(tmp_path / "base", tower, weights="bin_shards")
    source = open_llava(tmp_path / "base")
    export_folder(source, load_model(source, dtype=jnp.bfloat16).params, tmp_path / "out")
    assert {t.dtype.name for t in read_tensors(tmp_path / "out").values()} == {"bfloat16"}
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", dtype="auto")
    assert again.dtype == torch.bfloat16
    for name, weight in model.model.vision_tower.state_dict().items():
        assert torch.equal(again.model.vision_tower.state_dict()[name], weight)


def test_tower_inside_the_checkpoint_is_exported(tmp_path):
    write_original(tmp_path / "base", tmp_path / "tower", inside="tower")
    source = open_llava(tmp_path / "base")
    export_folder(source, load_model(source, dtype=jnp.float32).params, tmp_path / "out")
    found = differences(source, tmp_path / "out")
    assert not found.changed
    assert not found.added


def test_sentencepiece_becomes_a_tokenizer_with_the_same_ids(tmp_path):
    write_original(tmp_path / "base", tmp_path / "tower")
    (tmp_path / "base" / "tokenizer.json").unlink()
    write_sentencepiece(tmp_path / "base" / "tokenizer.model")
    source = open_llava(tmp_path / "base")
    export_folder(source, load_model(source, dtype=jnp.float32).params, tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.model").exists()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids(["<image>", "<pad>"]) == [ROWS, ROWS + 1]
    assert tokenizer.pad_token == "<pad>"
    prompter = LlavaPrompter.from_source(source)
    before, between, after = prompter.template
    slots = source.config.num_image_tokens
    for question in (QUESTION, "Is there a dog, or a 🪁?", "  two  spaces\n"):
        text = f"{before}{'<image>' * slots}{between}{question}{after}"
        assert tokenizer(text).input_ids == prompter.prompt(question, slots)
        assert LlavaPrompter.from_source(open_llava(tmp_path / "out")).prompt(
            question, slots
        ) == prompter.prompt(question, slots)


def test_chat_template_holds_turns_as_vicuna_v1_does(world):
    processor = AutoProcessor.from_pretrained(world[0] / "out")
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
        {"role": "user", "content": "Where?"},
    ]
    assert processor.apply_chat_template(turns, add_generation_prompt=True) == (
        "Be brief. USER: <image>\nWho? ASSISTANT: A dog.</s>USER: Where? ASSISTANT:"
    )


def test_large_models_are_cut_into_shards(world, tmp_path, monkeypatch):
    root, source, _, params = world
    monkeypatch.setattr(shards, "LIMIT", 60_000)
    export_folder(source, params, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert files == [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
    sizes = dict.fromkeys(files, 0)
    for tensor in read_tensors(tmp_path / "out").values():
        sizes[tensor.file.name] += tensor.num_bytes
    largest = max(tensor.num_bytes for tensor in read_tensors(tmp_path / "out").values())
    assert len(files) > 3
    assert max(sizes.values()) <= max(60_000, largest)
    assert {n: t.map().tobytes() for n, t in read_tensors(tmp_path / "out").items()} == {
        n: t.map().tobytes() for n, t in read_tensors(root / "out").items()
    }


def test_tokenizer_with_another_image_token_is_refused(tmp_path, world):
    write_original(tmp_path / "base", tmp_path / "tower")
    path = tmp_path / "base" / "tokenizer.json"
    raw = json.loads(path.read_text())
    raw["added_tokens"].append({**raw["added_tokens"][-1], "content": "<image>", "id": VOCABULARY - 1})
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="has <image> already"):
        export_folder(open_llava(tmp_path / "base"), world[3], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fixture_is_in_the_original_form(world):
    """Or the tests above would export a folder of the hub's."""
    assert world[1].form == "original"
    assert world[1].tower == world[0] / "tower"
