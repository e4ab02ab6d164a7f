"""Requests about one image go on from one reading of it."""

from dataclasses import replace

import jax.numpy as jnp
import pytest

from sare_jax.inference import ask as ask_module
from sare_jax.inference.ask import ask
from sare_jax.inference.features import FeatureCache
from sare_jax.inference.sharing import arrays_of, batches_of, common, padded_length
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.load import load_model
from sare_jax.settings import DecodingConfig
from sare_jax.training.sharding import by_rows, make_mesh, replicated
from tests.tiny_llava import pictures, write_llava

IMAGE, PAD = 9, 0
# A tiny image has few slots: with this before each question, what is shared is longer than what is not.
ALIKE = "Look at everything that can be seen in this picture, take your time, and then answer briefly. "


def asked(counts: list[int], before: int = 40) -> tuple[list[list[int]], list[str]]:
    """Prompts that begin alike and go on differently, so many about each image, in mixed order."""
    prompts, images = [], []
    for turn in range(max(counts)):
        for image, count in enumerate(counts):
            if turn < count:
                prompts.append([1, *[IMAGE] * before, 5, 20 + turn, *[7] * (turn % 3)])
                images.append(f"{image}.png")
    return prompts, images


@pytest.mark.parametrize("counts", [[1], [1, 1, 1], [6] * 4, [6, 2, 1, 5], [40], [2, 2]])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_every_request_is_asked_once_with_its_own_prompt(counts, batch_size):
    prompts, images = asked(counts)
    batches = batches_of(prompts, images, batch_size=batch_size, new=8, most=16, image_token=IMAGE)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(len(prompts)))
    for batch in batches:
        rows = max(1, batch_size // batch.width)
        made = arrays_of(batch, prompts, rows, PAD)
        assert made.indices.shape == (rows, batch.width)
        assert made.indices.size <= max(batch_size, batch.width)
        for row, of_row in enumerate(made.indices):
            for place, index in enumerate(of_row):
                own = made.tokens[row, : made.lengths[row]].tolist()
                if made.tails is not None:
                    own += made.tails[row, place, : made.ends[row, place]].tolist()
                assert own == prompts[index]


def test_images_with_several_requests_are_read_once_and_others_as_before():
    def width(counts, **settings):
        prompts, images = asked(counts, settings.pop("before", 40))
        settings = {"batch_size": 64, "new": 8, "most": 16, "image_token": IMAGE} | settings
        return batches_of(prompts, images, **settings)[0].width

    assert width([6] * 5, before=576) == 6
    assert width([1] * 5) == 1
    assert width([30, 1], before=576, most=16) == 15  # two rows of 15 are less than one of 16 and one of 14
    assert width([6] * 5, most=1) == 1
    # Room for twelve in each of many rows that hold one costs more than one image read twelve times.
    assert width([12, *[1] * 300], new=200) == 1


def test_nothing_is_shared_where_images_stand_behind_the_question():
    prompts = [[1, 20 + turn, *[IMAGE] * 40, 5] for turn in range(6)]
    (batch,) = batches_of(prompts, ["a"] * 6, batch_size=6, new=8, most=16, image_token=IMAGE)
    assert batch.width == 1


def test_equal_prompts_keep_a_token_of_their_own():
    assert common([[1, 2, 3], [1, 2, 3]]) == 2
    assert common([[1, 2, 3], [1, 2]]) == 1
    assert common([[4, 2], [1, 2]]) == 0


def test_lengths_are_few():
    rounded = [padded_length(length) for length in range(1, 20_000)]
    assert all(length <= padded for length, padded in enumerate(rounded, 1))
    assert all(padded < length + 16 for length, padded in enumerate(rounded[:1024], 1))
    assert all(padded <= 1.125 * length for length, padded in list(enumerate(rounded, 1))[1024:])
    assert len(set(rounded)) == 64 + 8 * 4 + 2


class TestAnswers:
    """Answers about a tiny LLaVA's images, several questions each."""

    @pytest.fixture(scope="class")
    @classmethod
    def setting(cls, tmp_path_factory):
        folder, images = (tmp_path_factory.mktemp(name) for name in ("model", "images"))
        write_llava(folder, seed=1)
        for name, picture in zip("abc", pictures(3), strict=True):
            picture.save(images / f"{name}.png")
        loaded = load_model(folder, dtype=jnp.float32)
        processor = LlavaImageProcessor.from_source(loaded.source)
        return {
            "loaded": loaded,
            "params": loaded.params,
            "images_dir": images,
            "processor": processor,
            "prompter": LlavaPrompter.from_source(loaded.source, "hub"),
            "max_new_tokens": 12,
            "name": "answers",
            "features": FeatureCache(loaded, processor, images),
        }

    @pytest.fixture
    def requests(self):
        """Five questions about one image, three about another, one about a third."""
        texts = ["Is there a cat?", "Is there a dog in it?", "What is this?", "Is there a cat?", "Why?"]
        about = {"a.png": texts, "b.png": texts[:3], "c.png": texts[:1]}
        return [{"image": image, "instruction": ALIKE + text} for image, own in about.items() for text in own]

    @pytest.fixture
    def widths(self, monkeypatch):
        """R of each call of `generate`."""
        seen = []

        def generate(*args, **kwargs):
            seen.append(1 if kwargs["tails"] is None else kwargs["tails"].shape[1])
            return real(*args, **kwargs)

        real = ask_module.generate
        monkeypatch.setattr(ask_module, "generate", generate)
        return seen

    @pytest.mark.parametrize("devices", [1, 2])
    @pytest.mark.parametrize(
        "case",
        ["greedy", "drawn", "stop", "penalty"],
    )
    def test_are_those_of_each_question_alone(self, setting, requests, widths, tmp_path, case, devices):
        decoding = {"drawn": DecodingConfig(temperature=1.5), "stop": DecodingConfig(stop=("e", "o"))}
        setting = setting | {"decoding": decoding.get(case, DecodingConfig())}
        if case == "penalty":
            rules = replace(setting["loaded"].generation, repetition_penalty=1.3)
            setting["loaded"] = replace(setting["loaded"], generation=rules)
        alone = ask(requests=requests, out=tmp_path / "1.jsonl", batch_size=1, **setting)
        assert set(widths) == {1}
        if devices > 1:
            setting |= spread(setting, devices)
        together = ask(requests=requests, out=tmp_path / "8.jsonl", batch_size=10, **setting)
        assert max(widths) > 1
        assert together == alone
        assert len({record["text"] for record in alone}) > 3

    def test_a_size_left_to_memory_is_chosen_for_rows_that_share(
        self, setting, requests, tmp_path, monkeypatch
    ):
        """The program that is asked about is one that runs: of the longest rows, with all their places."""
        texts, real = [], ask_module.generate

        class Chooser:
            def rows(self, make, *, multiple, most, about):
                texts.append(make(10).lowered.as_text())
                return 10

        class Noting:
            lower = staticmethod(real.lower)

            def __call__(self, *args, **kwargs):
                texts.append(real.lower(*args, **kwargs).as_text())
                return real(*args, **kwargs)

        monkeypatch.setattr(ask_module, "generate", Noting())
        ask(requests=requests, out=tmp_path / "auto.jsonl", batch_size=Chooser(), **setting)
        asked, *ran = texts
        assert asked in ran

    def test_another_cache_is_another_call(self, setting, requests, widths, tmp_path):
        """The format is part of what answers depend on: those with another one are asked again."""
        asked = []
        for cache in ("as_weights", "as_weights", "int8", "fp8"):
            decoding = DecodingConfig(cache=cache)
            ask(requests=requests, out=tmp_path / "1.jsonl", batch_size=16, decoding=decoding, **setting)
            asked.append(len(widths))
        once = asked[0]
        assert asked == [once, once, 2 * once, 3 * once]

    def test_beams_are_not_shared(self, setting, requests, widths, tmp_path):
        beams = DecodingConfig(num_beams=2)
        ask(requests=requests, out=tmp_path / "1.jsonl", batch_size=8, decoding=beams, **setting)
        assert set(widths) == {1}


def spread(setting: dict, devices: int) -> dict:
    mesh = make_mesh(devices)
    loaded = load_model(setting["loaded"].folder, dtype=jnp.float32, placement=lambda *_: replicated(mesh))
    loaded = replace(loaded, generation=setting["loaded"].generation)
    return {"loaded": loaded, "params": loaded.params, "features": None, "rows": by_rows(mesh)}
