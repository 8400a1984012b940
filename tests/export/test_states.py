import numpy as np
import pytest

from cytodistill.export import states
from cytodistill.export.states import range_of, ranges_kept, states_as_bytes

openvino = pytest.importorskip("openvino")


def segment(takes_state: bool):
    """x → (mean over places, 2 x), as a segment's logits and next state."""
    from openvino import opset13 as operators

    x = operators.parameter([-1, 3, 4, 4], np.float32, "state0" if takes_state else "cells")
    x.output(0).set_names({"state0" if takes_state else "cells"})
    logits = operators.reduce_mean(x, np.array([2, 3]))
    logits.output(0).set_names({"logits"})
    doubled = operators.multiply(x, np.float32(2))
    doubled.output(0).set_names({"next0"})
    return openvino.Model([logits, doubled], [x], "segment")


def run(model, given):
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    answer = compiled([given])
    return [np.array(answer[name]) for name in ("logits", "next0")]


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.5, 6.0), (0.0, 0.0)])
def test_states_are_the_nearest_of_256_steps(low, high):
    given = np.random.default_rng(0).uniform(low, high, (5, 3, 4, 4)).astype(np.float32)
    _, bytes_left = run(states_as_bytes(segment(False), [], [(2 * low, 2 * high)]), given)
    step = (high - low) * 2 / 255 or 1.0
    assert bytes_left.dtype == np.uint8
    lowest = round(2 * low / step) * step
    assert np.abs(bytes_left * step + lowest - 2 * given).max() <= step + 1e-5  # half of it, but at the range's ends
    zero = run(states_as_bytes(segment(False), [], [(2 * low, 2 * high)]), np.zeros_like(given))[1]
    assert (zero * step + lowest == 0).all()

    # What was left is what the next segment takes, to half a step.
    after = states_as_bytes(segment(True), [(2 * low, 2 * high)], [(4 * low, 4 * high)])
    logits, _ = run(after, bytes_left)
    expected = (bytes_left * np.float64(step) + lowest).mean((2, 3))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_values_beyond_what_was_measured_are_the_outermost():
    given = np.full((1, 3, 4, 4), 9, np.float32)
    _, left = run(states_as_bytes(segment(False), [], [(0.0, 6.0)]), given)
    assert (left == 255).all()


def test_the_range_holds_zero():
    assert range_of([np.array([[2.0, 3.0]]), np.array([[5.0, 4.0]])]) == (0.0, 5.0)
    assert range_of([np.array([[-2.0, -3.0]])]) == (-3.0, 0.0)


def test_a_state_whose_bytes_are_wrong_stays_float32(monkeypatch):
    given = {"cells": np.random.default_rng(0).uniform(0, 3, (2, 3, 4, 4)).astype(np.float32)}
    assert ranges_kept(segment(False), given, [(0.0, 6.0)]) == [(0.0, 6.0)]
    wrong = [(0.0, 60.0)]
    monkeypatch.setattr(states, "states_as_bytes", lambda model, taken, _: states_as_bytes(model, taken, wrong))
    assert ranges_kept(segment(False), given, [(0.0, 6.0)]) == [None]
