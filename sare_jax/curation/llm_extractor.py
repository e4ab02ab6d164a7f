"""Extracts objects with a language model, behind an OpenAI-compatible endpoint or in a transformers folder.

The lineage asks a language model for a comma list of the concrete things that a caption names, with one
example (protocols 1.2). Names in the reply that are not in the caption are dropped and counted.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.curation.extractor import Extractor, Found
from sare_jax.curation.llm_reply import find_names, names_in
from sare_jax.errors import UserError
from sare_jax.llm.asking import Asker
from sare_jax.llm.client import PRESETS, Endpoint, is_local, read_key
from sare_jax.llm.replies import UnreadableError
from sare_jax.progress.foreign import without_bars

INSTRUCTION = """\
Below is what somebody wrote about a picture. Name every concrete thing that could be seen in such a picture:
people, animals, objects. Write the names as they stand in the text, in their order, separated by commas, on
one line. Name a thing once. Leave out moods, times, places in the picture and the picture itself. Write
nothing else; if the text names no such thing, write: none

Text: In the calm light of the evening, a girl in a yellow raincoat walks two dogs past a row of parked \
bicycles. The dogs look happy.
Things: girl, yellow raincoat, dogs, bicycles

Text: {caption}
Things:"""
MOST_TOKENS = 256
_BATCH = 8


def question(caption: str) -> str:
    """The prompt about one caption."""
    return INSTRUCTION.format(caption=" ".join(caption.split()))


def default_cache() -> Path:
    """Default folder of the replies of endpoints."""
    from sare_jax.records.reading_cache import folder

    return folder() / "objects"


def llm_extractor(
    where: str, model: str = "", *, cache: Path | None = None, key_variable: str = ""
) -> Extractor:
    """The extractor that a setting names.

    Args:
      where: `deepseek` or `openai`, the address of another endpoint, or a folder of a transformers model.
      model: name of the model at the endpoint; empty takes the preset model of `deepseek` or `openai`.
      cache: folder in which an endpoint's replies are kept; None takes `default_cache()`.
      key_variable: environment variable with the key of another address; empty sends none.

    Raises:
      UserError: no such folder, preset or address, no name of a model, or no key.
    """
    if Path(where).is_dir():
        return local_extractor(Path(where))
    return endpoint_extractor(_endpoint(where, model, key_variable), cache or default_cache())


def require(where: str, model: str, key_variable: str) -> None:
    """Looks for a folder, or for address, model and key of an endpoint; asks nothing. As `llm_extractor`."""
    if not Path(where).is_dir():
        _endpoint(where, model, key_variable)


def _endpoint(where: str, model: str, key_variable: str) -> Endpoint:
    preset = PRESETS.get(where)
    if preset is None and not where.startswith(("http://", "https://")):
        raise UserError(
            f"curate.llm (--llm): {where!r} is no folder, no address and none of {', '.join(sorted(PRESETS))}"
        )
    address = preset.base_url if preset else where
    is_local(address)
    model = model or (preset.model if preset else "")
    if not model:
        raise UserError(f"curate.llm_model (--llm-model): empty; name the model that {address} is to use")
    key = read_key(preset.key_variable if preset else key_variable, address)
    return Endpoint(address, model, key, max_tokens=MOST_TOKENS)


def endpoint_extractor(endpoint: Endpoint, cache: Path, parallel: int = 8) -> Extractor:
    """The extractor behind an endpoint; every reply that can be read is kept in `cache`."""
    asker = Asker(endpoint, cache, names_in, parallel)

    def find(captions: Sequence[str]) -> Iterator[Found]:
        answers = asker.ask_all([question(caption) for caption in captions], "asking for objects")
        for caption, answer in zip(captions, answers, strict=True):
            if answer.value is None:
                yield Found(failed=answer.reason or "no reply")
            else:
                yield find_names(caption, answer.value)

    wording = files.hash_value(INSTRUCTION)[:8]
    return Extractor(f"{endpoint.model} at {endpoint.base_url}, instruction {wording}", find)


def local_extractor(folder: Path, device: str = "") -> Extractor:
    """The extractor of a causal language model in transformers' format, decoding greedily.

    Raises:
      UserError: the folder holds no such model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
        with without_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: no causal language model in transformers' format ({line})") from None
    model = model.to(device).eval()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    room = getattr(model.config, "max_position_embeddings", None) or math.inf

    def reply(captions: Sequence[str]) -> list[str | None]:
        texts = [_as_chat(tokenizer, question(caption)) for caption in captions]
        lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
        fits = [length + MOST_TOKENS <= room for length in lengths]
        if not any(fits):
            return [None] * len(texts)
        short = [text for text, fit in zip(texts, fits, strict=True) if fit]
        batch = tokenizer(short, padding=True, return_tensors="pt", add_special_tokens=False).to(device)
        with torch.inference_mode():
            ids = model.generate(
                **batch, do_sample=False, max_new_tokens=MOST_TOKENS, pad_token_id=tokenizer.pad_token_id
            )
        new = ids[:, batch["input_ids"].shape[1] :]
        replies = iter(tokenizer.batch_decode(new, skip_special_tokens=True))
        return [next(replies) if fit else None for fit in fits]

    sizes = sorted([p.name, p.stat().st_size] for p in folder.iterdir() if p.is_file())
    identity = files.hash_value([sizes, INSTRUCTION])[:8]
    return Extractor(f"{folder.name}, files and instruction {identity}", lambda texts: _found(texts, reply))


def _found(captions: Sequence[str], reply: Callable[[Sequence[str]], list[str | None]]) -> Iterator[Found]:
    """Objects of each caption; `reply` returns None for a caption too long for the model's context."""
    for start in range(0, len(captions), _BATCH):
        batch = captions[start : start + _BATCH]
        for caption, text in zip(batch, reply(batch), strict=True):
            if text is None:
                yield Found(failed="longer than the model's context")
                continue
            try:
                yield find_names(caption, names_in(text))
            except UnreadableError as error:
                yield Found(failed=str(error))


def _as_chat(tokenizer, text: str) -> str:
    """The prompt in the model's chat template, or as plain text if it has none."""
    if tokenizer.chat_template is None:
        return (tokenizer.bos_token or "") + text
    message = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
