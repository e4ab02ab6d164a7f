"""A model family from outside: cells of an image's colours, one linear map, and a LLaMA.

Bright pictures are cut into 4 cells and dark ones into 2, so images take different numbers of slots. The
decoder is the embedded LLaVA's, written under other names into a folder of this family's own form.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from sare_jax.data.images import load_image, read_image
from sare_jax.export.tensors import tuned_tensors
from sare_jax.models.interface import ExportForm, Family, ModelShape, Source
from sare_jax.models.shared import reading, safetensors_io
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.config import TextConfig, text_config
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.layers import BiasedLinear, Embedding, Linear
from sare_jax.models.shared.llama import Llama
from sare_jax.models.shared.pieces import token_border, token_ends
from sare_jax.models.shared.target import Target
from sare_jax.settings import ModelConfig

LAYER = {
    "attention_norm/scale": ("input_layernorm", (0,)),
    "mlp_norm/scale": ("post_attention_layernorm", (0,)),
    **{f"{name}/kernel": (f"self_attn.{name}_proj", (1, 0)) for name in ("q", "k", "v")},
    "out/kernel": ("self_attn.o_proj", (1, 0)),
    **{f"{name}/kernel": (f"mlp.{name}_proj", (1, 0)) for name in ("gate", "up", "down")},
}
ENDS = {"embed/table": "words", "language_model/norm/scale": "norm", "head/kernel": "head"}
SIDE, COLOURS = 8, 3  # a cell is SIDE pixels wide and high


@dataclass(frozen=True)
class ToyConfig:
    """Shapes: the decoder's, and the token that stands for a cell."""

    text: TextConfig
    image_token_id: int
    most_cells: int = 4


