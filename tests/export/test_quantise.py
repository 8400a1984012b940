import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.export.quantise import Node, calibration_rows, in_float


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 5))
def test_cells_are_drawn_in_proportion_and_every_class_is_there(codes, count, seed):
    labels = np.array(codes)
    rows = np.arange(len(labels))
    drawn = calibration_rows(labels, rows, count, seed)
    assert len(drawn) == min(count, len(rows))
    assert (np.diff(drawn) > 0).all()
    assert set(drawn) <= set(rows)
    np.testing.assert_array_equal(drawn, calibration_rows(labels, rows, count, seed))
    classes, sizes = np.unique(labels, return_counts=True)
    taken = np.array([(labels[drawn] == code).sum() for code in classes])
    if count >= len(classes):
        assert (taken >= 1).all()
    share = len(drawn) / len(labels)
    # Each class rounds up, so one of many gives way by as many as there are others.
    assert (taken <= np.ceil(sizes * share) + 1).all()
    assert (taken >= np.floor(sizes * share) - len(classes)).all()


def test_rows_are_those_that_were_given():
    labels = np.array([0, 0, 1, 1, 0, 1])
    assert set(calibration_rows(labels, np.array([1, 3, 5]), 2, 0)) <= {1, 3, 5}


def test_what_stays_in_float():
    nodes = {
        "cast": Node("Cast", ("cells",)),
        "scale": Node("Mul", ("cast", "sigma")),
        "stem": Node("Conv", ("scale", "weight")),
        "relu": Node("Relu", ("stem",)),
        "/exit/attention/Sigmoid": Node("Sigmoid", ("relu",)),
        "gated": Node("Mul", ("relu", "/exit/attention/Sigmoid")),
        "branch": Node("Conv", ("gated", "weight2")),
        "mean": Node("ReduceMean", ("branch",)),
        "classifier": Node("Gemm", ("mean", "weight3")),
        "logits": Node("Unsqueeze", ("classifier",)),
        "next": Node("Conv", ("relu", "weight4")),
    }
    assert in_float(nodes, "logits") == sorted(["cast", "scale", "/exit/attention/Sigmoid", "classifier", "logits"])
