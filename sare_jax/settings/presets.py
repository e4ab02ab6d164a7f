"""Runs that can be named on a command line, and what becomes of `--run mine=robust,rho=0.1`."""

import ast
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.settings.building import merged, section

__all__ = ["PRESETS", "Values", "with_runs"]

Values = dict[str, Any]


def _efuf(optim: Values) -> Values:
    return {"label": "EFUF (Eq. 1)", "rho": 0.0}


def _sare(optim: Values) -> Values:
    return {"label": "SARE"}


def _robust(optim: Values) -> Values:
    """Grounded choice. Not measured on a published model: its values are carried over from the demo.

    The weights are the demo's (`configs/demo_sare.py`), the learning rate 2.5 times that of the other runs,
    over three quarters of a pass over captions and questions. The model is asked about 20 objects an image
    and not about all, since each question is one more run of the image.
    """
    rate = optim.get("adamw", {}).get("learning_rate", AdamW().learning_rate)
    return {
        "label": "grounded choice",
        "objective": "grounded_choice",
        "samples": {"kind": "choices", "vocabulary": 500, "questions": 20},
        "packing": "packed",
        "batch_size": 32,  # 24 captions and 8 questions
        "micro_batches": 4,
        "epochs": 0.75,
        "rho": 0.0,
        "neg_weight": 0.25,
        "pos_weight": 0.4,
        "sent_weight": 4.0,
        "adamw": {"learning_rate": 2.5 * rate, "weight_decay": 0.0},
    }


PRESETS: dict[str, Callable[[Values], Values]] = {"efuf": _efuf, "sare": _sare, "robust": _robust}
"""Name of a preset → function from the shared settings, `optim`, to what the preset sets otherwise."""


def with_runs(raw: Values, texts: Iterable[str]) -> Values:
    """A config with further runs.

    Args:
      raw: the config as a nested dictionary, as `config.parse` takes it.
      texts: `NAME=FROM,key=value,…` each: FROM is a run of the config or a preset, and the keys are those of
        `config.runs.NAME`, dotted where they lie in a section. A run that is there already is refused.

    Raises:
      UserError: a text has another form, or FROM is not known.
    """
    runs = dict(section(raw.get("runs", {}), "config.runs"))
    for text in texts:
        name, equals, rest = text.partition("=")
        origin, *pairs = rest.split(",")
        if not equals or not name or not origin:
            raise UserError(f"--run={text}: write --run NAME=FROM,key=value,… such as mine=robust,rho=0.1")
        if name in runs:
            raise UserError(
                f"--run={text}: there is a run {name}; set --config.runs.{name}.KEY, or name it otherwise"
            )
        values = merged(_values_of(origin, runs, raw, text), {"label": name})
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or not key:
                raise UserError(f"--run={text}: {pair!r} is not key=value")
            values = merged(values, _nested(key.split("."), _value(value)))
        runs[name] = values
    return {**raw, "runs": runs}


def _values_of(origin: str, runs: Values, raw: Values, text: str) -> Values:
    if origin in runs:
        return section(runs[origin], f"config.runs.{origin}")
    if origin in PRESETS:
        return PRESETS[origin](section(raw.get("optim", {}), "config.optim"))
    known = list(dict.fromkeys([*runs, *PRESETS]))
    close = difflib.get_close_matches(origin, known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    raise UserError(f"--run={text}: no run or preset is called {origin!r}; {advice}")


def _nested(keys: list[str], value: Any) -> Values:
    first, *rest = keys
    return {first: _nested(rest, value) if rest else value}


def _value(text: str) -> Any:
    """A number, truth value or quoted text as Python writes it; any other text as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
