"""Curated text and pictures through a model folder as transformers writes it: tokens, features, training."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax import files
from sare_jax.attacks.interface import Pictures, Tools
from sare_jax.attacks.relearn import Relearn, relearn
from sare_jax.data.batches import tokenize
from sare_jax.files import read_json
from sare_jax.inference.features import FeatureCache
from sare_jax.language.words import coco_table
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.optim import AdamW
from sare_jax.records.coco import Truth
from sare_jax.records.curated import Curated, Rows, Sentences, Units, read_curated, write_curated
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.sharding import make_mesh
from sare_jax.training.unlearn import unlearn
from tests import tiny_llava

CAPTIONS = [
    "A dog sits on a bench, near a café table. Two cats are in a box.",
    "There is a man riding a bicycle past a fence, and a kite “in the air” 🪁!",
    "The kitchen has a table and chairs, two cups and a clock",  # cut off: no full stop
]
NEG = [(0, " near a café table"), (1, " and a kite “in the air” 🪁"), (2, " two cups and a clock")]
POS = [
    (0, "A dog sits on a bench"),
    (1, "There is a man riding a bicycle past a fence"),
    (0, " Two cats are in a box"),
]


def units(chosen) -> Units:
    row = [row for row, _ in chosen]
    start = [CAPTIONS[row].index(text) for row, text in chosen]
    end = [s + len(text) for s, (_, text) in zip(start, chosen, strict=True)]
    return Units(row, start, end, [text.split()[-1] for _, text in chosen], start, end, [1.0] * len(row))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    tiny_llava.write_llava(root / "model")
    for number, picture in enumerate(tiny_llava.pictures(3)):
        (root / "images").mkdir(exist_ok=True)
        picture.save(root / "images" / f"{number}.png")
    rows = Rows([f"{number}.png" for number in range(3)], [0, 1, 2], CAPTIONS)
    sent = Sentences([0, 2], [30.0, 30.0], [29.0, 29.0])
    write_curated(root / "curated", Curated(rows, units(NEG), units(POS), sent, {}))
    return root


@pytest.mark.parametrize("template", ["hub", "vicuna_v1"])
@pytest.mark.parametrize("form", [tiny_llava.llama_tokenizer, tiny_llava.byte_level_tokenizer])
def test_target_tokens_decode_to_the_target(folder, tmp_path, form, template):
    """Cases TK-01, TK-03, TK-09 and TK-10."""
    for name in ("config.json", "processor_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / "model" / name).read_bytes())
    tiny_llava.write_tokenizer(tmp_path, form())
    source = LlavaSource(tmp_path, "hub", LlavaConfig.from_hf(read_json(tmp_path / "config.json")), {})
    prompter, processor = LlavaPrompter.from_source(source, template), LlavaImageProcessor.from_source(source)
    about = ImagePrompter(prompter, processor, folder / "images")
    sets = tokenize(read_curated(folder / "curated"), about, "Please describe the image.")
    assert sets.lost == {"neg": {}, "pos": {}, "sent": {}}
    for kind, chosen in (("neg", NEG), ("pos", POS)):
        for index, (_, text) in enumerate(chosen):
            row = getattr(sets, kind).row(index)
            target = row["tokens"][row["start"] : row["end"]].tolist()
            assert prompter.decode(target).strip() == text.strip()
            assert not {prompter.bos_id, prompter.eos_id, prompter.image_token_id} & set(target)
    for index, caption in enumerate((CAPTIONS[0], CAPTIONS[2])):
        row = sets.sent.row(index)
        target = row["tokens"][row["start"] : row["end"]].tolist()
        assert target.count(prompter.eos_id) == 1
        assert target[-1] == prompter.eos_id
        assert prompter.decode(target).strip() == caption


def test_unlearning_and_relearning_move_the_projector_of_a_loaded_model(folder, tmp_path):
    loaded = load_model(folder / "model", dtype=jnp.float32)
    processor = LlavaImageProcessor.from_source(loaded.source)
    about = LlavaPrompter.from_source(loaded.source, template="hub")
    prompter = ImagePrompter(about, processor, folder / "images")
    features = FeatureCache(loaded, processor, folder / "images")
    curated = read_curated(folder / "curated")
    settings = OptimConfig(adamw=AdamW(3e-3), neg_weight=1.0, steps=8, batch_size=3)
    params = unlearn(
        loaded,
        curated,
        prompter,
        features,
        settings,
        folder=tmp_path / "checkpoints",
        log=tmp_path / "log.jsonl",
        starting=tmp_path / "starting",
        name="tiny",
        mesh=make_mesh(1),
    )
    first, *_, last = files.read_jsonl(tmp_path / "log.jsonl")
    assert last["neg"] < first["neg"]
    assert last["pos"] < first["pos"]
    assert jax.tree.structure(params) == jax.tree.structure(loaded.params)
    tools = Tools(
        loaded=loaded,
        curated=curated,
        prompter=prompter,
        features=features,
        truth=Truth({}, {}, {}, coco_table(), "none"),
        mesh=make_mesh(1),
        remat_policy=None,
        instruction=settings.instruction,
        name="relearn",
        at=Path,
        pictures=lambda name: Pictures(Path(name), prompter, features),
    )
    attacked = relearn(tools, params, Relearn(num_samples=3, adamw=AdamW(3e-3, 0.0), batch_size=3)).params
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), attacked, params)
    # One Adam step moves every weight with a gradient by the rate.
    assert max(jax.tree.leaves(moved)) == pytest.approx(3e-3, rel=1e-2)
