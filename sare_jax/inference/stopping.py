"""What ends an answer besides its length: end tokens, and stop strings in its text.

Strings do not fall on token borders, so they are found by an automaton over bytes, whose step over a whole
token is a table look-up: exact, and inside the compiled loop.
"""

import json
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

import jax
import numpy as np
from tokenizers import Tokenizer

from sare_jax.errors import UserError


class Ending(NamedTuple):
    """The rule by which answers end; `table` is from `stop_table`.

    Attributes:
      end_ids: the end tokens, at least one.
      table: int32[states, V], the automaton's next state for each token, or None without stop strings. It
        starts in state 0, and the last state says that a string was met.
    """

    end_ids: tuple[int, ...]
    table: jax.Array | None

    def __call__(self, token: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Whether answers end with their latest token.

        Args:
          token: int32[...].
          state: int32[...], the automaton's state before it, 0 at the start.

        Returns:
          bool[...] and the state after it.
        """
        ends = reduce(or_, (token == number for number in self.end_ids))
        if self.table is None:
            return ends, state
        state = self.table[state, token]
        return ends | (state == len(self.table) - 1), state


def stop_table(tokenizer: Tokenizer, stop: Sequence[str], vocab_size: int) -> np.ndarray:
    """Compiles stop strings for a tokenizer.

    Args:
      tokenizer: gives each token's text; special tokens have none, as in the decoded answer.
      stop: the stop strings, none of them empty.
      vocab_size: V, rows of the model's embedding table.

    Returns:
      int32[states, V], see `Ending.table`.

    Raises:
      UserError: a string is empty.
    """
    if not all(stop):
        raise UserError("decoding.stop: holds an empty string, which would end every answer; remove it")
    step = _automaton([text.encode() for text in stop])
    every = np.arange(len(step), dtype=np.int32)
    table = np.tile(every[:, None], (1, vocab_size))
    for token, content in _contents(tokenizer).items():
        if token < vocab_size:
            state = every
            for byte in content:
                state = step[state, byte]
            table[:, token] = state
    return table


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string; the whole text if it holds none."""
    starts = [text.find(string) for string in stop if string in text]
    return text[: min(starts)] if starts else text


def _automaton(patterns: list[bytes]) -> np.ndarray:
    """int32[states, 256], the next state for each byte (Aho and Corasick 1975).

    A state stands for the longest suffix of the text that is a proper prefix of a pattern; the last state
    says that a pattern was met, and is never left.
    """
    prefixes = sorted({pattern[:size] for pattern in patterns for size in range(len(pattern))}, key=len)
    number = {prefix: state for state, prefix in enumerate(prefixes)}
    met = len(prefixes)
    step = np.full((met + 1, 256), met, np.int32)
    for prefix, state in number.items():
        for byte in range(256):
            text = prefix + bytes([byte])
            if not any(text.endswith(pattern) for pattern in patterns):
                step[state, byte] = next(
                    number[text[start:]] for start in range(len(text) + 1) if text[start:] in number
                )
    return step


def _contents(tokenizer: Tokenizer) -> dict[int, bytes]:
    """Token id → the bytes that the token adds to a text that has begun."""
    steps = _decoder_steps(json.loads(tokenizer.to_str())["decoder"])
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    letters = _byte_letters() if "ByteLevel" in steps else {}
    begun = tokenizer.encode("a", add_special_tokens=False).ids
    base = tokenizer.decode(begun)
    contents = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special:
            contents[number] = b""
        elif "ByteFallback" in steps and len(token) == 6 and token[:3] == "<0x" and token[-1] == ">":
            contents[number] = bytes([int(token[3:5], 16)])
        elif letters and all(letter in letters for letter in token):
            contents[number] = bytes(letters[letter] for letter in token)
        else:
            contents[number] = tokenizer.decode([*begun, number])[len(base) :].encode()
    return contents


def _decoder_steps(decoder: dict | None) -> set[str]:
    if not decoder:
        return set()
    return {decoder["type"]}.union(*map(_decoder_steps, decoder.get("decoders", [])))


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level tokenizers spell bytes: printable Latin-1 itself, then U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(rest)}
