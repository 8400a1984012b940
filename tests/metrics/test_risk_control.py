"""Risk control against exact sums and against what it promises, simulated."""

import doctest
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import cytodistill.metrics.risk_control
from cytodistill.errors import CytodistillError
from cytodistill.metrics.risk_control import fixed_sequence, least_observations, risk_p_value


def binomial_cdf(most, count, chance):
    """P(Bin(count, chance) ≤ most), in whole numbers."""
    chance = Fraction(chance)
    terms = (math.comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(most + 1))
    return float(sum(terms))


@settings(max_examples=40)
@given(st.integers(1, 120), st.data(), st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_cells_one_by_one_are_binomial(count, data, risk):
    lost = data.draw(st.integers(0, count))
    losses = np.arange(count) < lost
    assert risk_p_value(losses, risk) == pytest.approx(binomial_cdf(lost, count, risk), rel=1e-9, abs=1e-12)
    # Groups of one cell each are cells.
    assert risk_p_value(losses, risk, np.arange(count)) == risk_p_value(losses, risk)


def test_groups_are_hoeffding_and_bentkus():
    """20 groups of 5 cells, one of them with 2 losses: a mean of 0.02 against 0.1."""
    groups = np.repeat(np.arange(20), 5)
    losses = np.zeros(100, bool)
    losses[:2] = True
    hoeffding = math.exp(-20 * (0.02 * math.log(0.02 / 0.1) + 0.98 * math.log(0.98 / 0.9)))
    bentkus = math.e * binomial_cdf(1, 20, 0.1)  # ⌈20 · 0.02⌉ = 1
    assert risk_p_value(losses, 0.1, groups) == pytest.approx(min(hoeffding, bentkus, 1))
    assert risk_p_value(losses, 0.02, groups) == 1.0


def test_a_whole_number_of_losses_is_not_rounded_up():
    """Three groups of a mean of 1/3, 1/3 and 1/3 lose one of three, though floats say 1.0000000000000002."""
    groups = np.repeat(np.arange(30), 3)
    losses = np.tile([True, False, False], 30)
    expected = min(
        math.exp(-30 * (1 / 3 * math.log(1 / 3 / 0.6) + 2 / 3 * math.log(2 / 3 / 0.4))),
        math.e * binomial_cdf(10, 30, 0.6),
    )
    assert risk_p_value(losses, 0.6, groups) == pytest.approx(expected)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_more_losses_never_make_it_smaller(cells, risk):
    losses, groups = (np.array(each) for each in zip(*cells, strict=True))
    for given_groups in (None, groups):
        before = risk_p_value(losses, risk, given_groups)
        assert 0 <= before <= 1
        assert risk_p_value(losses | (np.arange(len(losses)) == 0), risk, given_groups) >= before


@pytest.mark.parametrize("alike", [False, True])
def test_a_risk_at_the_limit_is_rarely_rejected(alike):
    """Where the risk is exactly α, at most a share δ of sets of cells may say that it is smaller: cells drawn one by
    one, and groups whose cells are all lost or none is."""
    rng = np.random.default_rng(0)
    risk, trials, wrong = 0.1, 800, 0
    for _ in range(trials):
        if alike:
            groups = np.repeat(np.arange(60), 4)
            losses = (rng.random(60) < risk)[groups]
            wrong += risk_p_value(losses, risk, groups) <= 0.1
            continue
        wrong += risk_p_value(rng.random(80) < risk, risk) <= 0.1
    # Three standard errors of a share of 0.1 over as many trials.
    assert wrong / trials <= 0.1 + 3 * math.sqrt(0.09 / trials)
    assert wrong or alike


def test_groups_taken_for_cells_would_break_the_promise():
    """Why groups are counted once each: the binomial of cells that are alike rejects far more often than it may."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(25), 12)
    wrong = [risk_p_value((rng.random(25) < 0.1)[groups], 0.1) <= 0.05 for _ in range(300)]
    assert np.mean(wrong) > 0.2


@pytest.mark.parametrize("grouped", [False, True])
def test_the_sequence_keeps_its_promise(grouped):
    """Ways of known risk, rising from 0 to 0.3 at the same cells: the boldest that is shown exceeds α = 0.1 in at most
    a share of δ = 0.1 of draws."""
    rng = np.random.default_rng(2)
    risks = np.linspace(0, 0.3, 13)
    trials, broken, bold = 300, 0, []
    for _ in range(trials):
        luck, groups = rng.random(150), None
        if grouped:
            groups = np.repeat(np.arange(150), 3)
            luck = norm.cdf(np.sqrt(0.7) * rng.normal(size=150)[groups] + np.sqrt(0.3) * rng.normal(size=450))
        shown = fixed_sequence((risk_p_value(luck < risk, 0.1, groups) for risk in risks), 0.9)
        broken += shown > 0 and risks[shown - 1] > 0.1
        bold.append(risks[shown - 1] if shown else 0.0)
    assert broken / trials <= 0.1 + 3 * math.sqrt(0.09 / trials)
    assert np.mean(bold) > 0.02  # and it is not kept by daring nothing


@given(st.floats(0.005, 0.5), st.floats(0.5, 0.999))
def test_least_observations_is_the_fewest_that_can_show_it(risk, confidence):
    least = least_observations(risk, confidence)
    assert risk_p_value([False] * least, risk) <= (1 - confidence) * (1 + 1e-9)
    if least > 1:
        assert risk_p_value([False] * (least - 1), risk) > (1 - confidence) * (1 - 1e-9)


def test_the_sequence_stops_at_the_first_that_is_not_rejected():
    looked_at = []

    def p_values():
        for p_value in (0.01, 0.05, 0.2, 0.001):
            looked_at.append(p_value)
            yield p_value

    assert fixed_sequence(p_values(), 0.95) == 2
    assert looked_at == [0.01, 0.05, 0.2]
    assert fixed_sequence([], 0.95) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: risk_p_value([], 0.1), "give one for each of at least one cell"),
        (lambda: risk_p_value([[True]], 0.1), "losses of shape"),
        (lambda: risk_p_value([True], 0.0), "risk 0: give a number between 0 and 1"),
        (lambda: risk_p_value([True], math.nan), "risk nan: give a number"),
        (lambda: risk_p_value([True, False], 0.1, [1]), "2 losses and 1 groups"),
        (lambda: fixed_sequence([0.1], 1.0), "confidence 1: give a number between 0 and 1"),
        (lambda: least_observations(1.0, 0.9), "risk 1: give"),
    ],
)
def test_wrong_uses_are_one_line(call, said):
    with pytest.raises(CytodistillError, match=said):
        call()


def test_examples_in_the_docstrings():
    result = doctest.testmod(cytodistill.metrics.risk_control)
    assert result.attempted > 0
    assert result.failed == 0
