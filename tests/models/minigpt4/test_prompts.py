"""Prompts and answers of both forms against sentencepiece itself, and pictures against Pillow."""

import numpy as np
import pytest
from PIL import Image
from sentencepiece import SentencePieceProcessor

from sare_jax.errors import UserError
from sare_jax.inference.stopping import cut
from sare_jax.models.families import open_source
from tests.models.minigpt4.tiny import write_minigpt4
from tests.tiny_llava import pictures

ASK = "Please describe the image in great detail."
TEXT = "There is a dog on the bench. A man sits beside him."
PIECES = {
    "llama2": ("[INST] <Img>", f"</Img> {ASK} [/INST]", "</s>"),
    "vicuna": ("###Human: <Img>", f"</Img> {ASK} ###Assistant: ", "###"),
}


@pytest.fixture(scope="module", params=PIECES)
def world(request, tmp_path_factory):
    """The prompter, sentencepiece's own processor, the pieces around the image, and the image's token."""
    written = write_minigpt4(tmp_path_factory.mktemp(request.param), request.param)
    source = open_source(written.settings.folder, written.settings)
    theirs = SentencePieceProcessor(model_file=f"{written.settings.folder}/tokenizer.model")
    return source.family.prompter(source, written.settings), theirs, PIECES[request.param], source


def test_each_piece_is_tokenised_by_itself_behind_one_bos(world):
    prompter, theirs, (before, after, _), source = world
    image = [source.config.image_token_id] * 4
    assert prompter.prompt(ASK, 4) == [1, *theirs.encode(before), *image, *theirs.encode(after)]
    assert source.config.image_token_id >= prompter.num_tokens


def test_an_answer_is_a_piece_of_its_own_and_ends_as_in_training(world):
    prompter, theirs, (_, _, end), _ = world
    prompt = prompter.prompt(ASK, 4)
    start = TEXT.index("A man")
    spans = [(0, 28), (start, len(TEXT))]
    ids, (first, second) = prompter.answer(ASK, TEXT, spans, eos=True, num_image_tokens=4)
    ending = [2] if end == "</s>" else theirs.encode(TEXT + end)[len(theirs.encode(TEXT)) :]
    assert ids == [*prompt, *theirs.encode(TEXT), *ending]
    assert first[0] == len(prompt)
    assert theirs.decode(ids[slice(*first)]) == TEXT[:28]
    assert second[1] == len(ids)
    assert prompter.decode(ids[second[0] :]).strip() == TEXT[start:] + end.replace("</s>", "")
    whole, _ = prompter.answer(ASK, TEXT, [], eos=False, num_image_tokens=4)
    assert whole == ids[: -len(ending)]


def test_the_stop_string_ends_what_a_model_said(world):
    prompter, theirs, (_, _, end), _ = world
    said = prompter.decode(theirs.encode("A dog.") + theirs.encode("###Human: And?"))
    assert cut(said, ("###",)).strip() == "A dog."
    assert end in ("</s>", "###")


def test_an_instruction_that_names_the_image_is_refused(world):
    with pytest.raises(UserError, match="names <ImageHere>"):
        world[0].prompt("What is in <ImageHere>?", 4)


def test_pictures_are_resized_straight_to_a_square(world, tmp_path):
    _, _, _, source = world
    processor = source.family.image_processor(source, None)
    side = source.config.vision.image_size
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for number, picture in enumerate(pictures(2)):
        picture.save(tmp_path / f"{number}.png")
        plain = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), np.float64) / 255
        ours = processor.load(tmp_path, [f"{number}.png"])[0]
        assert ours.shape == (side, side, 3)
        np.testing.assert_allclose(ours, (plain - mean) / std, atol=1e-6)
    assert processor.feature_lengths == (source.config.num_image_tokens,)
