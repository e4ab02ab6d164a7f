"""Values from outside have the type that is asked for, or are named by where they stand."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sare_jax.errors import UserError
from sare_jax.schema import checked, whole_number


@dataclass(frozen=True)
class Inner:
    id: int
    name: str = "x"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...] = ()
    rate: float = 0.0
    either: int | str | None = None
    rest: Any = None


def test_values_come_back_in_the_type():
    given = {"inner": {"id": 1, "other": 2}, "many": [{"id": 2, "name": "y"}], "rate": 3, "rest": [{}]}
    made = checked(given, Outer, "a.json")
    assert made == Outer(Inner(1), (Inner(2, "y"),), 3.0, None, [{}])
    assert type(made.rate) is float
    assert checked({"a": [[1, "x"]]}, dict[str, list[tuple[int, str]]], "x") == {"a": [(1, "x")]}
    assert checked("b", Literal["a", "b"], "x") == "b"


WRONG = [
    (1.0, int, "is 1.0, need a whole number"),
    (True, int, "is True, need a whole number"),
    (10**30, int, "need a whole number"),
    ("1", int, "is '1', need a whole number"),
    (float("inf"), float, "is inf, need a number"),
    (float("nan"), float, "is nan, need a number"),
    (10**400, float, "need a number"),
    (1, bool, "is 1, need true or false"),
    ([1, 2], str, "is a list of 2, need a text"),
    ({}, list[int], "is an empty object, need a list"),
    ([1, "x"], list[int], r"\[1\] is 'x', need a whole number"),
    ([1, 2, 3], tuple[int, str], "is a list of 3, need 2"),
    ({"a": [1]}, dict[str, str], "'a' is a list of 1, need a text"),
    (True, Literal[1, 2], "is True, need 1 or 2"),
    ([], int | str | None, "is an empty list, need a whole number, a text or null"),
    ({"inner": {}}, Outer, "'inner' has no 'id'"),
    ({"inner": {"id": 1}, "many": [{"id": {}}]}, Outer, r"'many'\[0\]: 'id' is an empty object"),
    ([], Outer, "is an empty list, need an object"),
]


@pytest.mark.parametrize(("value", "kind", "message"), WRONG)
def test_what_does_not_fit_is_named(value, kind, message):
    with pytest.raises(UserError, match=rf"^a\.json.*{message}"):
        checked(value, kind, "a.json")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("000042", 42),
        ("0", 0),
        ("000", 0),
        ("9" * 18, 10**18 - 1),
        *((text, None) for text in ("", "-1", "1.0", " 1", "x", "\u00b2", "\u0663", "9" * 19, "9" * 5000)),
    ],
)
def test_digits_are_a_number_as_far_as_it_has_64_bits(text, number):
    assert whole_number(text) == number
