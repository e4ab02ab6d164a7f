"""An mPLUG-Owl on disk, where it is published, and its shapes without its weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sare_jax.errors import UserError
from sare_jax.models.mplug_owl.config import MODEL_TYPE, OwlConfig
from sare_jax.models.mplug_owl.names import MLP_WEIGHT
from sare_jax.models.shared import hub
from sare_jax.models.shared.folder_weights import read_weights
from sare_jax.models.shared.weight_files import Needed, Tensor
from sare_jax.schema import read_object
from sare_jax.settings import ModelConfig

if TYPE_CHECKING:
    from sare_jax.models.interface import Family

OWL = "MAGAer13/mplug-owl-llama-7b"
PUBLISHED: dict[str, dict[str, Any]] = {
    OWL: {
        "model_type": MODEL_TYPE,
        "num_query_tokens": 64,
        "vision_config": {},
        # The published tensors are this wide, whatever the class's default.
        "visual_abstractor_config": {"intermediate_size": 2816},
        "text_config": {"model_type": "llama", "rms_norm_eps": 1e-6},
    }
}
_NEEDED: Needed = {
    **hub.WEIGHT_FILES,
    "preprocessor_config.json": ("preprocessor_config.json",),
    "tokenizer.model": ("tokenizer.model",),
}


@dataclass(frozen=True)
class OwlSource:
    """Where everything of a base model lies (see `interface.Source`). Nothing but headers has been read.

    Attributes:
      folder: the model's folder: config.json, preprocessor_config.json, tokenizer.model, weights.
      config: shapes and constants of the whole model.
      tensors: published name -> the file that holds the tensor and its place there.
    """

    folder: Path
    config: OwlConfig
    tensors: Mapping[str, Tensor]

    @property
    def family(self) -> "Family":
        """The entry of mPLUG-Owl in the table of families."""
        from sare_jax.models.mplug_owl.family import FAMILY  # which names everything here, this module too

        return FAMILY

    def __str__(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def written_name(self, name: str) -> str:
        """The published names are those of the table."""
        return name


def needed_files(folder: Path, settings: ModelConfig) -> Needed:
    """The files that the folder has to hold."""
    del folder, settings
    return _NEEDED


def how_to_get(settings: ModelConfig) -> str:
    """The command that fetches the model."""
    name = settings.folder
    model = name if hub.is_model_id(name) and not Path(name).is_dir() else OWL
    return f"Get it with: hf download {model} --local-dir MODEL; then set --config.model.folder=MODEL"


def open_owl(folder: Path, settings: ModelConfig) -> OwlSource:
    """Reads config and headers of a base model.

    The width of the abstractor's MLP is read from its tensor: config.json may hold the default of the
    published class, two thirds of which were the width in older code.

    Args:
      folder: the model's folder.
      settings: `config.model`; its `vision_tower` has to be empty.

    Raises:
      UserError: files are missing or broken, a setting is not implemented, or it is the model for videos.
    """
    if settings.vision_tower:
        raise UserError(
            f"{folder}: holds its own vision tower, so {settings.vision_tower} would not be used; leave "
            "--config.model.vision_tower empty"
        )
    hub.require_files(folder, _NEEDED, how_to_get(settings))
    path = folder / "config.json"
    config = OwlConfig.from_hf(read_object(path), str(path))
    tensors = read_weights(folder)
    if video := [name for name in tensors if "temporal" in name]:
        raise UserError(
            f"{folder}: is the mPLUG-Owl for videos, since it has {video[0]}; take {OWL}, the one for images"
        )
    width = tensors.get(MLP_WEIGHT)
    if width is not None and len(width.shape) == 2:
        abstractor = dataclasses.replace(config.abstractor, mlp=width.shape[0])
        config = dataclasses.replace(config, abstractor=abstractor)
    return OwlSource(folder, config, tensors)


def config_without_weights(settings: ModelConfig) -> tuple[OwlConfig, str]:
    """A model's shapes, from its config.json where that is at hand, else as they were published.

    Returns:
      The config, and what it was read from, in words.

    Raises:
      UserError: the folder holds no config.json and is no key of `PUBLISHED`.
    """
    name = settings.folder
    path = hub.config_file(name)
    if path is not None:
        return OwlConfig.from_hf(read_object(path), str(path)), str(path)
    if name in PUBLISHED:
        where = f"the published config of {name}"
        return OwlConfig.from_hf(PUBLISHED[name], where), where
    raise UserError(
        f"config.model.folder: {name} holds no config.json, and is none of the models whose shapes are "
        f"known: {', '.join(PUBLISHED)}"
    )
