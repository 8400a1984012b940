"""Whole groups judged by thresholds that the validation groups chose."""

from __future__ import annotations

import numpy as np
import pytest

from cytodistill.evaluation.applied import Screened, pool_applied, screen
from cytodistill.evaluation.screening_view import screening_view
from cytodistill.infer.fitted import Fitted
from cytodistill.metrics.group_decision import GroupPoint, choose_group_points
from cytodistill.metrics.operating_point import OperatingPoint


def fields(seed: int, groups: int = 40, prefix: str = "f"):
    """Scores of cells of fields, half of which hold abnormal ones."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), rng.integers(3, 9, groups))
    abnormal = (of % 2 == 1) & (rng.random(len(of)) < 0.6)
    scores = np.clip(rng.normal(0.25 + 0.35 * abnormal, 0.2), 0.01, 0.99)
    return scores, abnormal, np.char.add(prefix, of.astype(str))


def by_hand(scores, groups, how):
    found = {}
    for name in np.unique(groups):
        own = np.sort(scores[groups == name])[::-1]
        found[name] = {"max": own[0], "top-3-mean": own[:3].mean(), "noisy-or": 1 - np.prod(1 - own)}[how]
    return found


def fitted_with(points) -> Fitted:
    return Fitted("mark", 9, 9, (), (), {}, None, (), points)


def test_thresholds_are_chosen_on_whole_groups():
    scores, abnormal, groups = fields(0)
    truth = {name: abnormal[groups == name].any() for name in np.unique(groups)}
    points = choose_group_points(scores, abnormal, groups)
    assert [point.name for point in points] == [
        f"{how}-{rule}" for how in ("max", "top-3-mean", "noisy-or") for rule in ("sensitivity-0.95", "specificity-0.9")
    ]
    for point in points:
        how = point.name.rsplit("-", 2)[0]
        found = by_hand(scores, groups, how)
        called = {name: score >= point.point.threshold - 1e-12 for name, score in found.items()}
        sensitivity = np.mean([called[name] for name in found if truth[name]])
        specificity = np.mean([not called[name] for name in found if not truth[name]])
        assert (point.point.sensitivity, point.point.specificity) == pytest.approx((sensitivity, specificity))
        assert sensitivity >= 0.95 if "sensitivity" in point.name else specificity >= 0.9
        assert (point.point.n, point.normal) == (len(truth), sum(not of for of in truth.values()))


def test_groups_of_one_kind_choose_nothing():
    scores, _, groups = fields(0)
    assert choose_group_points(scores, np.ones(len(scores), bool), groups) == ()
    assert choose_group_points(scores, ~np.ones(len(scores), bool), groups) == ()
    # No threshold leaves normal groups alone and finds an abnormal one.
    points = choose_group_points([0.9, 0.1], [False, True], ["a", "b"])
    assert {point.name for point in points} == {f"{how}-sensitivity-0.95" for how in ("max", "top-3-mean", "noisy-or")}


def test_the_view_says_what_the_points_do_on_other_groups():
    points = choose_group_points(*fields(0))
    scores, abnormal, groups = fields(1)
    screened = screen("by hand", ("abnormal",), scores, abnormal, fitted_with(points))
    found = screening_view(screened, groups)["fields"]
    truth = {name: abnormal[groups == name].any() for name in np.unique(groups)}
    assert (found["groups"], found["abnormal"], found["normal"]) == (40, sum(truth.values()), 40 - sum(truth.values()))
    assert found["few"] is None
    for said, point in zip(found["points"], points, strict=True):
        of = by_hand(scores, groups, point.name.rsplit("-", 2)[0])
        right = {
            kind: [(of[n] >= point.point.threshold) == t for n, t in truth.items() if t == kind] for kind in (0, 1)
        }
        assert (said["specificity"], said["sensitivity"]) == pytest.approx((np.mean(right[0]), np.mean(right[1])))
        low, high = said["sensitivity_interval"]
        assert low <= said["sensitivity"] <= high
        assert said["on_validation"]["n"] == 40


def test_few_groups_of_a_kind_are_told():
    scores, abnormal, groups = fields(1)
    kept = ~np.isin(groups, [f"f{number}" for number in range(4, 40, 2)])
    screened = screen("by hand", ("abnormal",), scores[kept], abnormal[kept], fitted_with(()))
    found = screening_view(screened, groups[kept])["fields"]
    normal = found["normal"]
    assert 2 <= normal < 5
    assert (
        found["few"]
        == f"only {normal} of the {found['groups']} groups are normal: a share of so few says next to nothing"
    )


def test_each_fold_judges_its_own_groups():
    strict, lax = (
        (GroupPoint("max", None, OperatingPoint("max-sensitivity-0.95", threshold, "", 1, 1, 9), 4),)
        for threshold in (0.95, 0.05)
    )
    parts = []
    for seed, points in ((0, strict), (1, lax)):
        scores, abnormal, groups = fields(seed, prefix=f"{seed}-")
        parts.append((screen("by hand", ("abnormal",), scores, abnormal, fitted_with(points)), groups))
    pooled = pooled_of([part for part, _ in parts])
    (said,) = screening_view(pooled, np.concatenate([groups for _, groups in parts]))["fields"]["points"]
    assert [fold["threshold"] for fold in said["folds"]] == [0.95, 0.05]
    assert said["sensitivity"] == pytest.approx(0.5, abs=0.15)
    # Where folds share a group, no one threshold decides for it.
    assert screening_view(pooled, np.concatenate([fields(0)[2], fields(1)[2]]))["fields"]["points"] == []


def pooled_of(parts: list[Screened]) -> Screened:
    from cytodistill.evaluation.applied import Applied

    found = pool_applied([Applied((), {}, {}, {}, {}, part) for part in parts]).screened
    assert found is not None
    return found
