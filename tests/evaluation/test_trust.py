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


def test_every_figure_has_its_interval_beside_it(report):
    for kinds in report["calibration"].values():
        for kind, of in kinds.items():
            for name in ("accuracy", "nll", "brier", "overconfidence"):
                assert of["intervals"][name][0] <= of[name] <= of["intervals"][name][1]
            assert set(of["if_calibrated"]) == {"ece", "classwise_ece"}
            assert kind == "raw" or len(of["nll_change"]["interval"]) == 2
    assert report["nll_change"]["vector"] == report["calibration"]["ensemble"]["vector"]["nll_change"]
    # Three times too sure: beyond what chance makes, and no more so after scaling.
    before, after = (report["calibration"]["exit 1"][kind] for kind in ("raw", "temperature"))
    assert before["ece"] > before["if_calibrated"]["ece"]
    assert after["ece"] < after["if_calibrated"]["ece"]
    assert before["intervals"]["overconfidence"][0] > 0
    for of in (*report["doubt"]["ensemble"].values(), *report["doubt"]["exits"]):
        assert all(low <= of[name] <= high for name, (low, high) in of["intervals"].items())
    for of in report["conformal"].values():
        assert all(low <= of[name] <= high for name, (low, high) in of["intervals"].items())
        for figures, within in zip(of["per_class"], of["class_intervals"], strict=True):
            assert all(low <= figures[name] <= high for name, (low, high) in within.items())
    view = report["screening"]
    assert view["intervals"]["average_precision"][0] < view["average_precision"]
    for kind in ("sensitivity_at_specificity", "specificity_at_sensitivity"):
        for of, (low, high) in view["intervals"][kind].items():
            assert low <= view[kind][of] <= high
    for how in ("max", "top_k_mean", "noisy_or"):
        low, high = view["fields"][how]["auc_interval"]
        assert low <= view["fields"][how]["auc"] <= high


def test_adaptive_sets_are_never_too_wide(report):
    for name, of in report["conformal"].items():
        assert of["one_sided"] == name.startswith("aps")
        if of["one_sided"]:
            assert of["band"][1] == 1
            assert of["verdict"] != "above"


def test_one_group_has_figures_without_intervals(fitted):
    exits, ensemble, labels, groups = cells(1, 60)
    found = report_of(fitted, exits, ensemble, labels, np.full(len(groups), "one"))
    of = found["calibration"]["ensemble"]["raw"]
    assert set(of["intervals"].values()) == set(of["if_calibrated"].values()) == {None}
    assert found["screening"]["intervals"]["average_precision"] is None
    assert "chance" not in found["statements"]["calibration"]
    json.dumps(found, allow_nan=False)


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
    # What `data split` wrote of Herlev is a manifest; its classes tell.
    assert map_for("manifest", CLASSES).name == "herlev-binary"
    assert map_for("manifest", ("cat", "dog")) is None
    assert map_for("manifest", ()) is None  # all of them know no class at all


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
