"""policy: fitted on a run's validation cells, kept in the run, judged on its test cells, and used by predict."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from cytodistill.cli import main
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.exit_curve import sweep
from cytodistill.evaluation.policies import fit_run_policy, policy_differences, policy_figures
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.exit_policy import KINDS, ExitPolicy, never
from cytodistill.infer.policies import load_policy, read_policies
from cytodistill.infer.policy_fit import PolicyCells
from cytodistill.infer.predictor import load
from cytodistill.infer.promise import Budget, Risk
from cytodistill.models.exit_costs import macs_until_exits
from cytodistill.train.run_folder import Run


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run.path, tmp_path / "run")


@pytest.fixture
def seen():
    rng = np.random.default_rng(0)
    return PolicyCells(rng.dirichlet((1, 1, 1), (40, 3)), rng.integers(0, 3, 40), np.repeat(np.arange(8), 5))


def test_figures_are_those_of_scikit_learn(seen):
    policy = ExitPolicy("margin", (0.4, 0.3, 1.0))
    found = policy_figures(policy, seen, (2, 5, 10), ("a", "b", "c"))
    used, predicted = policy.used(seen.probabilities), policy.answers(seen.probabilities).argmax(1)
    of_all = seen.probabilities.mean(axis=1).argmax(1)
    assert found["exit_shares"] == [np.mean(used == exit) for exit in range(3)]
    assert found["macs_share"] == pytest.approx(np.mean([(0.2, 0.5, 1.0)[exit] for exit in used]))
    assert found["accuracy"] == pytest.approx(accuracy_score(seen.labels, predicted))
    assert found["f1_of_all"] == pytest.approx(f1_score(seen.labels, of_all, average="macro"))
    assert found["differs"] == np.mean(predicted != of_all)
    lost = (of_all == seen.labels) & (predicted != seen.labels)
    assert found["lost"] == np.mean(lost)
    assert found["lost_by_group"] == pytest.approx(pd.Series(lost).groupby(seen.groups).mean().mean())
    assert (found["cells"], found["groups"]) == (40, 8)


def test_what_a_policy_loses_is_a_paired_difference(seen):
    policy = ExitPolicy("margin", (0.1, 0.1, 1.0))
    found = policy_differences(policy, seen)
    figures = policy_figures(policy, seen, (2, 5, 10), ("a", "b", "c"))
    for name in ("accuracy", "f1"):
        assert found[name].value == pytest.approx(figures[name] - figures[f"{name}_of_all"])
        assert found[name].low <= found[name].value <= found[name].high
    # One that stops nobody loses nothing, and surely.
    same = policy_differences(ExitPolicy("margin", (1.0, 1.0, 1.0)), seen)["f1"]
    assert (same.low, same.value, same.high) == (0, 0, 0)
    alone = PolicyCells(seen.probabilities, seen.labels, np.zeros(40, int))
    assert policy_differences(policy, alone) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_goes_from_the_first_exit_to_the_last(seen, kind):
    policies = sweep(kind, seen, "ensemble")
    thresholds = [policy.thresholds[0] for policy in policies]
    assert thresholds == sorted(set(thresholds))
    assert (policies[0].used(seen.probabilities) == 0).all()
    assert (policies[-1].used(seen.probabilities) == 2).all()
    assert {policy.thresholds[-1] for policy in policies} == {never(kind, 3)}


def test_a_policy_is_kept_in_the_run_and_used(run, cells, tmp_path):
    report = fit_run_policy(run, Budget(0.95), device="cpu")
    assert report.name == "budget-0.95"
    opened = Run.open(run)
    stored = read_policies(opened)[report.name]
    assert stored == report.fitted
    assert stored.macs == macs_until_exits(opened.network(), 64)
    assert stored.validation["macs_share"] <= 0.95 + 1e-9
    table = opened.table()
    rows = table.indices("val")
    assert (stored.cells, stored.groups) == (len(rows), len(np.unique(table.groups[rows])))
    # Another policy goes beside it, and one of the same name takes its place.
    fit_run_policy(run, Risk(0.9, 0.5), kind="margin", name="bold", device="cpu")
    fit_run_policy(run, Budget(0.9), kind="entropy", name="budget-0.95", device="cpu")
    kinds = {name: fitted.policy.kind for name, fitted in read_policies(opened).items()}
    assert kinds == {"budget-0.95": "entropy", "bold": "margin"}
    # A run with policies is evaluated as before, and predict takes them.
    evaluated = evaluate(opened, out=tmp_path / "report", device="cpu")
    predictor, policy = load(run, "cpu"), load_policy(run, "bold")
    test = table.indices("test")
    images = np.asarray(predictor.inputs.of_table(table, test))
    np.testing.assert_allclose(
        predictor.predict_cells(images, rows=test, policy=policy).probabilities,
        policy.answers(evaluated.answers.exit_probabilities),
        atol=1e-5,
    )


def test_the_command_says_what_was_promised_and_draws(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "policy",
                str(run),
                "--budget",
                "0.9",
                "--kind",
                "patience",
                "--name",
                "slow",
                "--curve",
                "--device",
                "cpu",
            ]
        )
    assert stopped.value.code in (None, 0)
    printed = capsys.readouterr().out
    assert "promised: at most 90 % of the MACs on the validation cells" in printed
    assert "--policy slow" in printed
    curve = json.loads((run / "report" / "early_exit.json").read_text())
    assert set(curve["curves"]) == set(KINDS)
    for points in curve["curves"].values():
        assert {point["macs_share"] for point in points} >= {1.0}
        assert all(point["ms_a_cell"] > 0 for point in points)
    assert (run / "report" / "early_exit.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --budget or --risk"),
        (["--budget", "0.4", "--risk", "0.1"], "give --budget or --risk"),
        (["--budget", "0.01"], "the first exit alone takes"),
        (["--risk", "0.01"], "validation groups to show it, and there are"),
        (["--risk", "2"], "risk 2: give a number between 0 and 1"),
    ],
)
def test_wrong_uses_are_one_line(run, options, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["policy", str(run), *options, "--device", "cpu"])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (run / "policies.json").exists()


def test_stored_policies_that_are_not_the_runs_are_refused(run):
    fit_run_policy(run, Budget(0.9), device="cpu")
    file = run / "policies.json"
    kept = file.read_text()
    for change, said in (
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text.replace('"budget": 0.9', '"budget": 0.8'), "changed since it was written"),
        (lambda text: text.replace('"format": 1', '"format": 7'), "of another version"),
        (lambda text: "[]", "damaged"),
    ):
        file.write_text(change(kept))
        with pytest.raises(CytodistillError, match=f"policies.json: {said}"):
            load_policy(run, "budget-0.9")
    file.write_text(kept)
    weights = run / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CytodistillError, match="fitted for another network than the run's"):
        load_policy(run, "budget-0.9")
    weights.write_bytes(content)
    with pytest.raises(CytodistillError, match="policy 'late': .* there are budget-0.9; fit one with"):
        load_policy(run, "late")
