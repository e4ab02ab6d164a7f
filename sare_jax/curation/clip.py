"""The image–text model that scores objects: any open_clip model, by name or from a local folder."""

import hashlib
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import torch
from PIL import Image
from torchvision.transforms import Compose

from sare_jax.curation.clip_files import HUB, LOCAL, resolve
from sare_jax.curation.texts import encode_text, is_cut
from sare_jax.errors import UserError

_SMALL = 5_000_000  # parameters
CPU_BATCH = 32  # images; the activations of more leave the caches


@dataclass(frozen=True)
class ClipConfig:
    """Which model scores objects, and on which device.

    Attributes:
      model: an open_clip model name; `hf-hub:` and a repository; or a folder, with or without `local-dir:`
        before it, that holds open_clip_config.json, weights and, where the config asks for one, a tokenizer.
      pretrained: tag or weights file of a named model; ignored with folders and repositories.
      prompt: text that is scored; `{object}` stands for the phrase (protocols 1.3).
      device: torch device, or `auto` for the first GPU where there is one.
      precision: number format in which the encoders compute; weights stay float32.
    """

    model: str = "ViT-B-32-quickgelu"
    pretrained: str = "openai"
    prompt: str = "A photo containing {object}."
    device: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


OPENAI = ClipConfig()


class Clip:
    """A loaded open_clip model that encodes images and phrases.

    Attributes:
      id: name that thresholds are tied to; no path of this machine is part of it.
      weights_hash: SHA-256 over the weights by name, the same for every file format.
      scale: exp(logit_scale), 100 for released CLIP models.
      preprocessing: size, mean, deviation, interpolation and crop of the images, as open_clip states them.
    """

    def __init__(self, config: ClipConfig):
        """Loads the model.

        Raises:
          UserError: unknown name, missing folder or files, or weights that cannot be had here.
        """
        if "{object}" not in config.prompt:
            raise UserError(f"curate.prompt: {config.prompt!r} must hold {{object}} where the phrase goes")
        name = resolve(config.model)
        self.config = config
        self.id = clip_id(config)
        self._device = _device(config.device)
        self._model, transform = _create(name, config)
        self._resize, self._normalise = _split(transform)
        self._tokenizer = open_clip.get_tokenizer(name)
        self._is_small = sum(weight.numel() for weight in self._model.parameters()) < _SMALL
        self.weights_hash = hash_weights(self._model)
        self._model.eval().requires_grad_(False).to(self._device)
        steps = self._model.visual.preprocess_cfg
        self.preprocessing = {k: list(v) if isinstance(v, tuple) else v for k, v in steps.items()}
        self.scale = float(self._model.logit_scale.exp())

    @property
    def on_cpu(self) -> bool:
        """Whether the encoders run on the CPU."""
        return self._device.type == "cpu"

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An image as the model resizes and crops it: uint8[H, W, 3], so that many views fit in memory."""
        for step in self._resize:
            image = step(image)
        return np.asarray(image)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """Features float32[n, D], not normalised, of pixels uint8[n, H, W, 3].

        Raises:
          UserError: so many views do not fit in the device's memory.
        """
        try:
            with torch.inference_mode(), self._autocast(), self._threads():
                parts = torch.from_numpy(pixels).split(CPU_BATCH if self.on_cpu else len(pixels))
                return np.concatenate([self._encode(part) for part in parts])
        except torch.OutOfMemoryError:
            raise UserError(
                f"{self._device}: no room for {len(pixels)} views at once; lower --view-batch"
            ) from None

    def _encode(self, pixels: torch.Tensor) -> np.ndarray:
        batch = pixels.to(self._device).permute(0, 3, 1, 2).float().div(255)
        return self._model.encode_image(self._normalise(batch)).float().cpu().numpy()

    def encode_phrases(self, phrases: Sequence[str]) -> np.ndarray:
        """Features float32[n, D], not normalised, of objects' names set into the prompt."""
        with torch.inference_mode(), self._autocast():
            features = encode_text(self._model, self._tokenizer(self._texts(phrases)).to(self._device))
        return features.float().cpu().numpy()

    def cut_phrases(self, phrases: Sequence[str]) -> list[str]:
        """The phrases that are longer than the text encoder reads, so that it misses their end."""
        return [phrases[int(i)] for i in is_cut(self._tokenizer, self._texts(phrases)).nonzero()[0]]

    def _texts(self, phrases: Sequence[str]) -> list[str]:
        return [self.config.prompt.replace("{object}", phrase) for phrase in phrases]

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """One thread for a small model: its operations are so short that threads mostly wait."""
        before = torch.get_num_threads()
        torch.set_num_threads(1 if self._is_small else before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def _autocast(self) -> torch.autocast:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.config.precision]
        return torch.autocast(self._device.type, dtype=dtype, enabled=self.config.precision != "fp32")


