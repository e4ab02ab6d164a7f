"""Stop strings against transformers' `stop_strings`, and their automaton against plain text search."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from sare_jax.errors import UserError
from sare_jax.inference.stopping import cut, stop_table
from sare_jax.settings import DecodingConfig
from tests.inference.cases import Case, make_case, run, theirs
from tests.tiny_llava import byte_level_tokenizer, llama_tokenizer, rebuilt_llama_tokenizer

ALL = [0, 1, 2, 3]
SIZE = 496
FORMS = {"llama": llama_tokenizer, "rebuilt": rebuilt_llama_tokenizer, "byte_level": byte_level_tokenizer}


def place_of_stop(table: np.ndarray, ids: list[int]) -> int | None:
    """How many tokens the automaton reads until it has met a string."""
    state = 0
    for count, token in enumerate(ids, start=1):
        state = table[state, token]
        if state == len(table) - 1:
            return count
    return None


@pytest.mark.parametrize("form", FORMS)
def test_strings_are_met_where_the_decoded_text_holds_them(form):
    """Texts made of pieces of the strings, so that beginnings, overlaps and whole ones abound."""
    tokenizer = FORMS[form]()
    stop = ["###", "\n\n", "dog dog.", "ø#", "og d"]
    table = stop_table(tokenizer, stop, SIZE)
    rng = np.random.default_rng(0)
    pieces = ["#", "##", "\n", " dog", "dog", ".", " a", "ø", "the", "og", " d", "</s>"]
    met = 0
    for _ in range(300):
        text = "a" + "".join(rng.choice(pieces, 8))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if rng.random() < 0.5:  # other borders between tokens than the tokenizer's own
            ids = [i for piece in text for i in tokenizer.encode(piece, add_special_tokens=False).ids]
        read = [tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
        expected = next((n for n, so_far in enumerate(read, 1) if any(s in so_far for s in stop)), None)
        assert place_of_stop(table, ids) == expected
        met += expected is not None
    assert 60 < met < 290


def test_the_automaton_forgets_nothing_at_the_limit():
    table = stop_table(llama_tokenizer(), ["###"], SIZE)
    assert table.shape == (4, SIZE)
    assert (table[3] == 3).all()


def test_text_is_cut_at_the_first_string():
    assert cut("a dog ### a cat STOP", ["STOP", "###"]) == "a dog "
    assert cut("a dog", ["###"]) == "a dog"
    assert cut("### a dog", ["###"]) == ""


def test_an_empty_string_is_refused():
    with pytest.raises(UserError, match=r"decoding\.stop"):
        stop_table(llama_tokenizer(), ["###", ""], SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("grouped")


@pytest.fixture(scope="module")
def case(folder) -> Case:
    return make_case(folder, "grouped")


def strings(ids: list[list[int]], tokenizer) -> list[str]:
    """A text in each of three answers that begins and ends within tokens."""
    found = []
    for row, place in zip(ids[:3], (4, 8, 12), strict=True):
        begun, whole = tokenizer.decode(row[:place]), tokenizer.decode(row[: place + 2])
        found.append(whole[len(begun) - 1 : -1])
    return found


@pytest.mark.parametrize("num_beams", [1, 5])
def test_answers_end_where_transformers_ends_them(case, folder, num_beams):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = case.loaded.config.text.vocab_size
    # Pieces of words alone: single bytes of a random model make no text, and strings are to end it.
    barred = [*range(259), *range(llama_tokenizer().get_vocab_size() - 2, vocabulary)]
    decoding = DecodingConfig(num_beams=num_beams, length_penalty=0.0)
    allowed = ~np.isin(np.arange(vocabulary), barred)
    settings = {"max_new_tokens": 24, "decoding": decoding, "allowed": allowed}
    free = run(case, ALL, **settings)
    stop = strings(free, tokenizer)
    ours = run(case, ALL, **settings, stops=stop_table(llama_tokenizer(), stop, vocabulary))
    expected = [
        theirs(
            case,
            [row],
            max_new_tokens=24,
            num_beams=num_beams,
            length_penalty=0.0,
            suppress_tokens=barred,
            stop_strings=stop,
            tokenizer=tokenizer,
        )[0]
        for row in ALL
    ]
    assert ours == expected
    texts = [tokenizer.decode(row) for row in ours]
    assert sum(any(string in text for string in stop) for text in texts) >= 3
    if num_beams == 1:  # a beam that a string ends may be a different one
        assert [cut(text, stop) for text in texts] == [cut(tokenizer.decode(row), stop) for row in free]
