"""What is handed on."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExportConfig:
    """Which run is written as a Hugging Face folder (stage 6), and how many captions are compared.

    Attributes:
      run: name of the run.
      form: `folder` is a whole model, `projector` the tuned tensors as safetensors, `efuf` the same as a
        torch state dict.
      check_captions: images on which transformers has to give the same greedy captions; 0 skips the check.
    """

    run: str = "sare"
    form: Literal["folder", "projector", "efuf"] = "folder"
    check_captions: int = 0