def alignment(image: np.ndarray, text: np.ndarray, scale: float) -> np.ndarray:
    """CLIP score: exp(logit_scale) × cosine, so 100 × cosine for released models.

    Args:
      image: float32[n, D], features of any norm.
      text: float32[m, D], features of any norm.
      scale: the model's exp(logit_scale), `Clip.scale`.

    Returns:
      float32[n, m], the score of each image with each text.
    """
    image = image / np.linalg.norm(image, axis=-1, keepdims=True)
    text = text / np.linalg.norm(text, axis=-1, keepdims=True)
    return (scale * (image @ text.T)).astype(np.float32)


def clip_id(config: ClipConfig) -> str:
    """Name of the model by which thresholds are tied to it: `ViT-B-32-quickgelu/openai`, `local-dir:clip`."""
    name = resolve(config.model)
    if name.startswith(LOCAL):
        return LOCAL + Path(name.removeprefix(LOCAL)).resolve().name
    return name if name.startswith(HUB) else f"{name}/{Path(config.pretrained).name}"


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 over names and bytes of all weights, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _create(name: str, config: ClipConfig) -> tuple[Any, Compose]:
    """The model, whose class depends on its name, and the preprocessing of its images."""
    local = name.startswith((LOCAL, HUB))
    if not local and name not in open_clip.list_models():
        raise UserError(
            f"curate.clip: open_clip knows no model {name!r}; python -c 'import open_clip; "
            "print(open_clip.list_models())' lists them, a folder is given as local-dir:FOLDER"
        )
    level = logging.root.level
    logging.root.setLevel(max(level, logging.ERROR))  # it warns of every default on the root logger
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch, on the form of a file that it then refuses
            return open_clip.create_model_from_pretrained(
                name, pretrained=None if local else config.pretrained, force_quick_gelu=_quick(name, config)
            )
    except pickle.UnpicklingError:
        where = name.removeprefix(LOCAL) if local else config.pretrained
        raise UserError(
            f"curate.clip: {where}: the weights file (.bin, .pt) is damaged or holds more than weights, and "
            "that is not executed; give open_clip_model.safetensors instead (safetensors.torch.save_file "
            "writes it from the weights, where the file can be trusted)"
        ) from None
    except Exception as error:  # on a damaged or foreign file the loaders raise nearly every kind there is
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"curate.clip: cannot load {clip_id(config)}: {told}") from None
    finally:
        logging.root.setLevel(level)


def _split(transform: Compose) -> tuple[list[Callable], Compose]:
    """Splits open_clip's preprocessing at the step that turns bytes into a tensor of numbers from 0 to 1.

    The steps before it work on single images, in the threads that decode them. The steps behind it work on
    whole batches, on the encoder's device.
    """
    steps, picture = list(transform.transforms), Image.new("RGB", (8, 8))
    for index, step in enumerate(steps):
        picture = step(picture)
        if isinstance(picture, torch.Tensor):
            return steps[:index], Compose(steps[index + 1 :])
    raise AssertionError(f"open_clip's preprocessing makes no tensor: {transform}")


def _quick(name: str, config: ClipConfig) -> bool:
    """Whether weights under this tag were trained with QuickGELU, whatever the named architecture says."""
    tag = None if name.startswith((LOCAL, HUB)) else open_clip.get_pretrained_cfg(name, config.pretrained)
    return bool(tag and tag.get("quick_gelu"))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # by kind of device and build
        raise UserError(
            f"--device {name}: PyTorch cannot use it here ({str(error).splitlines()[0]})"
        ) from None
    return torch.device(name)
