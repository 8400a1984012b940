import numpy as np
import pytest


def np_attention(maps):
    flat = (maps**2).mean(1).reshape(len(maps), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_attention(lesson, stages):
    taught = lesson("attention_transfer")
    pairs = stages(taught)
    assert len(pairs) == 3
    expected = sum(((np_attention(ours) - np_attention(theirs)) ** 2).mean() for ours, theirs in pairs)
    assert taught.values()["attention"] == pytest.approx(1000 * expected, rel=1e-4)


def test_where_a_stage_is_active_counts_and_how_much_does_not(lesson):
    taught = lesson("attention_transfer")
    before = taught.values()["attention"]
    taught.outputs.maps[-1] = 30 * taught.outputs.maps[-1]
    assert taught.values()["attention"] == pytest.approx(before, rel=1e-4)
    taught.outputs.maps = [maps.flip(2) for maps in taught.outputs.maps]
    assert taught.values()["attention"] != pytest.approx(before, rel=1e-2)
