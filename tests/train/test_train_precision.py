"""The number format that training takes."""

import pytest

from cti.train.precision import fabric_precision


@pytest.mark.parametrize(
    ("precision", "name"), [("32", "32-true"), ("bf16", "bf16-mixed"), ("16", "16-mixed"), ("64", "64-true")]
)
def test_what_is_asked_for_is_taken(precision: str, name: str, either_processor: bool) -> None:
    assert fabric_precision(precision, "cpu") == name


def test_bfloat16_is_taken_unasked_where_it_is_quick(either_processor: bool) -> None:
    assert fabric_precision("auto", "cpu") == ("bf16-mixed" if either_processor else "32-true")
