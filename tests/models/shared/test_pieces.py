"""Texts tokenised piece by piece, against sentencepiece's own reading of each piece."""

import pytest

from sare_jax.errors import UserError
from sare_jax.models.shared.pieces import PieceTokenizer
from tests.tiny_sentencepiece import write_sentencepiece

TEXT = "A photo of a dog on a bench. There is a café 🐶 with “quoted” chairs, and two cats."


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    reference = write_sentencepiece(folder / "tokenizer.model")
    return PieceTokenizer.read(folder, rows=460), reference


def test_each_piece_is_tokenised_by_itself(both):
    words, reference = both
    texts = ["A dog", " on a bench.\nUSER: ", "", "\nUSER: ", "bananas </s> <s>"]
    ids = words.encode([[words.bos_id], texts[0], [-1, -1], *texts[1:]])
    apart = [reference.encode(text) for text in texts]
    assert ids == [1, *apart[0], -1, -1, *(token for piece in apart[1:] for token in piece)]
    assert ids != words.encode([[words.bos_id], texts[0], [-1, -1], "".join(texts[1:])])
    assert apart[2] == []
    assert (words.bos_id, words.eos_id, words.unknown_id, words.num_tokens) == (1, 2, 0, 460)


def test_an_answer_is_a_piece_and_its_spans_divide_it(both):
    words, reference = both
    border = TEXT.index(" There")
    spans = [(0, border), (border, len(TEXT)), (0, len(TEXT)), (border, border)]
    ids, places = words.answer(TEXT, spans, end=[words.eos_id])
    assert ids == [*reference.encode(TEXT), words.eos_id]
    (start, first), (second, end), whole, (empty, same) = places
    assert (start, first, end, whole, empty) == (0, second, len(ids), (0, len(ids)), same)
    assert words.decode(ids[:first]) == TEXT[:border]
    assert words.decode(ids[second:end]) == TEXT[border + 1 :]  # a decoder drops the space at the start
    assert words.decode(ids) == TEXT


def test_every_span_holds_its_own_characters(both):
    words, _ = both
    for start in range(len(TEXT)):
        for width in (0, 1, 4):
            stop = min(start + width, len(TEXT))
            ids, [(first, last), (_, behind)] = words.answer(TEXT, [(start, stop), (0, start)])
            assert first == behind or start == 0
            assert 0 <= first <= last <= len(ids)


def test_what_does_not_fit_is_named(both, tmp_path):
    words, _ = both
    with pytest.raises(UserError, match="span 2:9 lies outside the 5 characters of 'A dog'"):
        words.answer("A dog", [(2, 9)])
    with pytest.raises(UserError, match=r"tokenizer\.model: no such file"):
        PieceTokenizer.read(tmp_path, rows=460)
    write_sentencepiece(tmp_path / "tokenizer.model")
    with pytest.raises(UserError, match=r"has 460 tokens, but the model has rows for 459"):
        PieceTokenizer.read(tmp_path, rows=459)
