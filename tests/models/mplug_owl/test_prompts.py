"""mPLUG-Owl's prompt and answers as tokens, against sentencepiece on each piece."""

import pytest

from sare_jax.errors import UserError
from sare_jax.models.families import open_source
from sare_jax.models.mplug_owl.prompts import prompter_of
from tests import tiny_owl
from tests.tiny_sentencepiece import write_sentencepiece

ASK, TEXT = "Please describe the image.", "A photo of a dog. There are two cats."
SYSTEM = (
    "The following is a conversation between a curious human and AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
SLOT = tiny_owl.VOCABULARY
# The whole prompt is SYSTEM + "\nHuman: <image>\nHuman: {p}\nAI: ".
PIECES = {
    "": ([f"{SYSTEM}\nHuman: "], [f"\nHuman: {ASK}\nAI: "]),
    "owl_roles_apart": ([SYSTEM, "\nHuman: "], ["\nHuman: ", f"{ASK}\n", "AI: "]),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owl")
    tiny_owl.write_owl(folder)
    return open_source(folder)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return write_sentencepiece(tmp_path_factory.mktemp("words") / "tokenizer.model", vocab_size=SLOT)


@pytest.mark.parametrize("template", PIECES)
def test_pieces_are_tokenised_apart(source, reference, template):
    prompter = prompter_of(source, template)
    before, after = (
        [token for piece in part for token in reference.encode(piece)] for part in PIECES[template]
    )
    prompt = [1, *before, *[SLOT] * 9, *after]
    assert prompter.prompt(ASK, 9) == prompt
    ids, [whole] = prompter.answer(ASK, TEXT, [(0, len(TEXT))], eos=True, num_image_tokens=9)
    assert ids == [*prompt, *reference.encode(TEXT), 2]
    assert whole == (len(prompt), len(ids))
    assert prompter.decode(ids[len(prompt) :]) == TEXT


def test_forms_differ_and_say_so(source):
    one, other = (prompter_of(source, template) for template in PIECES)
    assert one.prompt(ASK, 9) != other.prompt(ASK, 9)
    assert one.identity != other.identity


def test_units_are_prefixes_of_their_caption(source):
    """Packing puts all units of a caption into one row, so their tokens have to be the caption's."""
    prompter = prompter_of(source)
    border = TEXT.index(" There")
    ids, [first, second] = prompter.answer(
        ASK, TEXT, [(0, border), (border, len(TEXT))], eos=False, num_image_tokens=9
    )
    part, [alone] = prompter.answer(ASK, TEXT[:border], [(0, border)], eos=False, num_image_tokens=9)
    assert ids[: first[1]] == part
    assert first == alone
    assert (first[1], second[1]) == (second[0], len(ids))


def test_an_instruction_may_not_name_the_image(source):
    with pytest.raises(UserError, match="names <image>; leave it out"):
        prompter_of(source).prompt("What is in <image>?", 9)
