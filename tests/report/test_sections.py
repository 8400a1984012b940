"""The numbers of every section, against metrics.json, scikit-learn, SciPy and NumPy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, f1_score, precision_recall_curve, recall_score, roc_curve

from cytodistill.metrics.calibration import BINS, brier, ece, nll
from cytodistill.metrics.intervals import draw_groups, group_bootstrap
from cytodistill.metrics.selective import aurc, doubt, e_aurc, failure_auroc
from cytodistill.models.exit_costs import macs_until_exits
from cytodistill.report.by_class import class_table
from cytodistill.report.calibration import calibration_section
from cytodistill.report.confusion import confusion_section
from cytodistill.report.data_card import counts_tables
from cytodistill.report.doubt import doubt_section
from cytodistill.report.early_exit import early_exit_section, sweep
from cytodistill.report.exits import exits_section
from cytodistill.report.gallery import most_wrong
from cytodistill.report.groups import accuracy_by_group, groups_section
from cytodistill.report.one_vs_rest import one_vs_rest_section
from cytodistill.report.overview import overview
from cytodistill.report.screening import screening_section
from cytodistill.report.sets import sets_section
from cytodistill.report.settings import flat

SHOWN = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc")


def shown(value: float) -> str:
    return f"{100 * value:.1f}"


def ends(interval) -> str:
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"


def same(points, x, y) -> bool:
    """Whether these are the points of a series, in their order."""
    return np.array(points) == pytest.approx(np.stack([x, y], axis=1))


def texts(row) -> list[str]:
    return [entry.text for entry in row.entries]


def test_tiles_and_exits_have_the_figures_and_intervals_of_the_metrics(found):
    metrics = found.metrics
    tiles = {tile.name: tile for tile in overview(found).tiles}
    for name, key in (("Accuracy", "accuracy"), ("F-measure", "f1"), ("AUC", "auc")):
        assert tiles[name].value.split("\u202f")[0] == shown(metrics["ensemble"][key])
        assert tiles[name].interval == ends(metrics["intervals"]["ensemble"][key])
    rows = exits_section(found).tables[0].rows
    assert [row.name for row in rows] == ["Exit 1", "Exit 2", "Exit 3", "Ensemble"]
    figures = [*metrics["exits"], metrics["ensemble"]]
    intervals = [*metrics["intervals"]["exits"], metrics["intervals"]["ensemble"]]
    for row, of, within in zip(rows, figures, intervals, strict=True):
        assert texts(row) == [shown(of[key]) for key in SHOWN]
        assert [entry.under for entry in row.entries] == [ends(within[key]) for key in SHOWN]


def test_classes_have_the_figures_of_the_metrics(found):
    rows = class_table(found).rows
    assert [row.name for row in rows] == list(found.classes)
    for row, of in zip(rows, found.metrics["ensemble"]["per_class"].values(), strict=True):
        assert texts(row)[0] == str(of["n"])
        keys = ("sensitivity", "specificity", "precision", "f1", "auc")
        assert texts(row)[2:] == [shown(of[key]) for key in keys]
        stored = found.metrics["intervals"]["ensemble"]["per_class"][row.name]
        assert [entry.under for entry in row.entries[2:]] == [ends(stored[key]) for key in keys]
        for entry in row.entries[2:]:
            low, high = map(float, entry.under.split("–"))
            assert low <= float(entry.text) <= high


def test_matrices_have_the_counts_of_the_metrics_and_their_shares(found):
    matrices = {matrix.caption: matrix for matrix in confusion_section(found).matrices}
    assert list(matrices) == ["Ensemble", "Exit 1", "Exit 2", "Exit 3"]
    for name, of in zip(("Exit 1", "Exit 2", "Exit 3"), found.metrics["exits"], strict=True):
        assert matrices[name].counts == of["confusion_matrix"]
    assert matrices["Ensemble"].counts == found.metrics["ensemble"]["confusion_matrix"]
    diagonal = [matrices["Ensemble"].shares[code][code] for code in range(3)]
    assert diagonal == pytest.approx(recall_score(found.labels, found.raw.argmax(1), average=None))


def test_reliability_is_scikit_learns(found):
    section = calibration_section(found)
    chart = section.charts[0]
    for series, probabilities in zip(chart.series[1:], (found.raw, found.probabilities), strict=True):
        right = probabilities.argmax(1) == found.labels
        accuracy, confidence = calibration_curve(right, probabilities.max(1), n_bins=15)
        assert same(series.points, confidence, accuracy)
    rows = section.tables[0].rows
    for row, of in zip(rows, found.trust["calibration"]["ensemble"].values(), strict=True):
        shares = [shown(of[key]).replace("-", "−") for key in ("ece", "classwise_ece", "overconfidence", "accuracy")]
        assert texts(row) == [f"{of['nll']:.3f}", f"{of['brier']:.3f}", *shares]
    voices = section.folded[0].rows
    assert [row.name.split(",")[0] for row in voices] == [
        name for name in ("Exit 1", "Exit 2", "Exit 3", "Ensemble") for _ in range(3)
    ]
    of = found.trust["calibration"]["exit 2"]["vector"]
    assert texts(voices[5])[1:4] == [f"{of['brier']:.3f}", shown(of["ece"]), shown(of["classwise_ece"])]
    assert voices[5].entries[5].under is not None  # the change of the NLL has an interval


def test_risk_is_that_of_the_surest_cells(found):
    section = doubt_section(found)
    order = np.argsort(-found.probabilities.max(1), kind="stable")
    wrong = ~found.correct[order]
    answered = np.arange(1, len(wrong) + 1)
    assert same(section.charts[0].series[1].points, answered / len(wrong), np.cumsum(wrong) / answered)
    of = found.trust["doubt"]["ensemble"]["max_probability"]
    row = next(row for row in section.tables[0].rows if row.strong)
    keys = ("auroc", "aurc", "e_aurc", "coverage_at_5_percent_risk")
    assert texts(row) == [shown(of[key]) for key in keys]
    assert [entry.under for entry in row.entries] == [ends(of["intervals"][key]) for key in keys]


def test_sets_have_the_figures_of_the_metrics(found):
    section = sets_section(found)
    kinds = found.trust["conformal"]
    assert len(section.tables[0].rows) == len(kinds) > 4
    for row, of in zip(section.tables[0].rows, kinds.values(), strict=True):
        assert (texts(row)[0], texts(row)[4]) == (shown(of["coverage"]), f"{of['mean_size']:.2f}")
        assert all(row.entries[place].under for place in (0, 1, 4, 5))
        # Adaptive sets may well cover more than was asked for.
        assert texts(row)[2].startswith("≥") == row.name.startswith("Adaptive")
        assert not (row.name.startswith("Adaptive") and "above" in texts(row)[3])
    held = found.applied.sets["lac-0.9"][np.arange(45), found.labels]
    column = section.tables[1].columns.index("Smallest sets (LAC)")
    for code, row in enumerate(section.tables[1].rows):
        assert texts(row)[column] == shown(held[found.labels == code].mean())


def test_screening_curves_are_scikit_learns(found):
    section = screening_section(found)
    scores, abnormal = found.probabilities[:, found.classes.index("right")], found.table.frame["label"] == "right"
    alarms, hits, _ = roc_curve(abnormal, scores, drop_intermediate=False)
    assert same(section.charts[0].series[1].points, alarms, hits)
    assert shown(auc(alarms, hits)) in section.charts[0].said
    precision, recall, _ = precision_recall_curve(abnormal, scores)
    assert same(section.charts[1].series[1].points, recall[::-1], precision[::-1])
    for row, point in zip(section.tables[0].rows, found.trust["screening"]["operating_points"], strict=True):
        assert texts(row)[1:3] == [shown(point["sensitivity"]), shown(point["specificity"])]


def test_without_a_class_map_each_class_has_its_curve(found):
    chart = one_vs_rest_section(found).charts[0]
    alarms, hits, _ = roc_curve(found.labels == 1, found.probabilities[:, 1], drop_intermediate=False)
    assert same(chart.series[2].points, alarms, hits)
    assert [texts(row)[0] for row in chart.table.rows][1] == shown(auc(alarms, hits))


def test_early_exit_goes_from_the_first_exit_to_all(found):
    costs = macs_until_exits(found.run.network(), 64)
    points = sweep(found.exits, found.labels, costs)
    first = found.exits[:, 0].argmax(1)
    assert points[0].share == pytest.approx(costs[0] / costs[-1])
    assert points[0].accuracy == pytest.approx((first == found.labels).mean())
    assert points[0].f1 == pytest.approx(f1_score(found.labels, first, average="macro"))
    assert (points[-1].share, points[-1].accuracy) == pytest.approx((1, found.metrics["ensemble"]["accuracy"]))
    assert np.diff([point.share for point in points]).min() >= 0
    last = early_exit_section(found).charts[0].table.rows[-1]
    stored = found.metrics["intervals"]["ensemble"]
    assert [entry.under for entry in last.entries[1:]] == [ends(stored["accuracy"]), ends(stored["f1"])]


def test_most_wrong_cells_come_first():
    rng = np.random.default_rng(3)
    probabilities, labels = rng.dirichlet(np.ones(4), 60), rng.integers(0, 4, 60)
    wrong = [row for row in range(60) if probabilities[row].argmax() != labels[row]]
    margins = {row: probabilities[row].max() - probabilities[row, labels[row]] for row in wrong}
    assert most_wrong(probabilities, labels, 10) == sorted(wrong, key=lambda row: -margins[row])[:10]
    assert sorted(most_wrong(probabilities, labels, 99)) == wrong


def test_groups_have_wilsons_interval_and_the_surest_to_be_bad_come_first(found):
    table = accuracy_by_group(found.groups, found.correct)
    for _, row in table.iterrows():
        within = binomtest(int(row["right"]), int(row["n"])).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((within.low, within.high), abs=1e-4)
    assert table["high"].is_monotonic_increasing
    worst = groups_section(found).tables[0].rows[0]
    mine = found.groups == worst.name
    assert texts(worst)[:3] == [
        str(mine.sum()),
        str((mine & ~found.correct).sum()),
        shown(found.correct[mine].mean()),
    ]


def test_intervals_of_the_page_are_those_of_the_group_bootstrap(found):
    """The literal bootstrap of `metrics.intervals` on the rows of every resample, to the digits that are printed."""
    p, y, g = found.raw, found.labels, found.groups
    scaled = found.applied.ensemble
    doubts, right = doubt(scaled), found.correct
    row = calibration_section(found).tables[0].rows[0]
    for place, figure in ((0, nll), (1, brier)):
        of = group_bootstrap(lambda rows, figure=figure: figure(p[rows], y[rows]), g, scale="positive")
        assert row.entries[place].under == f"{of.low:.3f} to {of.high:.3f}"
    of = group_bootstrap(lambda rows: right[rows].mean(), g)
    assert row.entries[5].under == f"{100 * of.low:.1f} to {100 * of.high:.1f}"
    assert (of.low, of.high) == pytest.approx(found.metrics["intervals"]["ensemble"]["accuracy"])
    row = next(row for row in doubt_section(found).tables[0].rows if row.strong)
    for place, figure in enumerate((failure_auroc, aurc, e_aurc)):
        of = group_bootstrap(lambda rows, figure=figure: figure(doubts[rows], right[rows]), g)
        assert row.entries[place].under == ends((of.low, of.high))


def test_what_chance_makes_of_the_ece_is_that_of_centred_resamples(found):
    p, y = found.raw, found.labels
    off, bins = (p.argmax(1) == y) - p.max(1), np.ceil(p.max(1) * BINS).astype(int)
    of = np.unique(found.groups, return_inverse=True)[1]
    sizes = np.bincount(of)
    gaps = []
    for count in draw_groups(len(sizes)):
        times = count[of] - (count @ sizes) / len(y)  # 0 on the whole, so that only the chance is left
        gaps.append(sum(abs((times * off)[bins == k].sum()) for k in np.unique(bins)) / len(y))
    effective = sizes.sum() ** 2 / (sizes**2).sum()
    limit = np.quantile(gaps, 0.95) * np.sqrt(effective / (effective - 1))
    entry = calibration_section(found).tables[0].rows[0].entries[2]
    assert entry.under == f"chance ≤ {100 * limit:.1f}"
    assert entry.text == shown(ece(p, y))


def test_the_data_card_counts_the_cells(found):
    *classes, whole = counts_tables(found)[0].rows
    evaluated = found.table.frame["label"].value_counts()
    assert {row.name: texts(row)[-1] for row in classes} == {name: str(n) for name, n in evaluated.items()}
    assert texts(whole)[-1] == "45"
    assert sum(map(int, texts(whole)[:-1])) == 45


def test_every_setting_is_listed_as_it_is_written(found):
    listed = dict(flat(found.run.info["recipe"]))
    assert listed["train.epochs"] == "12"
    assert listed["student.backbone"] == "test_resnet"
