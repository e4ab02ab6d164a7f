import pytest

from sare_jax.config import parse
from sare_jax.errors import UserError
from sare_jax.settings import GREEDY

BASE = {"name": "test", "stages": "caption", "model": {"folder": "somewhere"}}


def decoding(**values):
    return parse(BASE | {"decoding": values}).decoding


def test_ge_07_greedy_where_nothing_is_said():
    assert parse(BASE).decoding == GREEDY
    assert (GREEDY.num_beams, GREEDY.temperature, GREEDY.stop) == (1, 0.0, ())


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": -1.0}, "temperature"),
        ({"num_beams": 5, "temperature": 1.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"early_stopping": "maybe"}, "early_stopping"),
        ({"stop": ("###", "")}, "stop"),
    ],
)
def test_decoding_that_makes_no_sense_is_refused_by_its_key(values, key):
    with pytest.raises(UserError, match=rf"^config\.decoding\.{key}: "):
        decoding(**values)


def test_beams_and_stop_strings_are_taken_over():
    made = decoding(num_beams=5, length_penalty=-2, early_stopping="never", stop=("###",))
    assert (made.num_beams, made.length_penalty, made.stop) == (5, -2.0, ("###",))
