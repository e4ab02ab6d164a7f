"""Text -> token ids: prompt forms, image slots, and where a span of characters lies among the tokens."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig, image_slots
from sare_jax.models.llava.source import LlavaSource
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.config import size
from sare_jax.models.shared.pieces import Span, check_span, token_border, token_ends
from sare_jax.models.shared.sentencepiece_bpe import read_sentencepiece
from sare_jax.schema import checked, read_object

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
# Text before the image, between image and instruction, and after the instruction, where the answer begins.
TEMPLATES = {
    "hub": ("USER: ", "\n", " ASSISTANT:"),
    "vicuna_v1": (f"{_SYSTEM} USER: ", "\n", " ASSISTANT:"),
}
# Stands for the image inside the tokenizer alone: private-use characters, which no text has.
_IMAGE_MARK = "\ue0f0image\ue0f1"
_IMAGE_TOKEN = "<image>"  # how LLaVA's own code spells it, where the tokenizer has no such token


@dataclass(frozen=True)
class LlavaPrompter:
    """Tokenizer, prompt form and image slots of one model.

    Text never turns into control tokens: an `</s>` that somebody typed is five characters.

    Attributes:
      tokenizer: reads every special token but the image mark as plain text.
      template: the three texts around image and instruction.
      image_mark_id: the tokenizer's own id of the image mark, which is replaced by image slots.
      image_token_id: the id that stands in every image slot.
      image_token: how an instruction would name the image, which is an error.
      num_tokens: entries of the tokenizer; the model may have more rows, which are never to be generated.
      bos_id: starts every prompt, once.
      eos_id: ends an answer.
      pad_id: fills rows on the right.
    """

    tokenizer: Tokenizer
    template: tuple[str, str, str]
    image_mark_id: int
    image_token_id: int
    image_token: str
    num_tokens: int
    bos_id: int
    eos_id: int
    pad_id: int

    @classmethod
    def from_source(cls, source: LlavaSource, template: str = "vicuna_v1") -> "LlavaPrompter":
        """Reads the tokenizer of a base model: tokenizer.json, or else sentencepiece's tokenizer.model.

        A tokenizer.json is run as the file says. (transformers 5 rebuilds tokenizers of class LlamaTokenizer
        and drops the space piece behind special tokens, which published LLaVAs were trained with; of class
        PreTrainedTokenizerFast it runs them as the file says too.)

        With tokenizer.model the text before the image and the text behind it are tokenised each on its own,
        as LLaVA's `tokenizer_image_token` does, so that each starts with `▁`: the line break behind the image
        is `▁`, `<0x0A>`. The `legacy` flag of tokenizer_config.json makes no difference to that, as it is
        about text behind a special token inside one string. The llava-hf tokenizer.json gives the same ids.
        Such a model pads with its unknown piece and has no token for the image.

        Args:
          source: the base model, whose folder holds the tokenizer's files.
          template: "vicuna_v1" (the original and EFUF: with the system sentence) or "hub" (llava-hf).

        Raises:
          UserError: a file is missing, there is no such template, or the files contradict each other about
            the number of image tokens or the vocabulary.
        """
        if template not in TEMPLATES:
            raise UserError(
                f"config.model.template: is {template!r}, need one of {', '.join(TEMPLATES)} for a LLaVA"
            )
        config = source.config
        _check_slots(source.folder, config)
        words = _read_vocabulary(source.folder, config)
        tokenizer = words.tokenizer
        tokenizer.add_tokens([words.image_mark])
        # Special tokens met in a text are text; the mark is not special.
        tokenizer.encode_special_tokens = True
        return cls(
            tokenizer=tokenizer,
            template=TEMPLATES[template],
            image_mark_id=tokenizer.get_vocab()[_IMAGE_MARK],
            image_token_id=config.image_token_id,
            image_token=words.image_token,
            num_tokens=words.size,
            bos_id=words.bos_id,
            eos_id=words.eos_id,
            pad_id=words.pad_id,
        )

    @property
    def answer_end(self) -> AnswerEnd:
        """The end token."""
        return AnswerEnd((self.eos_id,))

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on, as JSON can hold it."""
        tokenizer = hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()
        return {"tokenizer": tokenizer, "template": self.template, "bos": self.bos_id, "eos": self.eos_id}

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        """Token ids of an instruction about one image, up to where the answer starts.

        One BOS comes first; the image token stands `num_image_tokens` times.

        Raises:
          UserError: the instruction names the image token itself.
        """
        return self._encode(self._text(instruction), num_image_tokens)[0]

    def answer(
        self, instruction: str, text: str, spans: Sequence[Span], *, eos: bool, num_image_tokens: int
    ) -> tuple[list[int], list[Span]]:
        """Token ids of instruction and answer in one piece, and where spans of the answer lie among them.

        The answer follows the prompt after one space. It is tokenised together with the prompt, so that a
        span's tokens are those that the model would generate there.

        Args:
          instruction: the user's text, without the image.
          text: the answer, without the space before it.
          spans: (start, end) in characters of `text`.
          eos: whether the answer is whole and the end token follows it. It then belongs to every span that
            ends where the text ends.
          num_image_tokens: image slots that the image takes.

        Returns:
          ids, and for each span the (start, end) of its tokens in ids; see `token_border` for tokens that
          straddle a border. The span may be empty when no token ends inside it.

        Raises:
          UserError: the instruction names the image token itself, or a span lies outside the text.
        """
        prompt = self._text(instruction)
        ids, ends = self._encode(f"{prompt} {text}", num_image_tokens)
        begin = len(prompt) + 1
        token_spans = []
        for start, end in spans:
            check_span(start, end, text)
            # The space before the answer is the answer's: as a piece of its own, the model writes it.
            first = token_border(ends, begin + start if start else begin - 1)
            last = len(ids) + eos if end == len(text) else token_border(ends, begin + end)
            token_spans.append((first, last))
        return ids + [self.eos_id] * eos, token_spans

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """Token ids of a further instruction and its answer, behind an answer and its end token.

        As LLaVA's training joins turns: `…</s>USER: … ASSISTANT: …`, where the text behind the end token is
        tokenised by itself.

        Returns:
          ids, and the index of the answer's first token among them.

        Raises:
          UserError: the instruction names the image token.
        """
        before, _, after = self.template
        self._check_unnamed(instruction)
        prompt = f"{before.removeprefix(_SYSTEM).lstrip()}{instruction}{after}"
        encoding = self.tokenizer.encode(f"{prompt} {text}", add_special_tokens=False)
        return list(encoding.ids), token_border(token_ends(encoding.offsets), len(prompt))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _text(self, instruction: str) -> str:
        before, between, after = self.template
        self._check_unnamed(instruction)
        return f"{before}{_IMAGE_MARK}{between}{instruction}{after}"

    def _check_unnamed(self, instruction: str) -> None:
        named = instruction.count(self.image_token) + instruction.count(_IMAGE_MARK)
        if named:
            raise UserError(
                f"the instruction {instruction[:60]!r} names {self.image_token} {named} times, so the prompt "
                f"has {named + 1} image slots for 1 image; leave it out, the template has it"
            )

    def _encode(self, text: str, num_image_tokens: int) -> tuple[list[int], list[int]]:
        """Ids with BOS and image slots, and for each the character behind its last one."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        if encoding.ids.count(self.image_mark_id) != 1:
            raise UserError(f"the answer holds the reserved characters {_IMAGE_MARK!r}; remove them")
        ids, ends = [self.bos_id], [0]
        for token, end in zip(encoding.ids, token_ends(encoding.offsets), strict=True):
            is_image = token == self.image_mark_id
            ids += [self.image_token_id] * num_image_tokens if is_image else [token]
            ends += [end] * (num_image_tokens if is_image else 1)
        return ids, ends


class _Vocabulary(NamedTuple):
    """A tokenizer before the image mark is added, and what its files say of it."""

    tokenizer: Tokenizer
    size: int
    image_token: str
    image_mark: AddedToken
    bos_id: int
    eos_id: int
    pad_id: int


def _read_vocabulary(folder: Path, config: LlavaConfig) -> _Vocabulary:
    path = folder / "tokenizer.json"
    if path.is_file():
        words = _from_json(path, config)
    elif (path := folder / "tokenizer.model").is_file():
        words = _from_sentencepiece(path)
        if config.image_token_id < words.size:
            raise UserError(
                f"{path}: image token {config.image_token_id} is the piece "
                f"{words.tokenizer.id_to_token(config.image_token_id)!r}; put a tokenizer.json beside it"
            )
    else:
        raise UserError(f"{folder}: no tokenizer; looked for tokenizer.json and tokenizer.model")
    if words.size > config.text.vocab_size:
        raise UserError(
            f"{path}: has {words.size} tokens, but the model has rows for {config.text.vocab_size} "
            "(text_config.vocab_size)"
        )
    return words


def _from_json(path: Path, config: LlavaConfig) -> _Vocabulary:
    raw = read_object(path)
    names = _special_names(path.with_name("tokenizer_config.json"))
    # The file's post-processor adds BOS, which is done here, and may trim spaces from offsets.
    raw |= {"post_processor": None, "truncation": None, "padding": None}
    flags = {}
    raw["added_tokens"] = checked(
        raw.get("added_tokens") or [], list[dict[str, Any]], f"{path}: added_tokens"
    )
    for entry in raw["added_tokens"]:
        if entry.get("id") == config.image_token_id:
            flags = entry
        # Files exist that do not mark them; a text would then turn into them.
        if entry.get("id") == config.image_token_id or entry.get("content") in names.values():
            entry["special"] = True
    try:
        tokenizer = Tokenizer.from_str(json.dumps(raw))
    except Exception as error:  # the library has no type of its own
        raise UserError(f"{path}: not a tokenizer ({error}); download it again") from None
    known = tokenizer.get_vocab()
    ids = {kind: known[name] for kind, name in names.items() if name in known}
    for kind in ("bos_token", "eos_token"):
        if kind not in ids:
            raise UserError(
                f"{path.with_name('tokenizer_config.json')}: {kind} is {names[kind]!r}, which is no token of "
                "tokenizer.json"
            )
    return _Vocabulary(
        tokenizer,
        size=max(known.values()) + 1,
        image_token=tokenizer.id_to_token(config.image_token_id) or _IMAGE_TOKEN,
        image_mark=_image_mark(flags.get("lstrip", False), flags.get("rstrip", False)),
        bos_id=ids["bos_token"],
        eos_id=ids["eos_token"],
        pad_id=ids.get("pad_token", ids["eos_token"]),
    )


def _from_sentencepiece(path: Path) -> _Vocabulary:
    tokenizer, bos, eos, unknown = read_sentencepiece(path)
    tokenizer.add_special_tokens([tokenizer.id_to_token(number) for number in (bos, eos, unknown)])
    return _Vocabulary(
        tokenizer, tokenizer.get_vocab_size(), _IMAGE_TOKEN, _image_mark(False, False), bos, eos, unknown
    )


def _image_mark(lstrip: bool, rstrip: bool) -> AddedToken:
    return AddedToken(_IMAGE_MARK, lstrip=lstrip, rstrip=rstrip, normalized=False, special=False)


def _special_names(path: Path) -> dict[str, str | None]:
    """The spelling of BOS, EOS and padding; None where the file has none."""
    settings = read_object(path)
    values = {kind: settings.get(kind) for kind in ("bos_token", "eos_token", "pad_token")}
    spelt = {
        kind: value.get("content") if isinstance(value, dict) else value for kind, value in values.items()
    }
    return {kind: checked(name, str | None, f"{path}: {kind}") for kind, name in spelt.items()}


def _check_slots(folder: Path, config: LlavaConfig) -> None:
    """The processor's count of image slots has to be the model's: Hugging Face keeps both."""
    path = folder / "processor_config.json"
    if not path.is_file():
        return
    raw = read_object(path)
    own = "full" if config.keep_class_token else "default"
    patch = size(
        raw if raw.get("patch_size") else {"patch_size": config.vision.patch_size}, "patch_size", str(path)
    )
    strategy = checked(
        raw.get("vision_feature_select_strategy") or own, str, f"{path}: vision_feature_select_strategy"
    )
    additional = checked(
        raw.get("num_additional_image_tokens", 1), int, f"{path}: num_additional_image_tokens"
    )
    there = image_slots(config.vision.image_size, patch, additional, strategy)
    if there != config.num_image_tokens:
        raise UserError(
            f"{path}: {there} image tokens (patch_size {patch}, vision_feature_select_strategy {strategy}, "
            f"num_additional_image_tokens {additional}), but {config.num_image_tokens} in config.json "
            f"(vision_config.patch_size {config.vision.patch_size}, vision_config.image_size "
            f"{config.vision.image_size}, vision_feature_select_strategy {own})"
        )
