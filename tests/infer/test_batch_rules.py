"""What was asked for, against what a run has; and the columns that come of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.validation import fit_on_validation
from cytodistill.infer import batch_rules
from cytodistill.infer.batch_rules import SETS, Request, Rules, rules_of
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.metrics.calibration import Calibrator
from cytodistill.metrics.conformal import ConformalSets
from cytodistill.metrics.operating_point import OperatingPoint

CLASSES = ("left", "middle", "right")
MAP = """
name: tiny
version: 1
source: folder
target: normal / abnormal
origin: the tests
classes: {left: normal, middle: abnormal, right: abnormal}
target_classes: [normal, abnormal]
abnormal: [abnormal]
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    file = tmp_path_factory.mktemp("maps") / "tiny.yaml"
    file.write_text(MAP)
    rng = np.random.default_rng(0)
    exits = rng.dirichlet(np.ones(3), (60, 2))
    labels = rng.integers(0, 3, 60)
    return fit_on_validation("run", exits, exits.mean(axis=1), labels, np.arange(60) // 3, CLASSES, ClassMap.load(file))


@pytest.fixture(autouse=True)
def policies(monkeypatch):
    known = {
        "fast": ExitPolicy("confidence", (0.5, 1.0), calibrators=(Calibrator("temperature", 2.0),) * 2),
        "bare": ExitPolicy("confidence", (0.5, 1.0)),
    }
    monkeypatch.setattr(batch_rules, "load_policy", lambda run, name: known[name])


def asked(**settings):
    return Request(Path("runs/x"), **settings)


def test_what_a_run_has_is_applied_unless_it_is_not_wanted(fitted):
    assert rules_of(asked(), None) == Rules()
    assert rules_of(asked(raw=True), fitted) == Rules()
    rules = rules_of(asked(), fitted)
    assert rules.calibrator == fitted.temperature[-1]
    assert rules.sets == fitted.conformal[SETS]
    assert rules.words(asked()) == ("calibrated", f"sets {SETS}")
    assert rules_of(asked(sets="none"), fitted).columns == ()
    assert rules_of(asked(sets="aps-0.95"), fitted).sets == fitted.conformal["aps-0.95"]


def test_under_a_policy_its_own_calibrators_count_and_no_sets_are_promised(fitted):
    rules = rules_of(asked(policy="fast", operating_point="youden"), fitted)
    assert rules.calibrated
    assert rules.calibrator is None
    assert rules.columns == ("abnormal_probability", "decision")
    assert not rules_of(asked(policy="bare"), fitted).calibrated
    assert not rules_of(asked(policy="fast", raw=True), fitted).calibrated
    with pytest.raises(CytodistillError, match=r"--sets aps-0.9: promise their coverage for .* leave --policy out"):
        rules_of(asked(policy="fast", sets="aps-0.9"), fitted)


def test_values_are_the_sets_and_the_decision():
    class_map = ClassMap(
        name="m",
        version=1,
        source="s",
        target="t",
        origin="o",
        classes={"left": "normal", "middle": "abnormal", "right": "abnormal"},
        target_classes=("normal", "abnormal"),
        abnormal=("abnormal",),
    )
    sets = ConformalSets("lac", 0.9, False, (0.7, 0.7, 0.7), (9, 9, 9))
    point = OperatingPoint("p", 0.5, "by hand", 1.0, 1.0, 1)
    rules = Rules(calibrated=True, sets=sets, point=point, class_map=class_map)
    values = rules.values(np.float32([[0.5, 0.25, 0.25], [0.6, 0.35, 0.05], [0.1, 0.4, 0.5]]), CLASSES)
    # In a set are the classes of a probability of at least 0.3; abnormal are the last two together from 0.5 up.
    assert values["set"] == ["left", "left|middle", "middle|right"]
    np.testing.assert_allclose(values["abnormal_probability"], [0.5, 0.4, 0.9], atol=1e-7)
    assert values["decision"] == ["abnormal", "normal", "abnormal"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"operating_point": "sure"},
            r"--operating-point sure: runs/x has none of that name; there are sensitivity-0.9, .*, youden$",
        ),
        ({"sets": "lac"}, r"--sets lac: runs/x has none of that name; there are lac-0.9, aps-0.9, "),
        (
            {"operating_point": "youden", "raw": True},
            r"--operating-point youden: was chosen on calibrated .* --raw out",
        ),
        ({"sets": SETS, "raw": True}, r"--sets lac-0.9-by-group: was chosen on calibrated probabilities"),
    ],
)
def test_what_a_run_has_not_is_refused_with_what_it_has(fitted, settings, said):
    with pytest.raises(CytodistillError, match=said):
        rules_of(asked(**settings), fitted)


def test_a_run_without_figures_says_how_to_get_them(fitted, tmp_path):
    request = Request(tmp_path, operating_point="youden")
    with pytest.raises(
        CytodistillError, match=r"has none, for it has no calibration.json; make one with `cytodistill e"
    ):
        rules_of(request, None)
    (tmp_path / "calibration.json").touch()
    with pytest.raises(CytodistillError, match="no class map says which of its classes are abnormal"):
        rules_of(request, replace(fitted, points=(), class_map=None))


def test_described_rules_are_json_and_tell_thresholds_apart(fitted):
    request = asked(operating_point="youden")
    rules = rules_of(request, fitted)
    said = rules.described(request)
    assert json.loads(json.dumps(said)) == said
    assert said["operating point"]["threshold"] == rules.point.threshold
    other = replace(fitted, temperature=(*fitted.temperature[:-1], Calibrator("temperature", 3.5)))
    assert rules_of(request, other).described(request) != said


def test_what_was_fitted_in_float32_is_said_of_answers_in_int8(tmp_path):
    assert Rules(policy=ExitPolicy("confidence", (0.5, 1.0)), quantised=True).words(asked(policy="fast")) == (
        "policy fast",
        "fitted in float32, not promised of int8",
    )
    assert Rules(quantised=True).words(asked()) == ()
    assert Rules(calibrated=True).words(asked()) == ("calibrated",)
