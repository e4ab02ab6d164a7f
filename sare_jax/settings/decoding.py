"""How captions are decoded."""

from dataclasses import dataclass
from typing import Literal

from sare_jax.errors import UserError
from sare_jax.settings.building import at_least

CacheFormat = Literal["as_weights", "int8", "fp8"]


@dataclass(frozen=True)
class DecodingConfig:
    """How captions are decoded, in stages 1, 4 and 5; yes/no answers are always greedy."""

    num_beams: int = 1
    """Number of beams; 1 is greedy or sampling. The lineage's evaluation has 5 (protocols 1.8)."""
    length_penalty: float = 1.0
    """A finished beam's summed log-probability is divided by its length to this power."""
    early_stopping: Literal["no", "yes", "never"] = "no"
    """When beam search ends: `no`, `yes` and `never` are transformers' False, True and "never"."""
    temperature: float = 0.0
    """0 takes the likeliest token; above, tokens are drawn, each row by its own seed."""
    top_k: int = 0
    """Tokens are drawn from this number of likeliest ones; 0 draws from all."""
    top_p: float = 1.0
    """Tokens are drawn from the likeliest ones that together have this probability."""
    seed: int = 0
    """Seed of the draws."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer; they are cut off."""
    cache: CacheFormat = "as_weights"
    """Number format in which keys and values are kept, for yes/no answers too: that of the frozen weights, or
    `int8` or `fp8` (e4m3), with a scale for each token and head: half of bfloat16's memory, and an error
    that docs/benchmarks.md states."""

    def check(self, where: str) -> None:
        """Refuses values out of range, and beams that would be drawn."""
        at_least(self.num_beams, 1, f"{where}.num_beams")
        at_least(self.temperature, 0, f"{where}.temperature")
        at_least(self.top_k, 0, f"{where}.top_k")
        if not 0 < self.top_p <= 1:
            raise UserError(f"{where}.top_p: must be above 0 and at most 1, got {self.top_p}")
        if "" in self.stop:
            raise UserError(f"{where}.stop: holds an empty string, which would end every answer")
        if self.num_beams > 1 and self.temperature > 0:
            raise UserError(f"{where}.temperature: beams are not drawn; set it to 0, or num_beams to 1")


GREEDY = DecodingConfig()
