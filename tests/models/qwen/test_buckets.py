"""Images of many sizes: how far they are padded, how many programs that makes, and that it moves nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.data.batches import BUCKETS, tokenize
from sare_jax.data.packing import pack, packed_batches
from sare_jax.inference.features import FeatureCache, encode_images
from sare_jax.models.families import open_source
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.records.curated import Curated, Rows, Sentences, Units
from sare_jax.settings import ModelConfig
from sare_jax.training.unlearn import attach
from tests.models.qwen.comparing import parts
from tests.models.qwen.tiny import pictures, write_qwen3

COUNT = 40
CAPTION = "There is a dog on the bench, and a cat."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A loaded model whose images have 4 to 16 tokens, and 40 pictures of as many sizes."""
    folder = tmp_path_factory.mktemp("buckets")
    write_qwen3(folder)
    rng = np.random.default_rng(0)
    for number, image in enumerate(pictures([tuple(side) for side in rng.integers(8, 60, (COUNT, 2))])):
        image.save(folder / f"{number}.png")
    loaded = load_model(open_source(folder, ModelConfig(folder=str(folder))), dtype=jnp.float32)
    return loaded, [f"{number}.png" for number in range(COUNT)]


def test_each_length_is_one_program_and_none_is_longer_than_its_picture_needs(model):
    loaded, names = model
    _, processor = parts(loaded)
    lengths = loaded.config.patches.lengths
    before = encode_images._cache_size()
    cache = FeatureCache(loaded, processor, loaded.folder, batch_size=4)
    tokens = [processor.num_image_tokens(loaded.folder / name) for name in names]
    needed = [next(length for length in lengths if length >= count) for count in tokens]
    each = {name: cache([name])[0] for name in names}
    assert [len(each[name]) for name in names] == needed
    assert encode_images._cache_size() - before == len(set(needed)) > 2
    assert cache(names).shape[1] == max(needed)
    assert len({*tokens}) > len({*needed})


def test_padding_changes_no_feature(model):
    loaded, names = model
    _, processor = parts(loaded)
    square = loaded.config.patches.merge**2
    made = processor.load(loaded.folder, names[:6])
    encode = jax.jit(lambda x: loaded.merge(loaded.params, loaded.frozen).encode_images(x))
    longest = max(map(len, made)) + 8 * square
    together = np.stack([np.pad(picture, ((0, longest - len(picture)), (0, 0))) for picture in made])
    padded = encode(together)
    for number, picture in enumerate(made):
        count = int(np.prod(picture[0, -2:]))
        alone = encode(picture[None, :count])
        np.testing.assert_allclose(padded[number, : count // square], alone[0], rtol=1e-4, atol=1e-5)


def test_training_compiles_few_steps(model):
    loaded, names = model
    prompter, processor = parts(loaded)
    where = CAPTION.index(" a cat")
    row, nothing = np.arange(COUNT, dtype=np.int32), np.zeros(0, np.int32)
    start = np.full(COUNT, where, np.int32)
    end = np.full(COUNT, len(CAPTION), np.int32)
    units = Units(row, start, end, np.array(["cat"] * COUNT), start, end, np.ones(COUNT, np.float32))
    none = Units(*[nothing] * 3, np.zeros(0, "U1"), nothing, nothing, np.zeros(0, np.float32))
    sent = Sentences(row, np.ones(COUNT), np.ones(COUNT))
    curated = Curated(Rows(np.array(names), row, np.array([CAPTION] * COUNT)), units, none, sent, {})
    sets = tokenize(curated, ImagePrompter(prompter, processor, loaded.folder), "What is this?")
    features = FeatureCache(loaded, processor, loaded.folder)
    batches = packed_batches(pack(sets), batch_size=4, steps=30, seed=0, pad_id=prompter.pad_id)
    shapes, longest = set(), 0
    for batch in batches:
        tokens = [processor.num_image_tokens(loaded.folder / name) for name in batch["neg"]["image"]]
        attached = attach(batch, features)
        part = attached["neg"]
        fitting = next(length for length in processor.feature_lengths if length >= max(tokens))
        assert part["features"].shape[1] == fitting
        assert [int((r == prompter.image_token_id).sum()) for r in part["tokens"]] == tokens
        shapes.add(str(jax.tree.map(np.shape, attached)))
        longest = max(longest, fitting)
    used = [length for length in processor.feature_lengths if length <= longest]
    assert 1 < len(shapes) <= len(BUCKETS) * len(used)
