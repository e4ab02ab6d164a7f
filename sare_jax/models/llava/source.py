"""A base model on disk, whichever published form it has, under one set of names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sare_jax.errors import UserError
from sare_jax.models.llava import original
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.hub import how_to_get, resolve_tower
from sare_jax.models.llava.names import EMBEDDING, HEAD, hub_name, written_name
from sare_jax.models.shared import torch_pickle
from sare_jax.models.shared.folder_weights import read_weights, renamed, without_tied_head
from sare_jax.models.shared.hub import CONFIG_FILE, PROCESSOR_FILE, WEIGHT_FILES, require_files
from sare_jax.models.shared.weight_files import Tensor
from sare_jax.schema import read_object

if TYPE_CHECKING:
    from sare_jax.models.interface import Family

_PROJECTOR_FILE = "mm_projector.bin"


@dataclass(frozen=True)
class LlavaSource:
    """Where everything of a base model lies (see `interface.Source`). Nothing but headers has been read.

    Attributes:
      folder: the main folder: config.json, tokenizer, weights.
      form: "hub" for llava-hf's names, "original" for those of liuhaotian's LLaVA and of ShareGPT4V.
      config: shapes and constants.
      tensors: the hub's name (transformers 4) -> the file that holds the tensor and its place there; the
        vision tower's tensors included.
      tower: folder of the vision tower where it has one of its own, else None. Its weights are used where
        the main folder holds none of the tower.
      image_mode: how the checkpoint wants pictures made square; "auto" where the processor's file says it.
    """

    folder: Path
    form: Literal["hub", "original"]
    config: LlavaConfig
    tensors: Mapping[str, Tensor]
    tower: Path | None = None
    image_mode: Literal["pad", "center_crop", "auto"] = "auto"

    @property
    def family(self) -> "Family":
        """The entry of LLaVA in the table of families."""
        from sare_jax.models.llava.family import FAMILY  # which names everything here, this module too

        return FAMILY

    def __str__(self) -> str:
        """The folders, for messages."""
        return f"{self.folder} with vision tower {self.tower}" if self.tower else str(self.folder)

    @property
    def processor_folder(self) -> Path:
        """Where preprocessor_config.json or processor_config.json lies."""
        return self.tower or self.folder

    def written_name(self, name: str) -> str:
        """The name that a tensor has, or would have, in this model's files.

        Args:
          name: the hub's name of the tensor (transformers 4), a key of the family's name table.
        """
        if name in self.tensors:
            return self.tensors[name].name
        if self.form == "hub":
            return written_name(name, self.tensors)
        inside = any(tensor.name.startswith(original.INSIDE) for tensor in self.tensors.values())
        return original.written_name(name, None if inside else self.tower)


def open_llava(folder: Path, vision_tower: str = "") -> LlavaSource:
    """Reads config and headers of a base model.

    Args:
      folder: the main folder: config.json, tokenizer, weights.
      vision_tower: folder or model id of the vision tower, for the original form; empty follows
        `mm_vision_tower` of config.json.

    Raises:
      UserError: files are missing or broken, a setting is not implemented, or the vision tower cannot be
        found or is not the model's.
    """
    folder = Path(folder)
    require_files(folder, WEIGHT_FILES, how_to_get(str(folder), vision_tower))
    path = folder / "config.json"
    raw = read_object(path)
    if original.is_original(raw):
        return _open_original(folder, raw, vision_tower)
    if vision_tower:
        raise UserError(
            f"{folder}: holds its own vision tower, so {vision_tower} would not be used; leave "
            "--config.model.vision_tower empty"
        )
    config = LlavaConfig.from_hf(raw, str(path))
    tensors = _own(folder, config, renamed(read_weights(folder), hub_name))
    return LlavaSource(folder, "hub", config, tensors)


def _open_original(folder: Path, raw: dict[str, Any], vision_tower: str) -> LlavaSource:
    weights = _with_projector(folder, read_weights(folder))
    inside = any(name.startswith(original.INSIDE) for name in weights)
    name = vision_tower or raw.get("mm_vision_tower")
    if not name:
        raise UserError(
            f"{folder / 'config.json'}: names no mm_vision_tower; set --config.model.vision_tower"
        )
    needed = {**(CONFIG_FILE if inside else WEIGHT_FILES), **PROCESSOR_FILE}
    tower = resolve_tower(name, folder, needed)
    tower_raw = read_object(tower / "config.json")
    tensors = renamed(weights, original.hub_name)
    if not inside:
        if original.is_sharegpt4v(folder, raw):
            original.refuse_openai_tower(folder, name, tower, tower_raw)
        parts = {key: value for key, value in read_weights(tower).items() if not original.is_text_side(key)}
        tensors |= renamed(parts, original.tower_hub_name)
    config, image_mode = original.original_config(
        raw, str(folder / "config.json"), tower_raw, str(tower / "config.json")
    )
    tensors = _own(folder, config, tensors)
    return LlavaSource(folder, "original", config, tensors, tower, image_mode)


def _with_projector(folder: Path, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, with those of mm_projector.bin where the checkpoint itself has no projector."""
    file = folder / _PROJECTOR_FILE
    if not file.is_file():
        return weights
    apart: Mapping[str, Tensor] = torch_pickle.read_file(file)
    there = {name for name in weights if name.startswith(original.PROJECTOR)}
    if not there:
        return {**weights, **apart}
    if there != set(apart):
        differ = ", ".join(sorted(there ^ set(apart)))
        raise UserError(f"{file}: has other tensors than the projector beside it: {differ}; remove the file")
    return weights


def _own(folder: Path, config: LlavaConfig, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return without_tied_head(folder, tensors, EMBEDDING, HEAD) if config.text.tied else tensors
