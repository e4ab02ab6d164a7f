"""What every model family gives to the rest of the program, and what the rest may know of a model.

A family is a folder of `sare_jax.models` with one `Family` record, and one line in `models.families`. Letters
of shapes: B rows, I images, T tokens, F features of an image, P image tokens, W target positions, R beams,
D_v width of the image features, D width of the language model, E width of an image embedding, which is D or,
where image tokens bring more along than what stands in their slots, larger; V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import jax
import numpy as np
from flax import nnx

from sare_jax.models.shared import lora, partition, quantization
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.generation import GenerationRules
from sare_jax.models.shared.partition import Tree
from sare_jax.models.shared.target import Target
from sare_jax.models.shared.weight_files import Needed, Tensor
from sare_jax.settings import DecodingConfig, ModelConfig
from sare_jax.settings.decoding import CacheFormat

__all__ = [
    "Answering",
    "Cache",
    "ExportForm",
    "Family",
    "ImageProcessor",
    "LoadedModel",
    "Model",
    "ModelShape",
    "Prompter",
    "RematPolicy",
    "Source",
    "Span",
    "merge",
]

Span = tuple[int, int]
RematPolicy = Callable[..., bool]


class Cache(Protocol):
    """What a model keeps of the tokens that it has read, for B prompts and R continuations of each."""

    @property
    def step(self) -> jax.Array:
        """int32[], tokens that `decode` has read of each beam."""
        ...

    def follow(self, parents: jax.Array) -> Self:
        """The cache in which beam r of a row goes on from what was beam `parents[row, r]`, int32[B, R]."""
        ...


class Model(Protocol):
    """An nnx module whose methods are pure functions of their arguments and the weights."""

    target: Target

    def encode_images(self, pixels: jax.Array) -> jax.Array:
        """Pictures float[I, …] -> image features float[I, F, D_v]; no gradient flows back.

        Pictures are as the family's image processor gives them, all of one shape: [I, H, W, 3], or what it
        makes of pictures of any size.
        """
        ...

    def project(self, features: jax.Array) -> jax.Array:
        """Image features float[..., F, D_v] -> image embeddings float[..., P, E]; F and P may differ."""
        ...

    def read(
        self,
        tokens: jax.Array,
        image_embeds: jax.Array,
        *,
        positions: jax.Array,
        prefix: tuple[int, ...] = (),
        remat_policy: RematPolicy | None = None,
        depth: int | None = None,
    ) -> jax.Array:
        """Hidden states at some positions of each row, as training needs them.

        Args:
          tokens: int32[B, T], right-padded, without the prefix; image slots hold the image token.
          image_embeds: float[B, P, E]. The image slots of a row take them in order; those that remain, the
            padding of a smaller image, are not used.
          positions: int32[B, W], counted without the prefix.
          prefix: text that stands before every row; no gradient passes through it.
          remat_policy: what `jax.checkpoint` may keep of a layer for the backward pass.
          depth: layers that the rows go through, whose last one's output is returned as it is, before any
            norm; None takes all of them and the final norm.

        Returns:
          float[B, W, D].
        """
        ...

    def logits(self, hidden: jax.Array) -> jax.Array:
        """Hidden states float[..., D] -> float32[..., V]."""
        ...

    def prefill(
        self,
        tokens: jax.Array,
        features: jax.Array | None,
        lengths: jax.Array,
        beams: int,
        steps: int,
        cache: CacheFormat = "as_weights",
    ) -> tuple[jax.Array, Any]:
        """Reads the prompts of a batch, or the part of them that several questions share.

        Args:
          tokens: int32[B, T], right-padded.
          features: float[B, F, D_v], of whose embeddings the image slots take the first ones; None without
            images.
          lengths: int32[B], tokens of each row.
          beams: R, continuations of each prompt.
          steps: tokens that `extend` and `decode` will add to each.
          cache: number format in which keys and values are kept.

        Returns:
          float32[B, V] logits of the token that follows each prompt, and the `Cache`.
        """
        ...

    def parts(self) -> Any:
        """The weights as `decode` reads them; to be called once, outside of the loop over steps."""
        ...

    def extend(
        self, tokens: jax.Array, positions: jax.Array, ends: jax.Array, cache: Any, parts: Any
    ) -> tuple[jax.Array, Any]:
        """Reads several further tokens of each beam, text alone, directly behind the prompts.

        Args:
          tokens: int32[B, R, W], right-padded.
          positions: int32[B], the place of each beam's first one in the row, counted without padding.
          ends: int32[B, R], tokens of each beam, at least one.
          cache: the `Cache` that `prefill` returned.
          parts: the weights as `parts` gives them.

        Returns:
          float32[B, R, V] logits of the token after each beam's last one, and the `Cache` with all of them.
        """
        ...

    def decode(self, token: jax.Array, positions: jax.Array, cache: Any, parts: Any) -> tuple[jax.Array, Any]:
        """Reads one further token of each beam.

        Args:
          token: int32[B, R].
          positions: int32[B, R], its place in the row, counted without padding.
          cache: the `Cache` that `prefill`, `extend` or the step before returned.
          parts: the weights as `parts` gives them.

        Returns:
          float32[B, R, V] logits of the token after it, and the `Cache` with this token in it.
        """
        ...


class Source(Protocol):
    """A base model on disk; nothing but headers has been read. Families add what they alone need."""

    @property
    def family(self) -> "Family":
        """The family that opened it."""
        ...

    @property
    def folder(self) -> Path:
        """The main folder: config.json, tokenizer, weights."""
        ...

    @property
    def config(self) -> Any:
        """Shapes and constants, a frozen dataclass of the family's."""
        ...

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Name in the family's table -> where the tensor lies."""
        ...

    def written_name(self, name: str) -> str:
        """How the files of this model call a tensor of the family's table, or would if they had it."""
        ...


