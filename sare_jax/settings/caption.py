"""How the training images are described."""

from dataclasses import dataclass

CAPTION_PROMPTS = {
    "efuf": "Please describe the image in no more than 50 words. Make sure to be brief and concise.",
    "paper": "Please describe this image in great detail. Your response should have at least 100 words.",
}


"""Prompts by name: EFUF's for training captions (protocols 1.1), the paper's describing one (Figs. 6-7)."""


@dataclass(frozen=True)
class CaptionConfig:
    """How the original model describes the training images (stage 1).

    Attributes:
      prompt: `efuf` or `paper` (`CAPTION_PROMPTS`), or the prompt itself.
      file: captions made elsewhere, in any form that curation reads; the model is not asked then.
      max_new_tokens, batch_size: of the captions.
    """

    prompt: str = "efuf"
    file: str = ""
    max_new_tokens: int = 200
    batch_size: int = 16
