"""A Qwen-VL on disk: one folder with config, tokenizer, image processor and weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sare_jax.errors import UserError
from sare_jax.models.shared import hub
from sare_jax.models.shared.folder_weights import read_weights, renamed, without_tied_head
from sare_jax.models.shared.processor_file import read_processor
from sare_jax.models.shared.qwen_vl.names import EMBEDDING, HEAD
from sare_jax.models.shared.weight_files import Needed, Tensor
from sare_jax.schema import read_object
from sare_jax.settings import ModelConfig

if TYPE_CHECKING:
    from sare_jax.models.interface import Family

NEEDED: Needed = {**hub.WEIGHT_FILES, "tokenizer.json": ("tokenizer.json",), **hub.PROCESSOR_FILE}
# (config.json, preprocessor_config.json, `model.image_mode`, how messages call the first) -> config
ReadConfig = Callable[[Mapping[str, Any], dict[str, Any], str, str], Any]
Naming = Callable[[str], str]


@dataclass(frozen=True)
class QwenSource:
    """Where everything of a base model lies (see `interface.Source`). Nothing but headers has been read.

    Attributes:
      family: the family that opened it.
      folder: config.json, preprocessor_config.json, tokenizer.json, weights.
      config: shapes and constants, of the family's own type.
      tensors: name in transformers 5 -> the file that holds the tensor and its place there.
      published: name in transformers 5 -> name in published files.
    """

    family: "Family"
    folder: Path
    config: Any
    tensors: Mapping[str, Tensor]
    published: Naming

    def __str__(self) -> str:
        """The folder, for messages."""
        return str(self.folder)

    def written_name(self, name: str) -> str:
        """The name that a tensor has, or would have, in this model's files."""
        return self.tensors[name].name if name in self.tensors else self.published(name)


@dataclass(frozen=True)
class Published:
    """How a family's models are published.

    Attributes:
      configs: model id -> its config.json.
      processor: the part of preprocessor_config.json that says the range of pixels.
      read: reads both.
      hub_name: name in a file -> name in transformers 5.
      written: name in transformers 5 -> name in the published files.
    """

    configs: Mapping[str, Mapping[str, Any]]
    processor: dict[str, Any]
    read: ReadConfig
    hub_name: Naming
    written: Naming

    def open(self, family: "Family", folder: Path, settings: ModelConfig) -> QwenSource:
        """Reads config and headers of a base model.

        Raises:
          UserError: files are missing or broken, or a setting is not implemented.
        """
        if settings.vision_tower:
            raise UserError(
                f"{folder}: holds its own vision tower, so {settings.vision_tower} would not be used; leave "
                "--config.model.vision_tower empty"
            )
        hub.require_files(folder, NEEDED, self.how_to_get(settings))
        path = folder / "config.json"
        config = self.read(read_object(path), read_processor(folder)[0], settings.image_mode, str(path))
        tensors = renamed(read_weights(folder), self.hub_name)
        if config.text.tied:
            tensors = without_tied_head(folder, tensors, EMBEDDING, HEAD)
        return QwenSource(family, folder, config, tensors, self.written)

    def needed(self, folder: Path, settings: ModelConfig) -> Needed:
        """The files that the folder has to hold."""
        del folder, settings
        return NEEDED

    def how_to_get(self, settings: ModelConfig) -> str:
        """The command that fetches the model."""
        name = settings.folder
        model = name if hub.is_model_id(name) and not Path(name).is_dir() else next(iter(self.configs))
        return f"Get it with: hf download {model} --local-dir MODEL; then set --config.model.folder=MODEL"

    def config_without_weights(self, settings: ModelConfig) -> tuple[Any, str]:
        """A model's shapes, from its files where these are at hand, else as they were published.

        Returns:
          The config, and what it was read from, in words.

        Raises:
          UserError: the folder holds no config.json and is no published model.
        """
        path = hub.config_file(settings.folder)
        if path is not None:
            names = (name for each in hub.PROCESSOR_FILE.values() for name in each)
            here = any(path.with_name(name).is_file() for name in names)
            processor = read_processor(path.parent)[0] if here else self.processor
            return self.read(read_object(path), processor, settings.image_mode, str(path)), str(path)
        if settings.folder in self.configs:
            where = f"the published config of {settings.folder}"
            return self.read(self.configs[settings.folder], self.processor, settings.image_mode, where), where
        raise UserError(
            f"config.model.folder: {settings.folder} holds no config.json, and is none of the models whose "
            f"shapes are known: {', '.join(self.configs)}"
        )
