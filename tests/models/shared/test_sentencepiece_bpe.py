"""tokenizer.model read without sentencepiece's own encoder, against that encoder."""

import random
import string

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.prompts import TEMPLATES, LlavaPrompter
from sare_jax.models.llava.source import LlavaSource, open_llava
from sare_jax.models.shared.sentencepiece_bpe import read_sentencepiece
from tests.tiny_llava import write_tokenizer
from tests.tiny_original import write_original
from tests.tiny_sentencepiece import LINES, write_sentencepiece

IMAGE = 32000
PROMPTS = [
    "What?",
    "Please describe the image in great detail.",
    "Is there a cat in the image? Please answer yes or no.",
    "  two spaces before,  inside   and behind  ",
    "\nline\n\nbreaks\n",
    "café 🐶 〜 “quote” 1234",
    "Does </s>, <s>, <unk> or <0x0A> end it?",
    "bananas aaaaaaaa hahaha",
    "\tTab▁and its own space sign",
    "",
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Sentencepiece's own reading of a model, and the folder that it is in."""
    folder = tmp_path_factory.mktemp("original")
    return write_sentencepiece(folder / "tokenizer.model"), folder


def source(folder, form="original", **text):
    raw = {
        "model_type": "llava",
        "image_token_index": IMAGE,
        "vision_config": {"image_size": 28, "patch_size": 7},
        "text_config": {"vocab_size": 32064, **text},
    }
    return LlavaSource(folder, form, LlavaConfig.from_hf(raw), {})


def write_json_form(folder, model_file):
    """The same vocabulary as llava-hf publishes it: a legacy tokenizer.json, its merges by transformers."""
    vocab, _, merges = SentencePieceExtractor(str(model_file)).extract()
    bpe = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    controls = ("<unk>", "<s>", "</s>", "<image>", "<pad>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in controls])
    write_tokenizer(folder, tokenizer)
    return tokenizer.token_to_id("<image>")


def texts(model):
    """Ordinary text, and text that puts equal, overlapping and competing pieces next to each other."""
    rng = random.Random(0)
    pieces = [model.id_to_piece(number) for number in range(259, model.get_piece_size())]
    yield from LINES
    for _ in range(300):
        yield "".join(rng.choices(pieces, k=20)).replace("▁", " ")
        yield "".join(rng.choice("an ahl▁\n.é🐶") for _ in range(rng.randint(1, 40)))
        yield "".join(rng.choice(string.printable) for _ in range(rng.randint(1, 40)))
        yield "".join(rng.choice("ahln ") for _ in range(rng.randint(1, 3))) * rng.randint(2, 12)
        yield " ".join(rng.choice(LINES)[rng.randint(0, 30) :] for _ in range(2))


def test_ids_and_text_equal_sentencepiece(reference):
    theirs, folder = reference
    tokenizer, bos, eos, unknown = read_sentencepiece(folder / "tokenizer.model")
    assert (bos, eos, unknown) == (theirs.bos_id(), theirs.eos_id(), theirs.unk_id()) == (1, 2, 0)
    assert tokenizer.get_vocab_size() == theirs.get_piece_size()
    for text in texts(theirs):
        ids = tokenizer.encode(text).ids
        assert ids == theirs.encode(text), text
        assert tokenizer.decode(ids) == theirs.decode(ids)


def test_characters_outside_a_model_without_bytes_are_unknown(tmp_path):
    theirs = write_sentencepiece(tmp_path / "tokenizer.model", byte_fallback=False, vocab_size=120)
    tokenizer, *_ = read_sentencepiece(tmp_path / "tokenizer.model")
    for text in ("a dog 🐶🐶 on é a bench", "〜", *LINES):
        assert tokenizer.encode(text).ids == theirs.encode(text)


@pytest.mark.parametrize("template", TEMPLATES)
def test_tk_04_prompts_equal_sentencepiece_and_the_json_form(reference, tmp_path, template):
    """LLaVA tokenises what stands before and behind the image each as a text of its own."""
    theirs, folder = reference
    image = write_json_form(tmp_path, folder / "tokenizer.model")
    ours = LlavaPrompter.from_source(source(folder), template)
    fast = LlavaPrompter.from_source(source(tmp_path, "hub"), template)
    assert image == theirs.get_piece_size()
    before, between, after = TEMPLATES[template]
    for instruction in PROMPTS:
        places = [IMAGE] * 16
        behind = theirs.encode(f"{between}{instruction}{after}")
        golden = [theirs.bos_id(), *theirs.encode(before), *places, *behind]
        assert ours.prompt(instruction, 16) == golden
        assert fast.prompt(instruction, 16) == golden
        assert [theirs.id_to_piece(piece) for piece in behind[:2]] == ["▁", "<0x0A>"]
        answer = [*golden[: -len(behind)], *theirs.encode(f"{between}{instruction}{after} A dog.")]
        assert ours.answer(instruction, "A dog.", [], eos=False, num_image_tokens=16)[0] == answer


def test_original_form_pads_with_unknown_and_has_no_image_piece(reference):
    theirs, folder = reference
    prompter = LlavaPrompter.from_source(source(folder, vocab_size=theirs.get_piece_size()))
    assert (prompter.bos_id, prompter.eos_id, prompter.pad_id) == (1, 2, 0)
    assert prompter.num_tokens == theirs.get_piece_size() < prompter.image_token_id
    assert prompter.prompt("What?", 16).count(IMAGE) == 16
    assert prompter.decode([*theirs.encode("A dog."), 2, 0]) == "A dog."
    with pytest.raises(UserError, match="names <image> 1 times, so the prompt has 2 image slots for 1"):
        prompter.prompt("What is in <image>?", 16)


def test_original_checkpoint_with_a_sentencepiece_file_alone(reference, tmp_path):
    theirs, folder = reference
    write_original(tmp_path / "model", tmp_path / "tower")
    (tmp_path / "model" / "tokenizer.json").unlink()
    (tmp_path / "model" / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes())
    prompter = LlavaPrompter.from_source(open_llava(tmp_path / "model", str(tmp_path / "tower")), "hub")
    places = [prompter.image_token_id] * 16
    assert prompter.prompt("What?", 16) == [
        1,
        *theirs.encode("USER: "),
        *places,
        *theirs.encode("\nWhat? ASSISTANT:"),
    ]
    assert prompter.image_token_id >= prompter.num_tokens == theirs.get_piece_size()


def test_tk_12_more_pieces_than_rows_is_an_error(reference):
    theirs, folder = reference
    with pytest.raises(UserError, match=r"tokenizer\.model: has 460 tokens, but .* rows for 459"):
        LlavaPrompter.from_source(source(folder, vocab_size=theirs.get_piece_size() - 1))


def test_image_token_among_the_pieces_is_an_error(reference):
    _, folder = reference
    raw = {"model_type": "llava", "image_token_index": 300}
    with pytest.raises(UserError, match=r"tokenizer\.model: image token 300 is the piece"):
        LlavaPrompter.from_source(LlavaSource(folder, "original", LlavaConfig.from_hf(raw), {}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "unigram", "vocab_size": 300}, "trainer_spec.model_type is 1, only 2"),
        ({"add_dummy_prefix": False}, "normalizer_spec.add_dummy_prefix is False"),
        ({"normalization_rule_name": "nmt_nfkc"}, "normalizer_spec.precompiled_charsmap is"),
        ({"user_defined_symbols": ["<image>"]}, "pieces of kinds unlike LLaMA's"),
    ],
)
def test_models_unlike_llamas_are_refused(tmp_path, settings, message):
    path = tmp_path / "tokenizer.model"
    write_sentencepiece(path, **settings)
    with pytest.raises(UserError) as error:
        read_sentencepiece(path)
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"", bytes(9), b"version https://git-lfs.github.com/spec/v1\n"])
def test_files_that_are_no_model_are_named(tmp_path, content):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.model: (not )?a sentencepiece model.*fetch"):
        read_sentencepiece(tmp_path / "tokenizer.model")


def test_no_tokenizer_at_all_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer; looked for tokenizer\.json and tokenizer\.model"):
        LlavaPrompter.from_source(source(tmp_path))
