"""The examples of the Python API's docstrings, run in one session; and what `import sare_jax` costs."""

import doctest
import importlib
import subprocess
import sys

import pytest

import sare_jax
from sare_jax.api import model, texts
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.errors import UserError

IN_ORDER = (
    model.load,
    model.Model.caption,
    texts.curate,
    model.unlearn,
    model.Model.save_pretrained,
    texts.chair,
)


def run(documented, names: dict) -> doctest.TestResults:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(documented, globs=names)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    result = runner.run(example, clear_globs=False)
    names.update(example.globs)
    return result


def test_every_docstrings_example_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    results = [run(documented, names) for documented in IN_ORDER]
    assert [result.failed for result in results] == [0] * len(IN_ORDER)
    assert all(result.attempted >= 2 for result in results)
    before, after = names["model"], names["tuned"]
    assert (before.step, before.training) == (0, {})
    assert before.loaded.frozen is after.loaded.frozen
    assert before.caption(names["images"], max_new_tokens=64) == names["texts"]  # stays as it was
    _mistakes(names)
    _inputs(names, tmp_path)


def test_a_model_is_loaded_with_int8_kernels_by_a_keyword():
    int8 = sare_jax.load(WEIGHTS, dtype="float32", quantization="int8")
    layers = int8.loaded.frozen["language_model"]["layers"]
    assert layers["up"]["kernel"].dtype == "int8"
    with pytest.raises(UserError, match=r"model\.quantization: .*'int4'"):
        sare_jax.load(WEIGHTS, quantization="int4")


def _mistakes(names: dict) -> None:
    tuned, sets = names["model"], names["sets"]
    with pytest.raises(UserError, match="no preset is called 'saer'; they are efuf, sare, robust"):
        sare_jax.unlearn(tuned, sets, "saer")
    with pytest.raises(UserError, match=r"optim\.roh: unknown key; did you mean rho"):
        sare_jax.unlearn(tuned, sets, roh=0.1)
    with pytest.raises(UserError, match=r"decoding\.beams: unknown key"):
        tuned.caption(names["images"][:1], beams=3)
    with pytest.raises(UserError, match=r"1 of 1 images cannot be used: .*gone\.png: missing"):
        tuned.caption("gone.png")
    with pytest.raises(UserError, match=r"model\.dtyp: unknown key; did you mean dtype"):
        sare_jax.load("x", dtyp="float32")
    with pytest.raises(UserError, match=r"curate\.folder: names sets that are there already"):
        sare_jax.curate({}, "world/images", "out", folder="x")


def _inputs(names: dict, folder) -> None:
    """A file, a list of files and a picture of Pillow's are described alike; so are captions in all forms."""
    from PIL import Image

    path = names["images"][0]
    tuned = names["model"]
    texts_ = [tuned.caption(image, max_new_tokens=64) for image in (path, [str(path)], Image.open(path))]
    assert texts_[0] == texts_[1] == texts_[2]
    truth = {1: ["dog"], 2: ["bench"]}
    file = folder / "captions.txt"
    file.write_text("1.png ### A dog and a cat.\n2.png ### A bench.\n")
    forms = (
        file,
        {1: "A dog and a cat.", "2.png": "A bench."},
        [{"image_id": 1, "text": "A dog and a cat."}],
    )
    assert [sare_jax.chair(form, truth, draws=10)["chair_s"] for form in forms] == [50, 50, 100]


def test_importing_the_package_brings_no_library():
    code = (
        "import sys, sare_jax\n"
        "print(sorted({'jax', 'numpy', 'torch', 'PIL', 'absl'} & set(sys.modules)))\n"
        "print(set(sare_jax.__all__) <= set(dir(sare_jax)))\n"
        "sare_jax.chair, sare_jax.curate\n"
        "print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True", "[]"]


@pytest.mark.parametrize(
    "room", ["", ".optim", ".objectives", ".models", ".evaluation", ".attacks", ".settings", ".export"]
)
def test_public_names_are_there_and_say_what_they_are(room):
    package = importlib.import_module(f"sare_jax{room}")
    assert len(set(package.__all__)) == len(package.__all__) >= 4
    for name in package.__all__:
        thing = getattr(package, name)
        assert not callable(thing) or thing.__doc__ or name == "UnitLoss", name


def test_names_that_are_not_there_are_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sare_jax' has no attribute 'unlern'"):
        sare_jax.unlern  # noqa: B018
