"""A MiniGPT-4 on disk, under one set of names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sare_jax.files import read_json
from sare_jax.models.minigpt4 import names, parts
from sare_jax.models.minigpt4.config import MiniGpt4Config, Towers
from sare_jax.models.shared import safetensors_io, torch_pickle
from sare_jax.models.shared.config import text_config
from sare_jax.models.shared.folder_weights import read_weights
from sare_jax.models.shared.hub import require_files
from sare_jax.models.shared.torch_pickle import PickledTensor
from sare_jax.models.shared.weight_files import Tensor
from sare_jax.settings import ModelConfig

if TYPE_CHECKING:
    from sare_jax.models.interface import Family

_INSIDE = "model"  # where a MiniGPT-4 and a BLIP-2 keep their tensors, beside what their trainings need


@dataclass(frozen=True)
class MiniGpt4Source:
    """Where everything of a base model lies (see `interface.Source`). Nothing but headers has been read.

    Attributes:
      folder: that of the LLaMA.
      towers: shapes of tower and Q-Former, which no file says.
      config: shapes and constants.
      tensors: MiniGPT-4's own name -> where the tensor lies.
      pretrained: the file of `llama_proj`.
    """

    folder: Path
    towers: Towers
    config: MiniGpt4Config
    tensors: Mapping[str, Tensor]
    pretrained: Path

    @property
    def family(self) -> "Family":
        """MiniGPT-4's record."""
        from sare_jax.models.minigpt4.family import family_of  # which names everything here, this module too

        return family_of(self.towers)

    def __str__(self) -> str:
        """The LLaMA's folder and the file of `llama_proj`, for messages."""
        return f"{self.folder} with {self.pretrained}"

    def written_name(self, name: str) -> str:
        """How the files of this model call a tensor, or would if they had it.

        Args:
          name: MiniGPT-4's own.
        """
        return name.removeprefix(names.TOWER).removeprefix(names.LLAMA)


def open_minigpt4(folder: Path, settings: ModelConfig, towers: Towers) -> MiniGpt4Source:
    """Reads config and headers of a base model.

    Args:
      folder: of the LLaMA.
      settings: of the model, whose `files` name the other parts.
      towers: shapes of tower and Q-Former.

    Raises:
      UserError: files are missing (all are listed) or broken, or the config asks for what is not computed
        here.
    """
    require_files(folder, parts.needed_files(folder, settings), parts.how_to_get(settings))
    path, files = folder / "config.json", parts.paths(settings)
    config = config_from(read_json(path), str(path), settings, towers)
    beside = {f"{names.TOWER}{name}": tensor for name, tensor in read_part(files[parts.EVA], "").items()}
    if parts.QFORMER in files:
        beside |= read_part(files[parts.QFORMER], _INSIDE)
    beside |= read_part(files[parts.PRETRAINED], _INSIDE)
    # Of these files nothing but what the table asks for: they hold other blocks, texts' layers and buffers.
    wanted = {name for entry in names.entries(config) for name in entry.names()}
    tensors = {name: tensor for name, tensor in beside.items() if name in wanted}
    if config.qformer is None and not any(name.startswith(names.VISION_NORM) for name in tensors):
        # MiniGPT-4's own code loads none for this form, and leaves the norm as it was made.
        tensors |= _untrained_norm(files[parts.PRETRAINED], config.vision.width)
    tensors |= {f"{names.LLAMA}{name}": tensor for name, tensor in read_weights(folder).items()}
    return MiniGpt4Source(folder, towers, config, tensors, files[parts.PRETRAINED])


def config_from(raw: dict[str, Any], where: str, settings: ModelConfig, towers: Towers) -> MiniGpt4Config:
    """Shapes and constants.

    Args:
      raw: the LLaMA's config.json.
      where: what errors call it.
      settings: of the model, whose `files` say which form it is.
      towers: shapes of tower and Q-Former.

    Raises:
      UserError: a setting that is not computed here; names the key.
    """
    qformer = towers.qformer if parts.has_qformer(settings) else None
    return MiniGpt4Config(towers.vision, qformer, text_config(raw, False, where))


def read_part(file: Path, part: str) -> Mapping[str, Tensor]:
    """Tensors of a published file.

    Args:
      file: torch's format, or the safetensors of an export.
      part: key under which they lie in torch's format; empty where the file has nothing else.

    Raises:
      UserError: the file is missing, damaged, or holds something else.
    """
    if file.suffix == ".safetensors":
        return safetensors_io.read_header(file)[0]
    return torch_pickle.read_file(file, part)


def _untrained_norm(file: Path, width: int) -> dict[str, Tensor]:
    values = {"weight": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}
    return {
        (name := f"{names.VISION_NORM}{leaf}"): PickledTensor(file, name, value)
        for leaf, value in values.items()
    }
