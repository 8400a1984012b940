"""What the validation cells decide, and what the test cells then say of it."""

import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from cytodistill.data.class_map import ClassMap, map_for
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.applied import apply_fitted
from cytodistill.evaluation.run import evaluate
from cytodistill.evaluation.trust import trust_lines, trust_report
from cytodistill.evaluation.validation import fit_on_validation
from cytodistill.infer.fitted import FILE, read_fitted

CLASSES = (
    "normal_superficiel",
    "normal_intermediate",
    "light_dysplastic",
    "carcinoma_in_situ",
)


def cells(seed, n=400, exits=2):
    """Answers that are right more often than not and three times too sure; fields of a few cells."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = rng.normal(size=(n, exits, 4)) + 1.2 * np.eye(4)[labels][:, None]
    probabilities = softmax(3 * logits, axis=-1)
    return probabilities, probabilities.mean(1), labels, (np.arange(n) // 5).astype(str)


@pytest.fixture(scope="module")
def fitted():
    return fit_on_validation("mark", *cells(0), CLASSES, ClassMap.load("herlev-binary"))


@pytest.fixture(scope="module")
def report(fitted):
    return report_of(fitted, *cells(1))


def report_of(fitted, exits, ensemble, labels, groups):
    applied = apply_fitted(fitted, exits, ensemble, labels, CLASSES, ClassMap.load("herlev-binary"))
    return trust_report(applied, exits, labels, groups, CLASSES)


def test_a_temperature_makes_too_sure_answers_less_sure(report):
    _, ensemble, labels, _ = cells(1)
    for name in ("exit 1", "exit 2", "ensemble"):
        raw, scaled = report["calibration"][name]["raw"], report["calibration"][name]["temperature"]
        assert scaled["temperature"] > (1.0 if name == "ensemble" else 1.5)  # the mean of two is less sure
        assert scaled["nll"] < raw["nll"]
        assert scaled["ece"] < raw["ece"]
        assert scaled["accuracy"] == raw["accuracy"]
    assert report["calibration"]["ensemble"]["raw"]["nll"] == pytest.approx(log_loss(labels, ensemble))


def test_sets_cover_what_was_asked_for(report):
    for name in ("lac-0.9", "lac-0.95"):
        low, high = report["conformal"][name]["band"]
        assert low <= report["conformal"][name]["coverage"] <= high
    assert report["conformal"]["lac-0.95"]["mean_size"] > report["conformal"]["lac-0.9"]["mean_size"]


def test_the_screening_view_is_of_the_abnormal_classes(report, fitted):
    _, ensemble, labels, _ = cells(1)
    calibrated = fitted.temperature[-1].calibrated(np.log(ensemble))
    expected = roc_auc_score(labels >= 2, calibrated[:, 2:].sum(1))
    assert report["screening"]["auc"] == pytest.approx(expected)
    points = {point["name"]: point for point in report["screening"]["operating_points"]}
    assert points["sensitivity-0.9"]["on_validation"]["sensitivity"] >= 0.9
    called = calibrated[:, 2:].sum(1) >= points["youden"]["threshold"]
    assert points["youden"]["sensitivity"] == pytest.approx(called[labels >= 2].mean())
    assert points["youden"]["specificity"] == pytest.approx(1 - called[labels < 2].mean())


def test_doubt_tells_wrong_from_right(report):
    assert all(kind["auroc"] > 0.5 for kind in report["doubt"]["ensemble"].values())
    assert report["doubt"]["risk_coverage"]["coverage"][-1] == 1.0
    json.dumps(report, allow_nan=False)


def test_what_was_fitted_is_read_back_by_its_own_run_alone(fitted, tmp_path):
    fitted.write(tmp_path)
    assert read_fitted(tmp_path, "mark") == fitted
    with pytest.raises(CytodistillError, match="was fitted for another run; delete it"):
        read_fitted(tmp_path, "another")
    stored = json.loads((tmp_path / FILE).read_text())
    stored["fitted_on"]["split"] = "test"
    (tmp_path / FILE).write_text(json.dumps(stored))
    with pytest.raises(CytodistillError, match="was fitted on the split 'test', which must not judge itself"):
        read_fitted(tmp_path, "mark")
    (tmp_path / FILE).write_text('{"format": 1, "run": "mark"}')
    with pytest.raises(CytodistillError, match="damaged; delete it and evaluate again"):
        read_fitted(tmp_path, "mark")


def test_maps_are_taken_where_they_know_every_class():
    assert map_for("herlev", CLASSES).name == "herlev-binary"
    assert map_for("herlev", ("cat", "dog")) is None
    assert map_for("folder", CLASSES) is None


def test_a_run_is_calibrated_on_its_validation_cells(tiny_run, tmp_path):
    (tiny_run.path / FILE).unlink(missing_ok=True)
    found = evaluate(tiny_run, out=tmp_path / "a")
    stored = json.loads((tiny_run.path / FILE).read_text())
    table = tiny_run.table()
    assert stored["fitted_on"]["cells"] == len(table.indices("val"))
    assert found.metrics["trust"]["fitted_on"]["split"] == "val"
    assert found.metrics["trust"]["screening"] is None
    assert len(trust_lines(found.metrics)) >= 2
    # The cells that decided are not asked how well they decided.
    assert "trust" not in evaluate(tiny_run, split="val", out=tmp_path / "b").metrics
    with pytest.raises(CytodistillError, match="--map herlev-binary: does not say of class"):
        evaluate(tiny_run, out=tmp_path / "c", class_map="herlev-binary")
