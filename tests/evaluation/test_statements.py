"""What is said in a sentence of calibration and of sets, word for word where it would be easy to say too much."""

import doctest

import pytest

import cytodistill.evaluation.statements
from cytodistill.evaluation.statements import calibration_statement, sets_statement
from cytodistill.metrics.calibration import HOTTEST


def calibration(before: float, after: float, temperature=1.5, interval=(-0.2, -0.1)) -> str:
    kinds = {
        "raw": {"nll": before, "ece": 0.1, "temperature": 1.0},
        "temperature": {"nll": after, "ece": 0.03, "temperature": temperature, "if_calibrated": {"ece": 0.05}},
    }
    return calibration_statement(kinds, {"temperature": {"value": after - before, "interval": interval}})


def test_a_change_is_said_with_its_interval_and_true_minus_signs():
    assert calibration(0.9, 0.75) == (
        "temperature 1.50 lowers NLL, 0.900 to 0.750 (change −0.150, 95 % interval −0.200 to −0.100); "
        "ECE 10.0 to 3.0 %, where chance alone makes up to 5.0 %"
    )
    assert calibration(0.9, 0.85, interval=(-0.1, 0.01)).endswith("; other fields may undo it")
    assert "does not lower NLL, 0.700 to 0.800 (change +0.100)" in calibration(0.7, 0.8, interval=None)


def test_what_three_digits_do_not_show_is_no_change():
    said = calibration(1.6094, 1.6093, temperature=HOTTEST, interval=(-0.0001, 0.0001))
    assert said.startswith(
        "temperature 20.00 (the bound of the search) leaves NLL, 1.609 to 1.609 (change 0.000, 95 % interval 0.000 to "
    )
    assert "lowers" not in said
    assert "leaves NLL, 0.875 to 0.875 (change −0.001)" in calibration(0.8754, 0.8746, interval=None)
    assert calibration(0.9, 0.75, [0.8, HOTTEST, HOTTEST]).startswith(
        "a temperature a fold (0.80 to 20.00; 2 at the bound of the search) lowers NLL"
    )
    assert calibration(0.5, 0.5, interval=None).startswith("no temperature was fitted")


@pytest.mark.parametrize(("measured", "verdict", "word"), [(0.99, "within", "not below"), (0.8, "below", "below")])
def test_adaptive_sets_are_judged_at_their_lower_end_alone(measured, verdict, word):
    kind = {"measured": measured, "verdict": verdict, "band": (0.86, 1.0), "asked_for": 0.9, "mean_size": 2.0}
    assert sets_statement(kind | {"one_sided": True}, ("a",)) == (
        f"hold the true class of {100 * measured:.1f} % of the cells, {word} the 86.0 % that chance leaves of 90 %, "
        "2.0 classes each"
    )
    assert "the band of 86.0 to 100.0 %" in sets_statement(kind, ("a",))


def test_docstring_examples_run():
    result = doctest.testmod(cytodistill.evaluation.statements)
    assert result.attempted
    assert not result.failed
