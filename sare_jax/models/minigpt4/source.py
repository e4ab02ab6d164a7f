"""A MiniGPT-4 on disk, under one set of names."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.models.minigpt4 import names, parts
from sare_jax.models.minigpt4.config import MiniGpt4Config, Towers
from sare_jax.models.shared import safetensors_io, torch_pickle
from sare_jax.models.shared.config import text_config
from sare_jax.models.shared.folder_weights import read_weights
from sare_jax.models.shared.hub import require_files
from sare_jax.models.shared.torch_pickle import PickledTensor
from sare_jax.models.shared.weight_files import Tensor
from sare_jax.schema import read_object
from sare_jax.settings import ModelConfig

if TYPE_CHECKING:
    from sare_jax.models.interface import Family

INSIDE = "model"  # where a MiniGPT-4 and a BLIP-2 keep their tensors, beside what their trainings need


@dataclass(frozen=True)
class MiniGpt4Source:
    """Where everything of a base model lies (see `interface.Source`). Nothing but headers has been read.

    Attributes:
      folder: the LLaMA's folder: config.json, tokenizer, weights.
      towers: shapes of vision tower and Q-Former, which no file says.
      config: shapes and constants of the whole model.
      tensors: name in MiniGPT-4's own code -> the file that holds the tensor and its place there.
      pretrained: path of the file that holds `llama_proj`.
    """

    folder: Path
    towers: Towers
    config: MiniGpt4Config
    tensors: Mapping[str, Tensor]
    pretrained: Path

    @property
    def family(self) -> "Family":
        """The entry of MiniGPT-4 in the table of families, with these towers."""
        from sare_jax.models.minigpt4.family import family_of  # which names everything here, this module too

        return family_of(self.towers)

    def __str__(self) -> str:
        """The LLaMA's folder and the file of `llama_proj`, for messages."""
        return f"{self.folder} with {self.pretrained}"

    def written_name(self, name: str) -> str:
        """The name that a tensor has, or would have, in this model's files.

        Args:
          name: name of the tensor in MiniGPT-4's own code, a key of the family's name table.
        """
        return name.removeprefix(names.TOWER).removeprefix(names.LLAMA)


def open_minigpt4(folder: Path, settings: ModelConfig, towers: Towers) -> MiniGpt4Source:
    """Reads config and headers of a base model.

    Args:
      folder: the LLaMA's folder: config.json, tokenizer, weights.
      settings: `config.model`, whose `files` are the paths of the tower, of `llama_proj` and of a Q-Former.
      towers: shapes of vision tower and Q-Former.

    Raises:
      UserError: files are missing (all are listed), broken, or of another tower or Q-Former; or the LLaMA's
        config has a setting that is not implemented.
    """
    require_files(folder, parts.needed_files(folder, settings), parts.how_to_get(settings))
    path, files = folder / "config.json", parts.paths(settings)
    config = config_from(read_object(path), str(path), settings, towers)
    beside = {f"{names.TOWER}{name}": tensor for name, tensor in read_part(files[parts.EVA], "").items()}
    if parts.QFORMER in files:
        beside |= read_part(files[parts.QFORMER], INSIDE)
    beside |= read_part(files[parts.PRETRAINED], INSIDE)
    # Only the tensors that the name table lists: the files also hold unused blocks, text layers and buffers.
    wanted = {name for entry in names.entries(config) for name in entry.names()}
    _refuse_other_layers({name: tensor for name, tensor in beside.items() if name not in wanted}, config)
    tensors = {name: tensor for name, tensor in beside.items() if name in wanted}
    if config.qformer is None and not any(name.startswith(names.VISION_NORM) for name in tensors):
        # MiniGPT-4's own code loads none for this form, and leaves the norm as it was made.
        tensors |= _untrained_norm(files[parts.PRETRAINED], config.vision.width)
        where = files[parts.PRETRAINED]
        print(
            f"{where}: has no ln_vision; its scale is 1 and its bias 0, as in MiniGPT-4's own code",
            file=sys.stderr,
        )
    tensors |= {f"{names.LLAMA}{name}": tensor for name, tensor in read_weights(folder).items()}
    return MiniGpt4Source(folder, towers, config, tensors, files[parts.PRETRAINED])


def config_from(raw: dict[str, Any], where: str, settings: ModelConfig, towers: Towers) -> MiniGpt4Config:
    """Shapes and constants of a MiniGPT-4.

    Args:
      raw: the parsed config.json of the LLaMA.
      where: how error messages call that file.
      settings: `config.model`; a Q-Former in its `files` means the Vicuna form.
      towers: shapes of vision tower and Q-Former.

    Raises:
      UserError: the LLaMA's config has a setting that is not implemented; names the key.
    """
    qformer = towers.qformer if parts.has_qformer(settings) else None
    return MiniGpt4Config(towers.vision, qformer, text_config(raw, False, where))


def read_part(file: Path, part: str) -> Mapping[str, Tensor]:
    """Tensors of a published file.

    Args:
      file: a file that torch saved, or the safetensors file of an export.
      part: key of the dictionary of tensors in a torch file; empty where the file is that dictionary.

    Raises:
      UserError: the file is missing, damaged, or holds other things than tensors.
    """
    if file.suffix == ".safetensors":
        return safetensors_io.read_header(file)[0]
    return torch_pickle.read_file(file, part)


def _refuse_other_layers(others: Mapping[str, Tensor], config: MiniGpt4Config) -> None:
    """Checks that the layers that are run have nothing beside what the table knows of.

    Args:
      others: the tensors of the files that the table does not ask for.
      config: says which layers are run.

    Raises:
      UserError: they have, so the file is of another tower or Q-Former.
    """
    strange = [tensor for name, tensor in others.items() if names.is_of_a_layer(name, config)]
    if strange:
        file = strange[0].file
        listed = ", ".join(tensor.name for tensor in strange if tensor.file == file)
        raise UserError(
            f"{file}: has {listed}, which MiniGPT-4's own tower and Q-Former do not have; take the file from "
            f"{parts.LAVIS}"
        )


def _untrained_norm(file: Path, width: int) -> dict[str, Tensor]:
    values = {"weight": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}
    return {
        (name := f"{names.VISION_NORM}{leaf}"): PickledTensor(file, name, value)
        for leaf, value in values.items()
    }
