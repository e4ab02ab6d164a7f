"""How the training images are described."""

from dataclasses import dataclass

from sare_jax.settings.auto import Size
from sare_jax.settings.building import at_least

CAPTION_PROMPTS = {
    "efuf": "Please describe the image in no more than 50 words. Make sure to be brief and concise.",
    "paper": "Please describe this image in great detail. Your response should have at least 100 words.",
}
"""Prompts by name: EFUF's for training captions (protocols 1.1), the paper's describing one (Figs. 6-7)."""


@dataclass(frozen=True)
class CaptionConfig:
    """How the original model describes the training images (stage 1)."""

    prompt: str = "efuf"
    """`efuf` or `paper` (`CAPTION_PROMPTS`), or the prompt itself."""
    file: str = ""
    """Captions made elsewhere, in any form that curation reads; the model is not asked then, and the other
    keys of this section do not count."""
    max_new_tokens: int = 200
    """Tokens of a caption at most."""
    batch_size: Size = 16
    """Images that are described together; `auto` is the largest number that fits."""

    def check(self, where: str) -> None:
        """Refuses sizes below 1."""
        at_least(self.max_new_tokens, 1, f"{where}.max_new_tokens")
        at_least(self.batch_size, 1, f"{where}.batch_size")
