"""A small edition of ``benchmarks/interval_coverage.py``: intervals hold the truth as often as they say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("interval_coverage", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["interval_coverage"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["interval_coverage"]


def test_groups_cover_and_cells_do_not(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "POPULATION", 40_000)
    found = benchmark.coverage(benchmark.Design(40, 0.85), replications=200, resamples=150)
    for name in benchmark.FIGURES:
        # Of 200 at 95 %, 99.9 % lie from 89.5 to 99 %.
        assert 0.895 <= found["groups"][name] <= 0.99
        assert 0.895 <= found["difference"][name] <= 0.99
        assert found["cells"][name] < 0.85


def test_scores_are_covered_and_the_ece_is_not(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "SCORE_POPULATION", 20_000)
    held, errors, _ = benchmark.score_coverage(benchmark.ScoreDesign(40), 150, 200, seed=1)
    for name in ("nll", "brier", "overconfidence", "auc", "failure_auroc", "aurc"):
        assert held[name] >= 0.87  # of 150 at 94 %, 99.9 % lie from 87 %
    # Of right probabilities: no interval of the ECE holds its 0, and what is told of chance holds the ECE.
    assert errors["share"] < 0.05
    assert errors["debiased"] < 0.85
    assert errors["chance"] >= 0.87
    assert errors["chance by cells"] < 0.92


def test_cells_of_a_field_are_alike_and_the_second_model_is_a_little_worse(benchmark):
    cells = benchmark.simulate(np.random.default_rng(0), benchmark.Design(3000, 0.8))
    right = cells.first == cells.labels
    sizes = np.bincount(cells.fields)
    assert right.mean() == pytest.approx(0.8, abs=0.02)
    assert sizes.mean() == pytest.approx(12, rel=0.05)
    assert 0.005 < right.mean() - (cells.second == cells.labels).mean() < 0.08
    # Beta-binomial: the correlation of two cells of a field is 1 / (likeness + 1) = 1/7.
    shares = np.bincount(cells.fields, right) / sizes
    large = sizes >= 10
    beyond_chance = shares[large].var() - (0.16 * (1 - 1 / 7) / sizes[large]).mean()
    assert beyond_chance / 0.16 == pytest.approx(1 / 7, rel=0.15)
