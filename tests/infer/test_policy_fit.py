"""Fitted thresholds: budgets against an exhaustive search, risks against what they promise on new groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.errors import CytodistillError
from cytodistill.infer.exit_policy import KINDS, ExitPolicy
from cytodistill.infer.policy_fit import PolicyCells, fit_calibrators, fit_policy
from cytodistill.infer.promise import Budget, Risk

MACS = (30, 55, 80, 100)


def cells_of(groups, seed, exits=4, classes=3, alike=1.0, cells_a_group=5):
    """Cells whose deeper exits know more; groups are easy or hard, so that cells of one are alike."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), cells_a_group)
    labels = rng.integers(0, classes, len(of))
    ease = np.exp(alike * rng.normal(size=groups))[of]
    logits = rng.normal(0, 1, (len(of), exits, classes))
    logits[np.arange(len(of)), :, labels] += ease[:, None] * np.linspace(1.0, 2.5, exits)
    powers = np.exp(logits)
    return PolicyCells(powers / powers.sum(axis=2, keepdims=True), labels, of)


def share_of_macs(policy, cells, macs=MACS):
    return np.asarray(macs)[policy.used(cells.probabilities)].mean() / macs[-1]


def differs(policy, cells):
    return policy.answers(cells.probabilities).argmax(1) != cells.probabilities.mean(axis=1).argmax(1)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(KINDS),
    st.floats(0.3, 1.0),
    st.integers(0, 50),
    st.sampled_from(["ensemble", "labels"]),
    st.sampled_from(["ensemble", "exit"]),
)
def test_a_budget_is_met(kind, budget, seed, against, answer):
    cells = cells_of(12, seed)
    policy = fit_policy(kind, cells, Budget(budget, against), MACS, answer)
    assert policy.kind == kind
    assert share_of_macs(policy, cells) <= budget + 1e-9


@pytest.mark.parametrize("against", ["ensemble", "labels"])
@pytest.mark.parametrize("kind", ["confidence", "margin", "agreement"])
def test_the_budget_is_spent_nearly_as_well_as_can_be(kind, against):
    """Against every pair of thresholds of two exits: the search may miss at most one cell in a hundred."""
    cells = cells_of(20, 3, exits=3)
    macs = (30, 60, 100)
    wanted = cells.labels if against == "labels" else cells.probabilities.mean(axis=1).argmax(1)
    start = ExitPolicy(kind, (1.0,) * 3, calibrators=fit_calibrators(cells, "ensemble"))
    scores = [np.sort(start.score(cells.probabilities[:, :exit])) for exit in (1, 2)]
    values = [np.unique([0.0, *((of[1:] + of[:-1]) / 2), 1.0]) for of in scores]
    raw = np.stack([start.score(cells.probabilities[:, :exit]) for exit in (1, 2)], axis=1)
    classes = np.stack([start.answer_after(cells.probabilities[:, :exit]).argmax(1) for exit in (1, 2, 3)], axis=1)
    for budget in (0.45, 0.6, 0.8):
        best = 0
        for first in values[0]:
            stop = raw[:, 0] > first
            used = np.where(stop, 0, np.where(raw[:, 1] > values[1][:, None], 1, 2))
            cost = np.asarray(macs)[used].mean(axis=1) / macs[-1]
            right = (classes[np.arange(len(stop)), used] == wanted).mean(axis=1)
            best = max([best, *right[cost <= budget + 1e-9]])
        policy = fit_policy(kind, cells, Budget(budget, against), macs)
        found = (policy.answers(cells.probabilities).argmax(1) == wanted).mean()
        assert best - 0.01 <= found <= best + 1e-9


def test_a_whole_budget_changes_no_answer():
    cells = cells_of(20, 1)
    for kind in KINDS:
        assert not differs(fit_policy(kind, cells, Budget(1.0), MACS), cells).any()


def test_more_budget_agrees_at_least_as_often():
    cells = cells_of(30, 5)
    agreed = [(~differs(fit_policy("margin", cells, Budget(b), MACS), cells)).mean() for b in (0.35, 0.5, 0.7, 0.9)]
    assert agreed == sorted(agreed)
    assert agreed[0] < agreed[-1]


