"""What a card's compiler says of a program, kept in a file, since it takes a minute or more to ask."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax

from sare_jax import files
from sare_jax.plan import hlo
from sare_jax.plan.compiled import Program
from sare_jax.plan.hlo import Deeds, Moved


@dataclass(frozen=True)
class Facts:
    """What is known of a compiled program.

    Attributes:
      resident: bytes of weights, state and batch on each device.
      temporary: further bytes on each device at the peak.
      seconds: time that compiling took.
      deeds: kernels, collectives and transfers of one run.
    """

    resident: int
    temporary: int
    seconds: float
    deeds: Deeds

    @property
    def peak(self) -> int:
        """Bytes that each device needs at the peak."""
        return self.resident + self.temporary


def facts_of(program: Program, turns: int, *, card: str, folder: Path) -> Facts:
    """Compiles a program, or reads what was said when the same one was compiled for the same card.

    Args:
      program: lowered for devices of that card.
      turns: of its decoding loop.
      card: what is compiled for, as its compiler is told (`Card.target_config`).
      folder: where the answers are kept, by the program's hash; made where it is not there.
    """
    what = {
        "program": program.lowered.as_text(),
        "turns": turns,
        "card": card,
        "jax": jax.__version__,
    }
    kept = folder / f"{files.hash_value(what)[:32]}.json"
    if kept.exists():
        return _read(files.read_json(kept))
    compiled = program.compile()
    facts = Facts(compiled.resident, compiled.temporary, compiled.seconds, hlo.deeds(compiled.text, turns))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(kept, dataclasses.asdict(facts))
    return facts


def _read(record: dict) -> Facts:
    made = record.pop("deeds")
    moved = {kind: Moved(**each) for kind, each in made["collectives"].items()}
    return Facts(**record, deeds=Deeds(made["kernels"], moved, tuple(made["host"])))
