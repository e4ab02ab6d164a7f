"""What stages share: settings, paths of artifacts, and what is loaded once, when first needed."""

import dataclasses
import functools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sare_jax import files, pipeline
from sare_jax.records.splits import Image, Splits
from sare_jax.settings import GREEDY, DecodingConfig
from sare_jax.settings.auto import AUTO
from sare_jax.settings.road import Config

if TYPE_CHECKING:
    from jax.sharding import Mesh, Sharding

    from sare_jax.attacks import Pictures
    from sare_jax.data.contents import Contents
    from sare_jax.inference.features import FeatureCache
    from sare_jax.models.interface import ImageProcessor, LoadedModel, Prompter, Source
    from sare_jax.models.prompting import ImagePrompter
    from sare_jax.models.shared.generation import GenerationRules
    from sare_jax.records.coco import Truth
    from sare_jax.settings.auto import Sizer


class Context:
    """Settings, paths and lazily loaded objects of one invocation.

    The model, the tokenizer and the annotations are cached properties, so an invocation that finds all its
    artifacts up to date loads none of them.
    """

    def __init__(self, config: Config, workdir: Path):
        self.config = config
        self.workdir = workdir
        self.ledger = pipeline.Ledger(workdir)

    @property
    def data_root(self) -> Path:
        """Folder that `prepare` fills."""
        return Path(self.config.data.root) if self.config.data.root else self.workdir / "data"

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.in_root(self.config.data.images)

    @property
    def annotations(self) -> Path:
        """Folder of the COCO annotation files."""
        return self.in_root(self.config.data.annotations)

    @property
    def captions(self) -> Path:
        """Folder of the base model's descriptions of the training images."""
        return self.workdir / "captions"

    @property
    def curated(self) -> Path:
        """Folder of D_neg, D_pos and D_sent."""
        return self.workdir / "curated"

    def checkpoints(self, run: str) -> Path:
        """Folder of the checkpoints of an unlearning run, or of an attack on it (`RUN+ATTACK`)."""
        return self.workdir / "checkpoints" / run

    @property
    def starting_values(self) -> Path:
        """Folder of what objectives need from the base model; runs that need the same share a file."""
        return self.workdir / "starting_values"

    def answers(self, run: str, setting: str) -> Path:
        """Folder of the answers of `run` under `setting`."""
        return self.workdir / "answers" / run / setting

    def metrics(self, run: str, setting: str) -> Path:
        """JSON file of the metrics of those answers."""
        return self.workdir / "metrics" / run / f"{setting}.json"

    def attack_record(self, run: str, name: str) -> Path:
        """JSON file of what the attack `name` did to the weights of `run`."""
        return self.workdir / "attacks" / run / f"{name}.json"

    def masking(self, run: str) -> Path:
        """How fast a run learns something harmless."""
        return self.workdir / "masking" / f"{run}.json"

    def probe(self, run: str, setting: str) -> Path:
        """What the weights know at openings, and how far they have moved."""
        return self.workdir / "probes" / run / f"{setting}.json"

    def log(self, run: str) -> Path:
        """JSONL file of a run's training metrics, one record per step."""
        return self.workdir / "logs" / f"{run}.jsonl"

    @cached_property
    def source(self) -> "Source":
        """The base model on disk: its family, its config, and where its tensors lie."""
        from sare_jax.models.families import model_folder, open_source

        return open_source(model_folder(self.config.model), self.config.model)

    @cached_property
    def model_hash(self) -> str:
        """Content hash of the base model's files, including parts that lie in other folders."""
        from sare_jax.models.load import content_hash

        return content_hash(self.source)

    @cached_property
    def generation(self) -> "GenerationRules":
        """Rules of generation that the base model's files give, such as its end tokens."""
        from sare_jax.models.shared.generation import read_generation

        return read_generation(self.source.folder)

    @cached_property
    def mesh(self) -> "Mesh":
        """The devices as a grid (data_parallel × fsdp), over which rows and weights are spread."""
        from sare_jax.training.sharding import make_mesh

        return make_mesh(self.config.model.data_parallel, self.config.model.fsdp)

    @cached_property
    def rows(self) -> "Sharding":
        """Sharding that spreads the rows of a batch over the mesh."""
        from sare_jax.training.sharding import by_rows

        return by_rows(self.mesh)

    @cached_property
    def loaded(self) -> "LoadedModel":
        """The base model, in the memory of the mesh's devices."""
        from sare_jax.models.load import parameter_table
        from sare_jax.training.sharding import load_onto

        loaded = load_onto(self.mesh, self.source, self.config.model)
        print(parameter_table(loaded), flush=True)
        if note := loaded.generation.note(self.config.decoding, self.config.evaluate.max_new_tokens):
            print(note, flush=True)
        return loaded

    @cached_property
    def processor(self) -> "ImageProcessor":
        """The base model's image preprocessing."""
        return self.source.family.image_processor(self.source, self.config.model)

    @cached_property
    def prompter(self) -> "Prompter":
        """Tokenizer and prompt form of the base model."""
        prompter = self.source.family.prompter(self.source, self.config.model)
        self.generation.end_ids(prompter.eos_id)  # refuses files that contradict each other
        return prompter

    @cached_property
    def image_prompter(self) -> "ImagePrompter":
        """The prompter with the number of image slots of each image, by file name."""
        from sare_jax.models.prompting import ImagePrompter

        return ImagePrompter(self.prompter, self.processor, self.images)

    @cached_property
    def features(self) -> "FeatureCache":
        """Image features by file name, each computed once and kept up to `model.feature_cache_gib`."""
        return self._features_in(self.images)

    def _features_in(self, folder: Path) -> "FeatureCache":
        from sare_jax.inference.features import FeatureCache

        return FeatureCache(
            self.loaded,
            self.processor,
            folder,
            max_bytes=int(self.config.model.feature_cache_gib * 2**30),
            rows=self.rows,
        )

    def pictures(self, name: str) -> "Pictures":
        """A folder of images as training sees it, by its name in the config; empty for `data.images`."""
        from sare_jax.attacks import Pictures
        from sare_jax.models.prompting import ImagePrompter

        if not name:
            return Pictures(self.images, self.image_prompter, self.features)
        folder = self.in_root(name)
        prompter = ImagePrompter(self.prompter, self.processor, folder)
        return Pictures(folder, prompter, self._features_in(folder))

    @property
    def briefly(self) -> DecodingConfig:
        """How questions are answered: greedily, with keys and values in the configured format."""
        return dataclasses.replace(GREEDY, cache=self.config.decoding.cache)

    def ask(
        self,
        params: Any,
        requests: list[dict],
        out: Path,
        *,
        name: str,
        max_new_tokens: int,
        size: str,
        images: Path | None = None,
        decoding: DecodingConfig | None = None,
    ) -> list[dict]:
        """`inference.ask` with this model, on images of `self.images` or of another folder.

        Args:
          params: the trainable parameters to answer with.
          requests: one record per question, with `id`, `image` and `instruction`.
          out: JSONL file to which the answers are written as they come.
          name: label of the progress bar.
          max_new_tokens: longest answer, in tokens.
          size: dotted key of the setting that says how many questions are answered together.
          images: folder of the images; None takes `self.images`, whose features are cached.
          decoding: beam search, sampling or greedy; None takes `briefly`.

        Returns:
          One record per request, with the answer as `text`.
        """
        from sare_jax.inference.ask import ask
        from sare_jax.training.sharding import gathering

        with gathering(self.mesh):
            return ask(
                self.loaded,
                params,
                requests,
                images_dir=images or self.images,
                out=out,
                processor=self.processor,
                prompter=self.prompter,
                max_new_tokens=max_new_tokens,
                batch_size=self.rows_of(size),
                name=name,
                features=None if images else self.features,
                decoding=self.briefly if decoding is None else decoding,
                max_pixels=self.config.data.max_pixels,
                rows=self.rows,
                contents=self.contents.hash(images or self.images, sorted({r["image"] for r in requests})),
            )

    def rows_of(self, setting: str) -> "int | Sizer":
        """How many rows are worked on together: a number, or what chooses it where the setting is `auto`.

        Args:
          setting: dotted key, such as `caption.batch_size`.
        """
        section, key = setting.split(".")
        settings = getattr(self.config, section)
        value = getattr(settings, key)
        return self.sizer(setting, getattr(type(settings), key)) if value == AUTO else value

    @functools.cache  # noqa: B019  a context lives as long as the run
    def sizer(self, setting: str, default: int) -> "Sizer":
        """What chooses the size that a setting leaves to memory, and keeps it in `batch_sizes.json`.

        Args:
          setting: its dotted key.
          default: its default, at which the choice begins.
        """
        from sare_jax.plan.sizer import DeviceSizer

        record = self.workdir / "batch_sizes.json"
        return DeviceSizer(self.mesh, f"config.{setting}", default, self.model_inputs(), record)

    @cached_property
    def splits(self) -> Splits:
        """Training, validation and test images."""
        return Splits.read(pipeline.require(self.workdir / "splits.json", "prepare"))

    @cached_property
    def truth(self) -> "Truth":
        """COCO annotations, for evaluation and for reports on curation; unlearning does not use them."""
        from sare_jax.records.coco import read_truth

        return read_truth(self.annotations)

    @cached_property
    def annotations_hash(self) -> str:
        """Hash of all COCO files of the annotation folder, a gigabyte in full, which many tasks depend on."""
        return files.digest(self.annotations)

    @property
    def training_images(self) -> tuple[Image, ...]:
        """The training images that are captioned."""
        return self.splits.train[: self.config.data.max_train_images or None]

    @property
    def eval_images(self) -> tuple[Image, ...]:
        """Held-out images on which models are measured: the first of the configured split."""
        images = getattr(self.splits, self.config.evaluate.split)
        return images[: self.config.evaluate.max_images or None]

    @cached_property
    def contents(self) -> "Contents":
        """Hashes of images' contents, kept in the workdir."""
        from sare_jax.data.contents import Contents

        return Contents(self.workdir / ".image_contents.json")

    def images_hash(self, images: Sequence[Image]) -> str:
        """Hash of images' ids, names and contents."""
        contents = self.contents.hash(self.images, [image.file for image in images])
        return files.hash_value([[[image.id, image.file] for image in images], contents])

    @property
    def trained_images(self) -> str:
        """`images_hash` of the images whose captions may be curated: of all, where sets bring them."""
        curate = self.config.curate
        return self.images_hash(self.splits.train if curate.efuf or curate.folder else self.training_images)

    def digest(self, path: Path, stage: str) -> str:
        """Content hash of an artifact; if it is missing, the error names the `stage` that makes it."""
        return files.digest(pipeline.require(path, stage))

    def model_inputs(self) -> dict:
        """Task inputs that identify the base model and how it is read."""
        settings = self.config.model
        inputs = {
            "model": self.model_hash,
            "dtype": settings.dtype,
            "template": settings.template,
            "image_mode": settings.image_mode,
            "generation": self.generation.identity,
        }
        if settings.quantization != "none":  # a new key in every run would have made all kept results void
            inputs["quantization"] = settings.quantization
        return inputs

    def in_root(self, name: str) -> Path:
        """The path that a setting names; where `prepare` makes the data, relative ones lie in its folder."""
        return self.data_root / name if self.config.data.prepare else Path(name)
