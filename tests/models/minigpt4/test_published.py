"""Names and shapes of the published models, written down here from docs/protocols.md 7.4, against ours."""

import math

import pytest

from sare_jax.models.load import abstract
from sare_jax.models.minigpt4.config import PUBLISHED
from sare_jax.models.minigpt4.family import FAMILY
from sare_jax.models.shared.partition import trainable_paths
from sare_jax.models.shared.target import here
from sare_jax.settings import ModelConfig

Table = dict[str, tuple[int, ...]]


def biased(name: str, outer: int, inner: int) -> Table:
    return {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}


def norm(name: str, width: int) -> Table:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def tower() -> Table:
    table = {
        "visual_encoder.cls_token": (1, 1, 1408),
        "visual_encoder.pos_embed": (1, 257, 1408),
        "visual_encoder.patch_embed.proj.weight": (1408, 3, 14, 14),
        "visual_encoder.patch_embed.proj.bias": (1408,),
    }
    for number in range(39):
        block = f"visual_encoder.blocks.{number}."
        table |= norm(f"{block}norm1", 1408) | norm(f"{block}norm2", 1408)
        table |= {f"{block}attn.q_bias": (1408,), f"{block}attn.v_bias": (1408,)}
        table |= {f"{block}attn.qkv.weight": (4224, 1408)} | biased(f"{block}attn.proj", 1408, 1408)
        table |= biased(f"{block}mlp.fc1", 6144, 1408) | biased(f"{block}mlp.fc2", 1408, 6144)
    return table


def qformer() -> Table:
    table = norm("Qformer.bert.embeddings.LayerNorm", 768)
    for number in range(12):
        layer = f"Qformer.bert.encoder.layer.{number}."
        for part in ("query", "key", "value"):
            table |= biased(f"{layer}attention.self.{part}", 768, 768)
        table |= biased(f"{layer}attention.output.dense", 768, 768)
        table |= norm(f"{layer}attention.output.LayerNorm", 768)
        if number % 2 == 0:
            table |= biased(f"{layer}crossattention.self.query", 768, 768)
            table |= biased(f"{layer}crossattention.self.key", 768, 1408)
            table |= biased(f"{layer}crossattention.self.value", 768, 1408)
            table |= biased(f"{layer}crossattention.output.dense", 768, 768)
            table |= norm(f"{layer}crossattention.output.LayerNorm", 768)
        table |= biased(f"{layer}intermediate_query.dense", 3072, 768)
        table |= biased(f"{layer}output_query.dense", 768, 3072)
        table |= norm(f"{layer}output_query.LayerNorm", 768)
    return table


def language() -> Table:
    model = "llama_model.model."
    table: Table = {
        f"{model}embed_tokens.weight": (32000, 4096),
        f"{model}norm.weight": (4096,),
        "llama_model.lm_head.weight": (32000, 4096),
    }
    for number in range(32):
        layer = f"{model}layers.{number}."
        table |= {f"{layer}self_attn.{part}_proj.weight": (4096, 4096) for part in "qkvo"}
        table |= {f"{layer}mlp.{part}_proj.weight": (11008, 4096) for part in ("gate", "up")}
        table |= {f"{layer}mlp.down_proj.weight": (4096, 11008)}
        table |= {f"{layer}{part}_layernorm.weight": (4096,) for part in ("input", "post_attention")}
    return table


LLAMA_2 = ModelConfig(folder="meta-llama/Llama-2-7b-chat-hf", family="minigpt4", files={"eva_vit": "x"})
VICUNA = ModelConfig(folder="Vision-CAIR/vicuna-7b", family="minigpt4", files={"qformer": "x"})
FORMS = {
    "llama2": (LLAMA_2, biased("llama_proj", 4096, 5632), 23_072_768, 64, 1e-5),
    "vicuna": (
        VICUNA,
        biased("llama_proj", 4096, 768) | {"query_tokens": (1, 32, 768)} | qformer(),
        3_149_824,
        32,
        1e-6,
    ),
}


def count(table: Table) -> int:
    return sum(map(math.prod, table.values()))


def test_the_tables_here_have_the_published_sizes():
    assert count(tower()) == 985_894_528
    assert count(qformer()) == 105_137_664
    assert count({name: shape for name, shape in tower().items() if ".blocks.7." in name}) == 25_248_768
    assert count(language()) == 6_738_415_616


@pytest.mark.parametrize("form", FORMS)
def test_every_name_and_shape_is_the_published_one(form):
    settings, own, tuned, slots, eps = FORMS[form]
    config, _ = FAMILY.config_of(settings)
    _, shapes = abstract(FAMILY, config, here())
    ours = {
        name: entry.hub_shape(shapes[entry.path].shape)
        for entry in FAMILY.entries(config)
        for name in entry.names()
    }
    theirs = tower() | norm("ln_vision", 1408) | own | language()
    assert ours == theirs
    assert sum(math.prod(leaf.shape) for leaf in shapes.values()) == count(theirs)
    chosen = trainable_paths(shapes, FAMILY.trainable, at_most=0.5)
    assert sum(math.prod(shapes[path].shape) for path in chosen) == tuned
    assert (config.num_image_tokens, config.text.eps) == (slots, eps)
    assert FAMILY.shape(config).feature_width == own["llama_proj.weight"][1]


def test_sizes_that_no_tensor_says():
    assert (PUBLISHED.vision.num_heads, PUBLISHED.vision.eps, PUBLISHED.vision.image_size) == (16, 1e-6, 224)
    assert (PUBLISHED.qformer.num_heads, PUBLISHED.qformer.eps) == (12, 1e-12)
