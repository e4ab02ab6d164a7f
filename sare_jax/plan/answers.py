"""The programs that write text: captions, descriptions, answers to questions of metrics and benchmarks."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from jax.sharding import Mesh

from sare_jax.attacks import AS_CONFIGURED, Asking, attack_of
from sare_jax.evaluation.benchmarks.benchmark import benchmarks_of
from sare_jax.evaluation.metrics.metric import chosen
from sare_jax.models.interface import ModelShape
from sare_jax.plan import compiled, sizes
from sare_jax.plan.compiled import Abstract, Program
from sare_jax.plan.planned import (
    IMAGES,
    TEST_IMAGES,
    Planned,
    Scale,
    Times,
    attacked_runs,
    batches,
    is_matched,
    num_steps,
    row_counts,
)
from sare_jax.rounding import round_up
from sare_jax.settings import GREEDY, DecodingConfig
from sare_jax.settings.auto import AUTO, Size
from sare_jax.settings.road import Config

# Tokens that a batch of captions, and of long descriptions, takes until its last row ends.
CAPTION_TURNS, DESCRIPTION_TURNS = 100, 200
# Checkpoints that are attacked for comparisons at equal erasure: two of each of three pairs, at the most.
MATCHED = 6
MOST_BEAMS = 64
# Questions of a metric about each image (POPE's six), which go on from one reading of it. How many a
# benchmark has is not known before its files are read; one an image takes the most memory.
AN_IMAGE = 6


@dataclass(frozen=True)
class Asked:
    """What a run's models are asked.

    Attributes:
      config: settings that a run would have.
      shapes: sizes of the language model and of the image features.
      model: the model as shapes.
      mesh: the devices.
    """

    config: Config
    shapes: ModelShape
    model: Abstract
    mesh: Mesh

    def captions(self) -> Planned:
        """Captions of the training images."""
        settings = self.config.caption
        return self._planned(
            "captions",
            "caption.batch_size",
            settings.batch_size,
            settings.max_new_tokens,
            self.config.decoding,
            {"caption": float(IMAGES)},
            CAPTION_TURNS,
        )

    def measured(self) -> Iterator[Planned]:
        """Descriptions by how they are decoded, then questions by the length of their answers."""
        settings, title = self.config.evaluate, "descriptions"
        for decoding, requests in self._descriptions().items():
            if requests:
                yield self._planned(
                    title,
                    "evaluate.batch_size",
                    settings.batch_size,
                    settings.max_new_tokens,
                    decoding,
                    requests,
                    DESCRIPTION_TURNS,
                )
        asked: dict[tuple[int, int], list[tuple[str, float]]] = {}
        for metric, options in chosen(settings.metric_names(), settings.options):
            if metric.questions and (lists := metric.questions.lists(options)):
                number = len(lists) * float(AN_IMAGE) * getattr(options, "images", self._images)
                asked.setdefault((metric.questions.max_new_tokens, AN_IMAGE), []).append(
                    (metric.title, number)
                )
        for benchmark, _ in benchmarks_of(settings.benchmarks):
            number = settings.benchmark_first or TEST_IMAGES
            asked.setdefault((benchmark.max_new_tokens, 1), []).append((benchmark.title, number))
        brief = dataclasses.replace(GREEDY, cache=self.config.decoding.cache)
        for (new, questions), who in asked.items():
            titles, numbers = zip(*who, strict=True)
            requests = {stage: number * sum(numbers) for stage, number in self._asked_weights().items()}
            if requests:
                yield self._planned(
                    f"questions of {', '.join(titles)}",
                    "evaluate.question_batch_size",
                    settings.question_batch_size,
                    new,
                    brief,
                    requests,
                    new,
                    questions,
                )

    @property
    def _images(self) -> int:
        return self.config.evaluate.max_images or TEST_IMAGES

    def _asked_weights(self) -> dict[str, float]:
        """Stage → weights that are asked everything there."""
        models = float(1 + len(self.config.runs))
        attacked = sum(attacked_runs(self.config, name) for name in self.config.attacks)
        found = {"evaluate": models, "attack": float(attacked)}
        return {stage: number for stage, number in found.items() if stage in self.config.stages and number}

    def _descriptions(self) -> dict[DecodingConfig, Times]:
        """How images are described, as far as memory depends on it → stage → descriptions."""
        config, models = self.config, 1 + len(self.config.runs)
        found: dict[DecodingConfig, dict[str, float]] = {}

        def add(asking: Asking, stage: str, weights: float) -> None:
            decoding = config.decoding
            if asking.temperature is not None:
                decoding = dataclasses.replace(decoding, num_beams=1, temperature=asking.temperature)
            there = found.setdefault(decoding, {})
            there[stage] = there.get(stage, 0.0) + weights * asking.draws * self._images

        if "evaluate" in config.stages:
            add(AS_CONFIGURED, "evaluate", models)
        for name, attack in config.attacks.items():
            kind = attack_of(attack.kind, f"config.attacks.{name}")
            asking = kind.asking(attack.settings) if kind.asking else AS_CONFIGURED
            if "attack" in config.stages:
                add(asking, "attack", attacked_runs(config, name))
            if is_matched(config) and name == config.report.matched_attack:
                add(asking, "report", MATCHED)
        if is_matched(config):
            add(AS_CONFIGURED, "report", MATCHED + self._num_checkpoints)
        if "report" in config.stages and (images := config.report.landscape_images):
            points = 2 * 2 * config.report.landscape_points
            add(AS_CONFIGURED, "report", points * images / self._images)
        return dict(found)

    @property
    def _num_checkpoints(self) -> float:
        """Checkpoints of the two compared runs, all of which describe the validation images."""
        total = 0.0
        for name in (self.config.report.baseline, self.config.report.ours):
            run = self.config.runs[name]
            total += num_steps(run) // run.checkpoint_every + 1 if run.checkpoint_every else 1
        return total

    def _planned(
        self,
        name: str,
        key: str,
        size: Size,
        new: int,
        decoding: DecodingConfig,
        requests: Times,
        turns: int,
        questions: int = 1,
    ) -> Planned:
        mesh, devices = self.mesh, self.mesh.size
        section, field = key.split(".")
        usual = getattr(getattr(sizes.usual(self.config), section), field)
        rows = round_up(usual, devices)
        prompt = self.shapes.num_image_tokens + sizes.PROMPT_TOKENS
        batch = sizes.Captioning(rows, prompt, new, decoding, devices)

        def make(rows: int) -> Program:
            shared = min(questions, rows)
            images, tail = round_up(max(1, rows // shared), devices), sizes.QUESTION_TOKENS * (shared > 1)
            sized = dataclasses.replace(batch, rows=images, questions=shared, tail=tail)
            return compiled.captioning(self.model, mesh, sized)

        def beams(rows: int) -> Scale:
            def make(number: int) -> Program:
                searching = dataclasses.replace(decoding, num_beams=number, temperature=0.0)
                sized = dataclasses.replace(batch, rows=rows, decoding=searching)
                return compiled.captioning(self.model, mesh, sized)

            start = max(2, decoding.num_beams)
            return Scale(
                "config.decoding.num_beams", start, range(2, MOST_BEAMS + 1), make, "number of beams"
            )

        shared = f", {questions} to an image" if questions > 1 else ""
        searched = f", {decoding.num_beams} beams" if decoding.num_beams > 1 else ""
        drawn = f", drawn at temperature {decoding.temperature:g}" if decoding.temperature else ""
        return Planned(
            name,
            lambda rows: (
                f"{name}: batch {rows}, {rows // devices} a device{searched}{drawn}{shared}, "
                f"up to {new} new tokens"
            ),
            Scale(f"config.{key}", rows, row_counts(devices, rows), make, is_auto=size == AUTO),
            max(1, min(turns, new) - 1),
            lambda rows: batches(requests, rows),
            beams if field == "batch_size" and not decoding.temperature else None,
        )