def test_temperatures_are_those_of_each_answer():
    cells = cells_of(40, 2)
    by_exit = fit_policy("confidence", cells, Budget(0.5), MACS).calibrators
    for exit, calibrator in enumerate(by_exit):
        answers = cells.probabilities[:, : exit + 1].mean(axis=1)
        temperatures = np.geomspace(0.05, 20, 4001)
        hot = np.log(answers)[None] / temperatures[:, None, None]
        logs = hot - np.log(np.exp(hot).sum(axis=2, keepdims=True))
        losses = -logs[:, np.arange(len(answers)), cells.labels].mean(axis=1)
        assert calibrator.temperature == pytest.approx(temperatures[losses.argmin()], rel=5e-3)


@pytest.mark.parametrize(
    ("kind", "against"), [("confidence", "ensemble"), ("margin", "labels"), ("agreement", "ensemble")]
)
def test_a_risk_is_kept_on_new_groups(kind, against):
    """The mean over newly drawn groups, in at least the promised share of draws of the validation cells."""
    population = cells_of(800, 1000)
    truth = population.probabilities.mean(axis=1).argmax(1)
    broken, saved, draws = 0, [], 15
    for seed in range(draws):
        policy = fit_policy(kind, cells_of(90, seed), Risk(0.1, 0.8, against=against), MACS)
        answers = policy.answers(population.probabilities).argmax(1)
        lost = answers != truth
        if against == "labels":
            lost = (truth == population.labels) & (answers != population.labels)
        broken += lost.reshape(800, 5).mean(axis=1).mean() > 0.1
        saved.append(1 - share_of_macs(policy, population))
    # Were it broken in exactly 0.2 of draws, more than 6 of 15 would be so with a chance of 2 %.
    assert broken <= 6
    assert np.mean(saved) > 0.05


def test_a_risk_that_is_shown_is_the_boldest_of_the_path():
    cells = cells_of(100, 0, cells_a_group=1)
    policy = fit_policy("confidence", cells, Risk(0.1, unit="cells"), MACS)
    assert policy.thresholds[0] == policy.thresholds[1] == policy.thresholds[2] < 1
    assert policy.thresholds[3] == 1
    assert not policy.calibrated_scores
    bolder = ExitPolicy("confidence", (*(policy.thresholds[0] - 0.05,) * 3, 1.0), calibrated_scores=False)
    assert differs(bolder, cells).sum() >= differs(policy, cells).sum()


def test_where_no_bolder_way_is_shown_nobody_stops_early():
    """Exits that contradict one another: the first answers nothing as all do."""
    rng = np.random.default_rng(0)
    first = np.tile([0.99, 0.01], (60, 1))
    last = np.tile([0.0001, 0.9999], (60, 1))
    cells = PolicyCells(np.stack([first, last], axis=1), rng.integers(0, 2, 60), np.arange(60))
    cells.probabilities[:, 1] = [0.0, 1.0]
    policy = fit_policy("confidence", cells, Risk(0.05, unit="cells"), (1, 2))
    assert policy.used(cells.probabilities).tolist() == [1] * 60


@pytest.mark.parametrize(
    ("promise", "said"),
    [
        (Budget(0.2), "budget 0.2: the first exit alone takes 30.0 % of the MACs; give a share from 0.3 to 1"),
        (Risk(0.01), "it takes 299 validation groups to show it, and there are 12; ask for a risk of 0.221 or more"),
        (Risk(0.01, unit="cells"), "it takes 299 validation cells to show it, and there are 60"),
    ],
)
def test_what_cannot_be_promised_is_one_line(promise, said):
    with pytest.raises(CytodistillError, match=said):
        fit_policy("confidence", cells_of(12, 0), promise, MACS)


def test_the_risk_that_the_message_offers_can_be_asked_for():
    policy = fit_policy("confidence", cells_of(12, 0), Risk(0.221), MACS)
    assert len(policy.thresholds) == len(MACS)
