"""A base model on disk, whichever published form it has, under one set of names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sare_jax.errors import UserError
from sare_jax.models.config import LlavaConfig, read_config
from sare_jax.models.hub import WEIGHT_FILES, require_files
from sare_jax.models.llava_names import hub_name
from sare_jax.models.safetensors_io import Tensor, read_tensors


@dataclass(frozen=True)
class Source:
    """Where everything of a base model lies. Nothing but headers has been read.

    Attributes:
      folder: the main folder: config.json, tokenizer, weights.
      form: "hub" for llava-hf's names, "original" for those of liuhaotian's LLaVA and of ShareGPT4V.
      config: shapes and constants.
      tensors: the hub's name (transformers 4) -> where it lies, the vision tower's included.
      tower: folder of the vision tower where it has one of its own, else None.
    """

    folder: Path
    form: Literal["hub", "original"]
    config: LlavaConfig
    tensors: Mapping[str, Tensor]
    tower: Path | None = None

    @property
    def processor_folder(self) -> Path:
        """Where preprocessor_config.json or processor_config.json lies."""
        return self.folder

    @property
    def image_mode(self) -> Literal["pad", "center_crop", "auto"]:
        """How the checkpoint wants pictures made square; "auto" where the processor's file says it."""
        return "auto"


def open_source(folder: Path, vision_tower: str = "") -> Source:
    """Reads config and headers of a base model.

    Args:
      folder: the main folder.
      vision_tower: folder or model id of the vision tower, for the original form.

    Raises:
      UserError: files are missing or broken, or the config asks for what is not computed here.
    """
    folder = Path(folder)
    require_files(folder, WEIGHT_FILES)
    config = read_config(folder)
    return Source(folder, "hub", config, by_hub_name(read_tensors(folder)))


def by_hub_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of the hub, whichever form the file uses.

    Raises:
      UserError: the file holds one tensor under both forms.
    """
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        other = named.setdefault(hub_name(name), tensor)
        if other is not tensor:
            raise UserError(f"{tensor.file}: {name} and {other.name} are the same tensor; remove one of them")
    return named
