"""Many questions about many images, answered in batches and written as they come."""

import dataclasses
import functools
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from sare_jax.data.images import MOST_PIXELS, require_images
from sare_jax.errors import UserError
from sare_jax.files import hash_value
from sare_jax.inference.features import FeatureCache
from sare_jax.inference.generate import Generated, generate
from sare_jax.inference.journal import Answer, Journal
from sare_jax.inference.sharing import Batch, arrays_of, batches_of, padded_length, rows_of
from sare_jax.inference.stopping import cut, stop_table
from sare_jax.models.interface import ImageProcessor, LoadedModel, Prompter
from sare_jax.models.prompting import ImagePrompter
from sare_jax.models.shared.partition import Tree, hash_params
from sare_jax.progress import COMPILING, bar
from sare_jax.rounding import round_up
from sare_jax.settings import GREEDY, DecodingConfig
from sare_jax.settings.auto import Lowered, Sizer

# Requests that may go on from one reading of an image; each of them is compared with all of the others.
MOST_SHARING = 16


class _Started(NamedTuple):
    """A batch that is being answered: its requests, the request of each answer, and the answers."""

    indices: list[int]
    places: np.ndarray
    generated: Generated


@dataclass(frozen=True)
class _Answerer:
    """One set of weights, and everything that answering a batch needs beside it."""

    loaded: LoadedModel
    params: Tree
    prompter: Prompter
    features: FeatureCache
    max_new_tokens: int
    batch_size: int
    decoding: DecodingConfig
    rows: jax.sharding.Sharding | None
    end_ids: tuple[int, ...]
    allowed: np.ndarray
    opening: np.ndarray | None
    stop: tuple[str, ...]
    stops: np.ndarray | None

    def start(
        self, batch: Batch, prompts: Sequence[list[int]], requests: Sequence[dict[str, Any]]
    ) -> _Started:
        """Queues a batch, filled up to the number of rows that every batch of this width has."""
        rows = round_up(max(1, self.batch_size // batch.width), self.devices)
        made = arrays_of(batch, prompts, rows, self.prompter.pad_id)
        images = [requests[row[0]]["image"] for row in made.indices]
        arrays = (made.tokens, made.lengths, self.features(images), made.tails, made.ends, made.indices)
        tokens, lengths, features, tails, ends, numbers = jax.device_put(arrays, self.rows)
        further = {"tails": tails, "ends": ends, "numbers": numbers.reshape(-1)}
        generated = generate(*self._weights, tokens, lengths, features, **further, **self._how)
        return _Started(batch.indices, made.indices.reshape(-1), generated)

    def lowered(self, length: int, rows: int, width: int, tail: int) -> Lowered:
        """The program for a batch.

        Args:
          length: tokens to which what is read once for each row is padded.
          rows: requests of the batch.
          width: requests that share a row.
          tail: tokens to which their own parts are padded.
        """

        def array(*shape: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=self.rows)

        shape, frozen = self.loaded.shape, self.loaded.frozen
        count = round_up(max(1, rows // width), self.devices)
        dtype = jax.tree.leaves(frozen)[0].dtype
        features = array(count, shape.num_image_features, shape.feature_width, dtype=dtype)
        tokens, lengths, numbers = array(count, length), array(count), array(count * width)
        further = {"tails": array(count, width, tail), "ends": array(count, width)} if width > 1 else {}
        lowered = generate.lower(
            *self._weights, tokens, lengths, features, numbers=numbers, **further, **self._how
        )
        return Lowered(lowered, (self.params, frozen, tokens, features, further))

    @property
    def devices(self) -> int:
        """Number of devices over which rows are divided."""
        return len(self.rows.device_set) if self.rows else 1

    @property
    def _weights(self) -> tuple[Any, Tree, Tree]:
        return self.loaded.graphdef, self.params, self.loaded.frozen

    @property
    def _how(self) -> dict[str, Any]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "end_ids": self.end_ids,
            "pad_id": self.prompter.pad_id,
            "decoding": self.decoding,
            "allowed": self.allowed,
            "opening": self.opening,
            "stops": self.stops,
            "penalty": self.loaded.generation.repetition_penalty,
        }

    def read(self, started: _Started) -> dict[int, Answer]:
        """Waits for a batch and turns it into text, by request number."""
        columns = zip(started.places.tolist(), *map(np.asarray, started.generated), strict=True)
        answers: dict[int, Answer] = {}
        for index, ids, count, ended in columns:
            if index not in answers:  # what fills a batch up stands behind
                answers[index] = self._answer(ids[:count].tolist(), bool(ended))
        return {index: answers[index] for index in started.indices}

    def _answer(self, new: list[int], ended: bool) -> Answer:
        text = self.prompter.decode(new)
        before = cut(text, self.stop)
        if ended and new[-1] not in self.end_ids and before == text:
            before = ""  # the string starts with the space before the answer, which decoding strips
        return {
            "text": before.strip(),
            "finish_reason": "stop" if ended or before != text else "length",
            "tokens": len(new),
        }


def ask(
    loaded: LoadedModel,
    params: Tree,
    requests: Sequence[dict[str, Any]],
    *,
    images_dir: Path,
    out: Path,
    processor: ImageProcessor,
    prompter: Prompter,
    max_new_tokens: int,
    batch_size: int | Sizer,
    name: str,
    features: FeatureCache | None = None,
    decoding: DecodingConfig = GREEDY,
    rows: jax.sharding.Sharding | None = None,
    max_pixels: int = MOST_PIXELS,
    contents: str = "",
) -> list[dict[str, Any]]:
    """Answers requests and writes them to `out`, one JSON object a line, in their order.

    Finished batches are appended to a file beside `out` that ends in `.partial`. After an interruption the
    same call goes on behind them, and when all are done it writes `out`. A second call with an `out` that
    this very call made reads it back. Both rest on a hash of requests, weights and settings; files of other
    calls are not used. Any failure is raised: no answer is ever left empty in its place.

    Args:
      loaded: the model.
      params: its trainable weights for these answers.
      requests: each with "image" (a file name) and "instruction"; all keys are carried over.
      images_dir: folder of the images, all of them readable (see `images.usable_images`).
      out: JSON lines to write.
      processor: turns pictures into arrays.
      prompter: tokenizer and prompt form of the model.
      max_new_tokens: most tokens of an answer.
      batch_size: requests answered at a time, over all devices, or what chooses their number. Several about
        one image share the reading of what their prompts begin with, image included, where that is less work
        (`inference.sharing`).
      name: label of the progress bar.
      features: a cache that several calls share; None encodes every image in this call.
      decoding: how answers are decoded; by default the likeliest token each time. A draw
        depends on the seed and the request's number. Strings that end answers in the model's family count
        beside its own.
      rows: how the rows of a batch are divided over devices, each of which holds the weights; the batch is
        filled up to a multiple of their number. None generates where the weights lie.
      max_pixels: width times height of the largest image that is read.
      contents: hash of the images' contents; answers to other contents under the same names are not used.

    Returns:
      Each request with "text" (stripped, without stop strings), "finish_reason" ("stop" at an end token or
      a stop string, "length" at the limit) and "tokens" (how many were generated, those of the end
      included).

    Raises:
      UserError: a request without image or instruction, a repetition penalty and beams, images that
        `data.images.check_image` refuses (all are listed), an image that cannot be read, an empty stop
        string, or end tokens of the model without the tokenizer's.
    """
    _warn(max_new_tokens, decoding)
    loaded.generation.require_possible(decoding)
    stop = (*prompter.answer_end.stop, *decoding.stop)
    about = ImagePrompter(prompter, processor, Path(images_dir))

    @functools.cache  # for the parts of `ask` that need it
    def answerer() -> _Answerer:
        return _Answerer(
            loaded,
            params,
            prompter,
            features or FeatureCache(loaded, processor, images_dir, rows=rows),
            max_new_tokens,
            0,
            decoding,
            rows,
            loaded.generation.end_ids(prompter.eos_id),
            _allowed(loaded, prompter),
            _opening(loaded),
            stop,
            _stops(loaded, prompter, stop),
        )

    grouping = {
        "new": max_new_tokens,
        "most": MOST_SHARING if decoding.num_beams == 1 else 1,
        "image_token": prompter.image_token_id,
    }
    if not isinstance(batch_size, int):
        _check(requests)
        images = [request["image"] for request in requests]
        batch_size = _size(batch_size, answerer(), _prompts(about, requests), images, grouping)
    asked = {
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "decoding": asdict(decoding),
        "contents": contents,
    }
    journal = Journal(out, _key(loaded, params, requests, processor, prompter, asked))
    if (whole := journal.whole()) is not None:
        return whole
    _check(requests)
    require_images(images_dir, (request["image"] for request in requests), max_pixels)

    prompts = _prompts(about, requests)
    batches = batches_of(
        prompts,
        [request["image"] for request in requests],
        batch_size=batch_size,
        **grouping,
    )
    answers = journal.resume([batch.indices for batch in batches])
    todo = [batch for batch in batches if batch.indices[0] not in answers]
    answering = dataclasses.replace(answerer(), batch_size=batch_size)
    with bar(len(requests), name, done=len(answers), unit="answer", waiting=COMPILING) as progress:
        for made in _answer(answering, todo, prompts, requests):
            journal.append(made)
            answers |= made
            progress.update(len(made))
    results = [{**request, **answers[index]} for index, request in enumerate(requests)]
    journal.finish(results)
    return results


def _prompts(about: ImagePrompter, requests: Sequence[dict[str, Any]]) -> list[list[int]]:
    return [about.prompt(request["image"], request["instruction"]) for request in requests]


def _size(
    sizer: Sizer,
    answerer: _Answerer,
    prompts: list[list[int]],
    images: Sequence[str],
    grouping: dict[str, int],
) -> int:
    """The requests that are answered at a time, chosen for the longest prompt and the most sharing."""
    rows, width = rows_of(prompts, images, **grouping)
    lengths, tails = zip(*(row.padded for row in rows), strict=True) if rows else ((1,), (0,))
    whole = padded_length(max(map(len, prompts), default=1))
    about = {
        "prompt": whole,
        "shared": [width, max(lengths), max(tails)],
        "max_new_tokens": answerer.max_new_tokens,
        "decoding": asdict(answerer.decoding),
        "trainable": sum(leaf.size for leaf in jax.tree.leaves(answerer.params)),
    }

    def make(number: int) -> Lowered:
        if number < width:  # too few for one row of so many
            return answerer.lowered(whole, number, 1, 0)
        return answerer.lowered(max(lengths), number, width, max(tails))

    return sizer.rows(make, multiple=answerer.devices, most=max(1, len(prompts)), about=about)


def _answer(
    answerer: _Answerer,
    todo: Sequence[Batch],
    prompts: Sequence[list[int]],
    requests: Sequence[dict[str, Any]],
) -> Iterator[dict[int, Answer]]:
    """Answers batch after batch; the next one is prepared and queued before the last one is waited for."""
    queued: _Started | None = None
    for batch in todo:
        started = answerer.start(batch, prompts, requests)
        if queued is not None:
            yield answerer.read(queued)
        queued = started
    if queued is not None:
        yield answerer.read(queued)


def _allowed(loaded: LoadedModel, prompter: Prompter) -> np.ndarray:
    """bool[V], tokens that may be generated.

    Not among them are ids beyond the tokenizer, the image token, and what the model's files suppress.
    """
    allowed = np.arange(loaded.shape.text.vocab_size) < prompter.num_tokens
    allowed[prompter.image_token_id : prompter.image_token_id + 1] = False
    return allowed & _without(loaded, loaded.generation.suppressed)


def _opening(loaded: LoadedModel) -> np.ndarray | None:
    """bool[V], tokens with which an answer may begin; None where the model's files bar none."""
    first = loaded.generation.suppressed_first
    return _without(loaded, first) if first else None


def _without(loaded: LoadedModel, ids: Sequence[int]) -> np.ndarray:
    """bool[V], True for all tokens but `ids`; ids of V and above are ignored."""
    return ~np.isin(np.arange(loaded.shape.text.vocab_size), ids)


def _stops(loaded: LoadedModel, prompter: Prompter, stop: Sequence[str]) -> np.ndarray | None:
    return stop_table(prompter.tokenizer, stop, loaded.shape.text.vocab_size) if stop else None


def _warn(max_new_tokens: int, decoding: DecodingConfig) -> None:
    if max_new_tokens == 1:
        warnings.warn(
            "max_new_tokens is 1: a first token that is a space leaves an empty answer", stacklevel=3
        )
    if decoding.temperature == 0 and (decoding.top_k or decoding.top_p < 1):
        warnings.warn(
            "decoding.temperature is 0: nothing is drawn, top_k and top_p are ignored", stacklevel=3
        )


def _check(requests: Sequence[dict[str, Any]]) -> None:
    for place, request in enumerate(requests):
        for key in ("image", "instruction"):
            if not isinstance(request.get(key), str):
                raise UserError(f"request {place} has no {key!r}: {json.dumps(request)[:80]}")


def _key(
    loaded: LoadedModel,
    params: Tree,
    requests: Sequence[dict[str, Any]],
    processor: ImageProcessor,
    prompter: Prompter,
    settings: dict[str, Any],
) -> str:
    """Hash of all that the answers depend on; of the batch size too, which decides who shares a batch."""
    return hash_value(
        {
            "requests": list(requests),
            "base": loaded.content_hash,
            "params": hash_params(params),
            "dtypes": sorted({str(leaf.dtype) for leaf in jax.tree.leaves(loaded.frozen)}),
            "processor": processor.identity,
            "prompter": prompter.identity,
            "generation": loaded.generation.identity,
            **settings,
        }
    )
