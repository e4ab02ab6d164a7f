"""The prompt attack: nothing is trained, the model is only asked for more."""

from dataclasses import dataclass

from sare_jax.attacks.interface import Asking, Attack
from sare_jax.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """Another describing prompt (Appendix C)."""

    prompt: str = (
        "Please provide a comprehensive description of the image. Systematically list all the clearly "
        "identifiable objects you see, ensuring you do not overlook any distinct items."
    )
    """The describing prompt in place of `evaluate.prompt`; also put before each question."""

    def check(self, where: str) -> None:
        """Refuses an empty prompt."""
        if not self.prompt.strip():
            raise UserError(f"{where}.prompt: empty; say what the attack asks for")


ATTACK = Attack(settings=Prompt, asking=lambda settings: Asking(prompt=settings.prompt))
