"""What a model's own files say on generation, and how each key is treated here.

Every key of transformers' GenerationConfig is in one of these tables: it is followed, our settings stand in
its place, it makes no difference to an answer, or it is refused. So nothing that a file says is passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.config import positive
from sare_jax.schema import checked, read_object
from sare_jax.settings import DecodingConfig

FILE = "generation_config.json"
FOLLOWED = ("eos_token_id", "suppress_tokens", "begin_suppress_tokens")
PENALTY = "repetition_penalty"  # followed too, and no token
# These count in draws alone, and those in searches with several beams.
_OF_DRAWS = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
_OF_BEAMS = ("length_penalty", "early_stopping")
OVERRIDDEN = (
    *("max_length", "max_new_tokens", "stop_strings", "do_sample", "num_beams"),
    *_OF_DRAWS,
    *_OF_BEAMS,
)
_ORIGIN = frozenset(("transformers_version", "_from_model_config", "_commit_hash"))
IDLE = frozenset(
    {
        # The prompter puts BOS before a prompt, and padding is masked.
        *("bos_token_id", "pad_token_id", "decoder_start_token_id"),
        "forced_bos_token_id",  # where a prompt has one token; here it has an image
        "remove_invalid_values",  # no finite logit is changed
        # How it is computed and what is returned beside the tokens.
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "return_legacy_cache"),
        *("prefill_chunk_size", "compile_config", "disable_compile", "continuous_batching_config"),
        *("low_memory", "output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        "return_dict_in_generate",
        # A second model, or a look-up, that guesses tokens; what is accepted is what would come without it.
        *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "use_mtp"),
        *("assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind"),
        *("target_lookbehind", "assistant_ensemble_weight", "speculation_type"),
        *("prompt_lookup_num_tokens", "max_matching_ngram_size"),
        *_ORIGIN,
    }
)
# The values with which a key does nothing, besides null.
REFUSED: dict[str, tuple[Any, ...]] = {
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "num_return_sequences": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "guidance_scale": (1,),
    "penalty_alpha": (0,),
    "renormalize_logits": (False,),
    "token_healing": (False,),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "constraints": ([],),
    **dict.fromkeys(("max_time", "sequence_bias", "watermarking_config", "dola_layers"), ()),
    **dict.fromkeys(("exponential_decay_length_penalty", "forced_eos_token_id", "forced_decoder_ids"), ()),
}
_KNOWN = {*FOLLOWED, PENALTY, *OVERRIDDEN, *IDLE, *REFUSED}


@dataclass(frozen=True)
class GenerationRules:
    """The rules of generation that the files of one model state.

    Attributes:
      file: path of the file that the rules were read from.
      ends: tokens of which each ends an answer; empty where the file names none.
      suppressed: tokens that are never generated.
      suppressed_first: tokens with which no answer begins.
      repetition_penalty: how much less likely tokens are that have occurred; 1 for none.
      overridden: key -> value, of what the settings of a run decide instead.
    """

    file: str = FILE
    ends: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    overridden: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """All that the files say, as JSON can hold it."""
        stated = {
            "ends": list(self.ends),
            "suppressed": list(self.suppressed),
            "suppressed_first": list(self.suppressed_first),
            "overridden": dict(self.overridden),
        }
        return stated if self.repetition_penalty == 1 else stated | {PENALTY: self.repetition_penalty}

    def end_ids(self, eos_id: int) -> tuple[int, ...]:
        """The tokens that end an answer.

        Args:
          eos_id: the tokenizer's end token; it alone counts where the file names none.

        Raises:
          UserError: the file names others but not this one.
        """
        if self.ends and eos_id not in self.ends:
            raise UserError(
                f"{self.file}: eos_token_id {list(self.ends)} lacks {eos_id}, the tokenizer's end token; "
                "add it"
            )
        return self.ends or (eos_id,)

    def require_possible(self, decoding: DecodingConfig) -> None:
        """Checks that a run's decoding can follow the files.

        Raises:
          UserError: they ask for a repetition penalty, and the run for several beams.
        """
        if self.repetition_penalty != 1 and decoding.num_beams > 1:
            raise UserError(
                f"{self.file}: {PENALTY} is {self.repetition_penalty}, which is not done in a search with "
                "beams; remove it, or set config.decoding.num_beams to 1"
            )

    def unlike(self, decoding: DecodingConfig, max_new_tokens: int) -> dict[str, Any]:
        """What `overridden` says otherwise than the settings of a run.

        Args:
          decoding: how captions are decoded; what concerns draws or beams counts where either side has them.
          max_new_tokens: most tokens of a caption.
        """
        there = self.overridden
        ours = {
            "max_new_tokens": max_new_tokens,
            "stop_strings": list(decoding.stop),
            "do_sample": decoding.temperature > 0,
            "num_beams": decoding.num_beams,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
            "typical_p": 1,
            "epsilon_cutoff": 0,
            "eta_cutoff": 0,
            "length_penalty": decoding.length_penalty,
            "early_stopping": {"no": False, "yes": True, "never": "never"}[decoding.early_stopping],
        }
        draws = bool(there.get("do_sample")) or decoding.temperature > 0
        beams = max(there.get("num_beams", 1), decoding.num_beams) > 1
        idle = (*(() if draws else _OF_DRAWS), *(() if beams else _OF_BEAMS))
        return {key: value for key, value in there.items() if key not in idle and value != ours.get(key)}

    def note(self, decoding: DecodingConfig, max_new_tokens: int) -> str:
        """One line on what `unlike` finds, to be printed at start-up; empty where it finds nothing."""
        unlike = self.unlike(decoding, max_new_tokens)
        if not unlike:
            return ""
        named = ", ".join(f"{key} {value}" for key, value in unlike.items())
        return f"{self.file}: {named}: not used; the run's decoding and max_new_tokens stand in their place"


def read_generation(folder: Path) -> GenerationRules:
    """Reads generation_config.json, or else the same keys in config.json, as transformers does.

    Args:
      folder: the model's folder. In config.json a key of `text_config` counts where the top level lacks it.

    Raises:
      UserError: a key asks for something that is not implemented, is unknown, or should hold token ids and
        does not; names the key.
    """
    stated = stated_generation(folder)
    path = Path(folder) / FILE
    file = str(path if path.is_file() else path.with_name("config.json"))
    for key, value in stated.items():
        if key not in _KNOWN:
            raise UserError(
                f"{file}: {key} is no key of generation that is known here, so answers might differ from "
                "what it asks for; remove it"
            )
        if key in REFUSED and value not in REFUSED[key]:
            raise UserError(f"{file}: {key} is {value!r}, which is not done here; remove it")
    if not isinstance(stated.get("num_beams", 1), int):
        raise UserError(f"{file}: num_beams is {stated['num_beams']!r}, need a number")
    ends, suppressed, first = (_token_ids(stated, key, file) for key in FOLLOWED)
    penalty = positive(stated.get(PENALTY, 1.0), f"{file}: {PENALTY}")
    overridden = {key: stated[key] for key in OVERRIDDEN if key in stated}
    return GenerationRules(file, ends, suppressed, first, penalty, overridden)


def stated_generation(folder: Path) -> dict[str, Any]:
    """The keys on generation, and their values, that a model's files set to something other than null."""
    folder = Path(folder)
    if (folder / FILE).is_file():
        stated = read_object(folder / FILE)
    else:
        raw = read_object(folder / "config.json")
        inner = checked(
            raw.get("text_config") or {}, dict[str, Any], f"{folder / 'config.json'}: text_config"
        )
        stated = inner | {key: value for key, value in raw.items() if value is not None}
        stated = {key: value for key, value in stated.items() if key in _KNOWN - _ORIGIN}
    return {key: value for key, value in stated.items() if value is not None}


def _token_ids(stated: Mapping[str, Any], key: str, file: str) -> tuple[int, ...]:
    """One token or several, without repetitions."""
    value = stated.get(key, [])
    ids = value if isinstance(value, list) else [value]
    if not all(type(number) is int and number >= 0 for number in ids):
        raise UserError(f"{file}: {key} is {value!r}, need the number of a token or a list of them")
    return tuple(dict.fromkeys(ids))
