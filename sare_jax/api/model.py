"""A model at hand: it describes images, is unlearned, and is written as a folder that others load."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from PIL.Image import Image

from sare_jax.api.texts import Sets
from sare_jax.errors import UserError
from sare_jax.export import export_model, verify
from sare_jax.inference.ask import ask
from sare_jax.inference.features import FeatureCache
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.interface import ImageProcessor, LoadedModel, Prompter
from sare_jax.models.prompting import ImagePrompter
from sare_jax.settings import DecodingConfig, EvaluateConfig, ModelConfig
from sare_jax.settings.auto import AUTO, Size, Sizer
from sare_jax.settings.building import build, merged
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.presets import PRESETS
from sare_jax.training import unlearn as training
from sare_jax.training.checkpoints import saved_settings, steps_in
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import by_rows, gathering, load_onto, make_mesh

__all__ = ["Model", "Picture", "load", "unlearn"]

Picture = str | Path | Image
"""An image file, or an image of Pillow's."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model on its devices, as `load` and `unlearn` give it.

    Attributes:
      loaded: weights, structure and origin; `loaded.params` are the trainable ones.
      settings: how its files were read.
      processor: turns pictures into arrays.
      prompter: tokenizer and prompt form.
      mesh: the devices that it lies on.
      step: optimizer steps since the base model.
      training: the settings by which it was unlearned; empty for the base model.
    """

    loaded: LoadedModel
    settings: ModelConfig
    processor: ImageProcessor
    prompter: Prompter
    mesh: Mesh
    step: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)

    def caption(
        self,
        images: Picture | Sequence[Picture],
        prompt: str = EvaluateConfig.prompt,
        *,
        max_new_tokens: int = EvaluateConfig.max_new_tokens,
        batch_size: Size = EvaluateConfig.batch_size,
        **decoding: Any,
    ) -> list[str]:
        """Describes images, or answers a question about each.

        Example:
            >>> from pathlib import Path
            >>> from sare_jax.demo import world
            >>> world.build("world", train=8, val=0, test=0)
            >>> images = sorted(Path("world/images").glob("*.png"))
            >>> texts = model.caption(images, max_new_tokens=64)
            >>> len(texts), texts[0][:12]
            (8, 'At the beach')

        Args:
          images: files, or images of Pillow's, each asked about by itself; a single one may stand alone.
          prompt: the question; the paper's describing prompt where none is given.
          max_new_tokens: most tokens of an answer.
          batch_size: images at a time, over all devices; `auto` is the largest number that fits.
          **decoding: the keys of `config.decoding`, such as `num_beams` and `temperature`.

        Returns:
          An answer for each image, in their order.

        Raises:
          UserError: images are missing (all are listed) or cannot be read, or a setting is unknown.
        """
        size = _sizer(self, "batch_size", EvaluateConfig.batch_size) if batch_size == AUTO else batch_size
        images = [images] if isinstance(images, str | Path | Image) else list(images)
        with tempfile.TemporaryDirectory() as scratch, gathering(self.mesh):
            asked = [
                {"image": str(_file(image, Path(scratch), number)), "instruction": prompt}
                for number, image in enumerate(images)
            ]
            answers = ask(
                self.loaded,
                self.loaded.params,
                asked,
                images_dir=Path("/"),  # names are whole paths
                out=Path(scratch) / "answers.jsonl",
                processor=self.processor,
                prompter=self.prompter,
                max_new_tokens=max_new_tokens,
                batch_size=size,
                name="answers",
                decoding=build(DecodingConfig, decoding, "decoding"),
                rows=by_rows(self.mesh),
            )
        return [answer["text"] for answer in answers]

    def save_pretrained(self, folder: str | Path, form: str = "folder") -> Path:
        """Writes the model for others to load; the base's files stream through, tuned tensors are replaced.

        Example:
            >>> folder = tuned.save_pretrained("tuned")
            >>> again = sare_jax.load(folder, dtype="float32")
            >>> again.caption(images, max_new_tokens=64) == tuned.caption(images, max_new_tokens=64)
            True

        Args:
          folder: the new folder; it appears when it is whole, and replaces an earlier export.
          form: a form of the model's family: `folder` is what transformers loads.

        Raises:
          UserError: there is no such form, or it refuses the folder, or what was written is not the model.
        """
        folder, params = Path(folder), self.loaded.params
        source = self.loaded.source
        export_model(source, params, folder, form, step=self.step, settings=self.training)
        verify(source, params, folder, form, step=self.step)
        return folder


def load(folder: str | Path, **settings: Any) -> Model:
    """Loads a model of any family from its published files.

    Example, with a model that comes along:
        >>> import sare_jax
        >>> model = sare_jax.load("sare_jax/demo/weights/llava", dtype="float32")
        >>> model.loaded.family.name
        'llava'

    Args:
      folder: Hugging Face folder, or a model id whose snapshot lies in the local hub cache.
      **settings: the other keys of `config.model`, such as `dtype`, `quantization` and `fsdp`.

    Raises:
      UserError: files are missing or broken, no family knows the model, or a setting is unknown.
    """
    values = build(ModelConfig, {"folder": str(folder), **settings}, "model")
    source = open_source(model_folder(values), values)
    mesh = make_mesh(values.data_parallel, values.fsdp)
    loaded = load_onto(mesh, source, values)
    prompter = source.family.prompter(source, values)
    return Model(loaded, values, source.family.image_processor(source, values), prompter, mesh)


def unlearn(
    model: Model, sets: Sets, preset: str = "robust", *, folder: str | Path | None = None, **settings: Any
) -> Model:
    """Unlearns hallucinations: trains the mapping layers on curated sets.

    Example:
        >>> tuned = sare_jax.unlearn(model, sets, preset="robust", steps=2, batch_size=8, micro_batches=1)
        >>> tuned.step, tuned.training["objective"]
        (2, 'grounded_choice')

    Args:
      model: the model to begin from; it stays as it is.
      sets: from `curate`, or `Sets(folder, images)`.
      preset: `efuf`, `sare`, `robust` or another of `sare_jax.settings.presets.PRESETS`.
      folder: where checkpoints and the log are kept, so that the same call goes on after an interruption;
        None keeps none.
      **settings: keys of `config.optim` that differ from the preset, such as `rho` and `epochs`.

    Returns:
      The unlearned model, which shares the frozen weights with `model`.

    Raises:
      UserError: a setting or preset is unknown, or there is nothing to train on.
    """
    if preset not in PRESETS:
        raise UserError(f"unlearn: no preset is called {preset!r}; they are {', '.join(PRESETS)}")
    values = {key: value for key, value in PRESETS[preset]({}).items() if key != "label"}
    optim: OptimConfig = build(OptimConfig, merged(values, settings), "optim")
    images = Path(sets.images)
    rows = by_rows(model.mesh)
    cache = int(model.settings.feature_cache_gib * 2**30)
    with nullcontext(folder) if folder is not None else tempfile.TemporaryDirectory() as kept:
        checkpoints = Path(kept) / "checkpoints"
        params = training.unlearn(
            model.loaded,
            sets.read(),
            ImagePrompter(model.prompter, model.processor, images),
            FeatureCache(model.loaded, model.processor, images, max_bytes=cache, rows=rows),
            optim,
            folder=checkpoints,
            log=Path(kept) / "log.jsonl",
            starting=Path(kept) / "starting_values",
            name=preset,
            mesh=model.mesh,
            made_from=dataclasses.asdict(model.settings),
            remat_policy=remat_policy(model.settings.remat, model.mesh),
            sizer=_sizer(model, "micro_batches", OptimConfig.micro_batches),
        )
        step, about = steps_in(checkpoints)[-1], saved_settings(checkpoints)
    return dataclasses.replace(
        model,
        loaded=dataclasses.replace(model.loaded, params=params),
        step=model.step + step,
        training=about,
    )


def _sizer(model: Model, name: str, default: Any) -> Sizer:
    """What chooses a size of that name by memory; nothing is kept of it."""
    from sare_jax.plan.sizer import DeviceSizer

    return DeviceSizer(model.mesh, name, default, {}, None)


def _file(image: Picture, scratch: Path, number: int) -> Path:
    """The image's file; an image of Pillow's is written to one."""
    if not isinstance(image, Image):
        return Path(image).expanduser().absolute()
    path = scratch / f"{number}.png"
    image.save(path)
    return path
