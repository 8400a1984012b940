import json

import numpy as np
import pytest

from cytodistill.export.parity import Limits, Parity, compare, under_policy
from cytodistill.infer.exit_policy import ExitPolicy

EXACT = Limits(difference=1e-4, agreement=1.0, accuracy_change=0.0, every_exit=True)
ENSEMBLE = Limits(difference=None, agreement=0.75, accuracy_change=0.25, every_exit=False)


def one_hot(*codes, by=0.8):
    """(N, 1, 3) probabilities whose largest are at the codes."""
    return np.where(np.arange(3) == np.array(codes)[:, None], by, (1 - by) / 2)[:, None].astype(np.float32)


def two_exits(first, second):
    return np.concatenate([one_hot(*first), one_hot(*second, by=0.9)], axis=1)


def test_figures_by_hand():
    labels = np.array([0, 1, 2, 0])
    reference = two_exits([0, 1, 2, 1], [0, 1, 2, 1])
    answers = two_exits([0, 2, 2, 1], [0, 1, 2, 0])
    found = compare("whole", 7, answers, reference, labels)
    # The surer second exit decides the mean.
    assert found.label_changes == [1, 1, 1]
    assert found.agreement == [0.75, 0.75, 0.75]
    assert found.accuracy == [0.5, 1.0, 1.0]
    assert found.accuracy_change == [-0.25, 0.25, 0.25]
    assert found.difference == pytest.approx(0.85)
    assert found.worst == 3
    assert found.beyond(ENSEMBLE) == []
    assert len(found.beyond(EXACT)) == 1 + 2 * 3


def test_every_exit_is_held_only_where_it_is_said():
    labels = np.array([0, 1, 2, 0])
    reference = two_exits([0, 1, 2, 0], [0, 1, 2, 0])
    found = compare("segments", 1, two_exits([1, 2, 0, 1], [0, 1, 2, 0]), reference, labels)
    assert found.agreement == [0.0, 1.0, 1.0]
    assert found.beyond(ENSEMBLE) == []
    every = Limits(None, 0.75, 1.0, every_exit=True)
    assert [said.split(" changes")[0] for said in found.beyond(every)] == ["exit 1"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_beyond_any_limit(bad):
    reference = one_hot(0, 1)
    answers = reference.copy()
    answers[1, 0, 2] = bad
    assert compare("whole", 1, answers, reference, np.array([0, 1])).beyond(EXACT)


def test_the_report_names_the_worst(tmp_path):
    labels = np.array([0, 1])
    reference = one_hot(0, 1)
    same, other = (compare("whole", b, a, reference, labels) for b, a in ((1, reference), (7, one_hot(0, 2))))
    found = Parity("onnx", "fp32", 2, EXACT, [1.0, 1.0], (same, other))
    found.write(tmp_path)
    content = json.loads((tmp_path / "parity.json").read_text())
    assert [len(row["label_changes"]) for row in content["comparisons"]] == [2, 2]
    assert all(said.startswith("whole, batch 7") for said in content["beyond"])
    assert content["beyond"]
    assert "**refused**" in (tmp_path / "parity.md").read_text()
    assert found.summary()["label_changes"] == 1
    assert found.summary()["accuracy_change"] == -0.5
    assert "1 of 2 labels changed" in found.words


def test_a_policy_is_compared_with_the_run_under_it_and_with_all_exits_of_the_run(tmp_path):
    policy = ExitPolicy("confidence", (0.7, 1.0))
    # First exits are sure of 0.8 and stop, but for the third cell; second exits decide the mean where it is asked.
    reference = two_exits([0, 1, 2, 0], [0, 1, 1, 1])
    reference[2, 0] = [0.3, 0.3, 0.4]
    answers = two_exits([0, 2, 2, 0], [0, 1, 1, 1])
    found = under_policy("early", policy, answers, reference)
    # The run says 0, 1, mean → 1, 0; the artifact 0, 2, 2, 0; all exits of the run together 0, 1, 1, 1.
    assert (found.exits_changed, found.label_changes, found.agreement) == (1, 2, 0.5)
    assert (found.differs, found.differed) == (0.75, 0.25)
    assert found.beyond(EXACT) == [
        "under policy early the label of 2 cells changes (50.00% agree), and 100.00% is the limit"
    ]
    assert found.beyond(Limits(None, 0.5, 1.0, every_exit=False)) == []
    proof = Parity("onnx", "int8", 4, EXACT, [1.0] * 3, (), (found,))
    assert proof.beyond == found.beyond(EXACT)
    proof.write(tmp_path)
    assert json.loads((tmp_path / "parity.json").read_text())["policies"][0]["label_changes"] == 2
    assert "| early | 1 | 2 | 75.00 | 25.00 |" in (tmp_path / "parity.md").read_text()