class Prompter(Protocol):
    """Tokenizer, prompt form and image slots of one model."""

    @property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`."""
        ...

    @property
    def image_token_id(self) -> int:
        """The id that stands in every image slot."""
        ...

    @property
    def num_tokens(self) -> int:
        """Entries of the tokenizer; what the model has beyond them is never generated."""
        ...

    @property
    def eos_id(self) -> int:
        """The tokenizer's end token, at which every generation stops."""
        ...

    @property
    def answer_end(self) -> AnswerEnd:
        """How answers end, which is not with the end token in every family."""
        ...

    @property
    def pad_id(self) -> int:
        """Fills rows on the right."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on, as JSON can hold it."""
        ...

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        """Tokens of an instruction about an image of so many slots, up to where the answer starts."""
        ...

    def answer(
        self, instruction: str, text: str, spans: Sequence[Span], *, eos: bool, num_image_tokens: int
    ) -> tuple[list[int], list[Span]]:
        """Tokens of instruction and answer in one piece, and where spans of the answer lie among them."""
        ...

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """Tokens of a further instruction and its answer, to stand behind an answer and what ended it.

        Returns:
          ids, and the index of the answer's first token among them.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, without special ones."""
        ...


class ImageProcessor(Protocol):
    """How pictures become arrays."""

    @property
    def feature_lengths(self) -> tuple[int, ...]:
        """The few numbers of image features to which a batch is padded, rising; the last holds any image."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that the arrays depend on, as JSON can hold it."""
        ...

    def num_image_tokens(self, path: Path) -> int:
        """Image slots of the picture in a file, which is opened only where that depends on it."""
        ...

    def load(self, images_dir: Path, names: Sequence[str]) -> list[np.ndarray]:
        """Files -> an array each, for `encode_images`; `ImageError` where one cannot be read.

        Float32[H, W, 3], or any other shape that the family's `encode_images` takes. Pictures of one shape
        are encoded together, and each shape is compiled once, so there should be few of them.
        """
        ...


@dataclass(frozen=True)
class ModelShape:
    """What memory plans and generation need to know of a model's config.

    Attributes:
      text: shapes and constants of the language model.
      image_token_id: the id that stands in every image slot.
      num_image_tokens: P, image slots of the largest image.
      num_image_features: F, features of the largest image.
      feature_width: D_v, numbers of one image feature.
      picture: shape of the largest image as the image processor gives it.
      layers: path prefix of the language model's stacked layers.
      ends: paths of the embedding table and, where it is one of its own, the head.
    """

    text: TextConfig
    image_token_id: int
    num_image_tokens: int
    num_image_features: int
    feature_width: int
    picture: tuple[int, ...]
    layers: str
    ends: tuple[str, ...]


class Answering(Protocol):
    """Lets another program answer with an exported folder."""

    def __call__(
        self,
        folder: Path,
        requests: Sequence[Mapping[str, Any]],
        *,
        images_dir: Path,
        prompter: Prompter,
        processor: ImageProcessor,
        max_new_tokens: int,
        decoding: DecodingConfig,
    ) -> Iterator[str]:
        """The text of each answer, in the order of the requests (`image`, `instruction`)."""
        ...


@dataclass(frozen=True)
class ExportForm:
    """One way to hand tuned parameters on.

    Attributes:
      write: (source, params, folder, step, the run's settings) makes the new `folder`.
      verify: (source, params, folder, step) reads it back and says, for people, what it holds.
      answers: what another program makes of the folder; None where it is no whole model.
    """

    write: Callable[[Any, Tree, Path, int, Mapping[str, Any]], None]
    verify: Callable[[Any, Tree, Path, int], str]
    answers: Answering | None = None


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
      name: short name.
      recognises: whether a parsed config.json is of this family.
      kinds: what `recognises` accepts, for the message when no family does.
      needed: (the main folder, settings) the files that have to be there, by names in it or full paths.
      how_to_get: (settings) the commands that fetch the model that the settings seem to mean.
      open_source: (folder, settings) reads config and headers; `UserError` where files are missing or broken.
      published: ids of models whose shapes are known without any file.
      config_of: (settings) a model's shapes without its weights, and where they are from.
      shape: (config) what the rest of the program needs to know of it.
      build: (config, target, rngs) the nnx module, a `Model`.
      entries: (config) the name table, every parameter once.
      is_buffer: whether a published name is a buffer that holds no weights.
      is_unused: (name, config) whether a published tensor is known and of no use here.
      prompter: (source, settings) tokenizer and prompt form.
      image_processor: (source, settings) image preprocessing.
      exports: short name of each export form -> `module:name` of its `ExportForm`.
      mapping: regular expression of the parameters that act on image features alone.
      encoder: regular expression of the parameters on which image features depend.
      trainable: regular expression of what is trained where the settings do not say.
      dropping: (model, features float[..., F, D_v], PRNG keys [...], rate) is `Model.project` with that share
        of its attention weights dropped; None where the family has no such layer.
    """

    name: str
    recognises: Callable[[dict[str, Any]], bool]
    kinds: str
    needed: Callable[[Path, ModelConfig], Needed]
    how_to_get: Callable[[ModelConfig], str]
    open_source: Callable[[Path, ModelConfig], Source]
    published: Collection[str]
    config_of: Callable[[ModelConfig], tuple[Any, str]]
    shape: Callable[[Any], ModelShape]
    build: Callable[[Any, Target, nnx.Rngs], Any]
    entries: Callable[[Any], list[Entry]]
    is_buffer: Callable[[str], bool]
    is_unused: Callable[[str, Any], bool]
    prompter: Callable[[Any, ModelConfig], Prompter]
    image_processor: Callable[[Any, ModelConfig], ImageProcessor]
    exports: Mapping[str, str]
    mapping: str
    encoder: str
    trainable: str
    dropping: Callable[[Any, jax.Array, jax.Array, float], jax.Array] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model, divided into what is trained and what is not.

    Attributes:
      graphdef: the structure without weights; hashable, so it may be a static argument of `jax.jit`.
      params: the trainable parameters, nested dictionaries of float32 arrays.
      frozen: all others, in the dtype asked for; int8 kernels with their scales where that was.
      config: shapes and constants, of the family's own type.
      family: the model's family.
      source: the base model on disk that it was read from.
      content_hash: names the weights and shapes (see `models.load.content_hash`).
      generation: end tokens and other rules of generation that the model's files state.
    """

    graphdef: nnx.GraphDef
    params: Tree
    frozen: Tree
    config: Any
    family: Family
    source: Source
    content_hash: str
    generation: GenerationRules

    @property
    def folder(self) -> Path:
        """Main folder of the base model."""
        return self.source.folder

    @property
    def shape(self) -> ModelShape:
        """What the rest of the program needs to know of `config`."""
        return self.family.shape(self.config)

    def merge(self, params: Tree, frozen: Tree) -> Model:
        """The model with these weights; also inside `jax.jit`, with the weights as arguments."""
        return merge(self.graphdef, params, frozen)


def merge(graphdef: nnx.GraphDef, params: Tree, frozen: Tree) -> Model:
    """The model of this structure with these weights; pure, so it may be called inside `jax.jit`.

    Args:
      graphdef: the structure without adapters.
      params: trainable weights.
      frozen: the others. Adapters in either tree (`shared.lora`) and scales of int8 kernels
        (`shared.quantization`) come to stand beside their layers.
    """
    weights, adapters = lora.split(partition.combine(params, frozen))
    weights, scales = quantization.split(weights)
    return lora.attach(quantization.attach(nnx.merge(graphdef, weights), scales), adapters)