class Toy(nnx.Module):
    """The model."""

    read, logits = reading.read, reading.logits
    prefill, extend = reading.prefill, reading.extend
    parts, decode = reading.parts, reading.decode

    def __init__(self, config: ToyConfig, target: Target, rngs: nnx.Rngs):
        self.cells = BiasedLinear(SIDE * SIDE * COLOURS, config.text.width, rngs=rngs)
        self.embed = Embedding(config.text.vocab_size, config.text.width, rngs=rngs)
        self.language_model = Llama(config.text, target, rngs=rngs)
        self.head = Linear(config.text.width, config.text.vocab_size, rngs=rngs)
        self.config, self.target = config, target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        images, _, width, _ = pixels.shape
        cells = pixels.reshape(images, SIDE, width // SIDE, SIDE, COLOURS).swapaxes(1, 2)
        return cells.reshape(images, width // SIDE, -1)

    def project(self, features: jax.Array) -> jax.Array:
        return self.cells(features.astype(jnp.float32))


@dataclass(frozen=True)
class ToySource:
    """A folder of the family's form."""

    family: Family
    folder: Path
    config: ToyConfig
    tensors: Mapping[str, Any]

    def written_name(self, name: str) -> str:
        return name


@dataclass(frozen=True)
class ToyPrompter:
    """`<s>`, the cells, the instruction, ` ASSISTANT:`."""

    tokenizer: Tokenizer
    image_token_id: int
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = 0

    @property
    def answer_end(self) -> AnswerEnd:
        return AnswerEnd((self.eos_id,))

    @property
    def num_tokens(self) -> int:
        return self.tokenizer.get_vocab_size()

    @property
    def identity(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_str()}

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        return self.answer(instruction, "", [], eos=False, num_image_tokens=num_image_tokens)[0]

    def answer(
        self,
        instruction: str,
        text: str,
        spans: Sequence[tuple[int, int]],
        *,
        eos: bool,
        num_image_tokens: int,
    ) -> tuple[list[int], list[tuple[int, int]]]:
        prompt = f"USER: {instruction} ASSISTANT:"
        encoding = self.tokenizer.encode(f"{prompt} {text}" if text else prompt, add_special_tokens=False)
        front = [self.bos_id, *[self.image_token_id] * num_image_tokens]
        ids, ends = [*front, *encoding.ids], [*[0] * len(front), *token_ends(encoding.offsets)]
        begin, places = len(prompt) + 1, []
        for start, end in spans:
            last = len(ids) + eos if end == len(text) else token_border(ends, begin + end)
            places.append((token_border(ends, begin + start if start else begin - 1), last))
        return ids + [self.eos_id] * eos, places

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


@dataclass(frozen=True)
class ToyImages:
    """Pictures → float32[SIDE, cells × SIDE, 3]."""

    feature_lengths: tuple[int, ...] = (2, 4)

    @property
    def identity(self) -> dict[str, Any]:
        return {"lengths": self.feature_lengths}

    def num_image_tokens(self, path: Path) -> int:
        return self._cells(load_image(path))

    def load(self, images_dir: Path, names: Sequence[str]) -> list[np.ndarray]:
        return [self._pixels(read_image(images_dir, name)) for name in names]

    def _cells(self, image: Image.Image) -> int:
        return self.feature_lengths[int(np.asarray(image.convert("L")).mean() > 128)]

    def _pixels(self, image: Image.Image) -> np.ndarray:
        small = image.resize((self._cells(image) * SIDE, SIDE))
        return np.asarray(small, np.float32) / 127.5 - 1


def entries(config: ToyConfig) -> list[Entry]:
    layers = [
        Entry(f"language_model/layers/{path}", f"decoder.{{}}.{name}", axes, config.text.num_layers)
        for path, (name, axes) in LAYER.items()
    ]
    ends = [
        Entry(path, name, (0,) if name == "norm" else (1, 0) if name == "head" else (0, 1))
        for path, name in ENDS.items()
    ]
    return [Entry("cells/kernel", "cells.w", (1, 0)), Entry("cells/bias", "cells.b", (0,)), *layers, *ends]


def open_source(folder: Path, settings: ModelConfig) -> ToySource:
    del settings
    raw = json.loads((folder / "config.json").read_text())
    config = ToyConfig(text_config(raw["text"], False, "text"), raw["image_token_id"])
    return ToySource(FAMILY, folder, config, safetensors_io.read_tensors(folder))


def write(source: Source, params: Any, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    save_file(
        {name: np.ascontiguousarray(x) for name, x in tuned_tensors(source, params).items()}, folder / "cells"
    )


def verify(source: Source, params: Any, folder: Path, step: int) -> str:
    return f"{sorted(load_file(folder / 'cells'))}"


TENSORS = ExportForm(write, verify)


def shape(config: ToyConfig) -> ModelShape:
    return ModelShape(
        text=config.text,
        image_token_id=config.image_token_id,
        num_image_tokens=config.most_cells,
        num_image_features=config.most_cells,
        feature_width=SIDE * SIDE * COLOURS,
        picture=(SIDE, config.most_cells * SIDE, COLOURS),
        layers="language_model/layers/",
        ends=("embed/table", "head/kernel"),
    )


FAMILY = Family(
    name="toy",
    recognises=lambda raw: raw.get("model_type") == "toy",
    kinds="model_type toy",
    needed=lambda folder, settings: {"config.json": ("config.json",)},
    how_to_get=lambda settings: "write one",
    open_source=open_source,
    published=(),
    config_of=lambda settings: (open_source(Path(settings.folder), settings).config, settings.folder),
    shape=shape,
    build=Toy,
    entries=entries,
    is_buffer=lambda name: False,
    is_unused=lambda name, config: False,
    prompter=lambda source, settings: ToyPrompter(
        Tokenizer.from_file(str(source.folder / "tokenizer.json")), source.config.image_token_id
    ),
    image_processor=lambda source, settings: ToyImages(),
    exports={"tensors": f"{__name__}:TENSORS"},
    mapping=r"cells/.*",
    encoder=r"nothing",
    trainable=r"cells/.*",
)


def write_toy(folder: Path, llava: Path) -> None:
    """Writes a model: a LLaVA folder's decoder, and random cells."""
    folder.mkdir()
    raw = json.loads((llava / "config.json").read_text())
    source = load_file(llava / "model.safetensors")
    prefix, rng = "language_model.model", np.random.default_rng(0)
    width = raw["text_config"]["hidden_size"]
    tensors = {
        "words": source[f"{prefix}.embed_tokens.weight"],
        "norm": source[f"{prefix}.norm.weight"],
        "head": source["language_model.lm_head.weight"],
        "cells.w": rng.normal(0, 0.02, (width, SIDE * SIDE * COLOURS)).astype(np.float16),
        "cells.b": np.zeros(width, np.float16),
    }
    for layer in range(raw["text_config"]["num_hidden_layers"]):
        for name, _ in LAYER.values():
            tensors[f"decoder.{layer}.{name}"] = source[f"{prefix}.layers.{layer}.{name}.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_bytes((llava / "tokenizer.json").read_bytes())
    config = {"model_type": "toy", "text": raw["text_config"], "image_token_id": raw["image_token_index"]}
    (folder / "config.json").write_text(json.dumps(config))
