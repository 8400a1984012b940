import numpy as np
from scipy.stats import spearmanr

from cytodistill.explain.agreement import exit_agreement, map_correlations, rank_correlation


def probabilities(answers, classes=3):
    """(N, E) answers as (N, E, C) probabilities."""
    return np.eye(classes)[np.array(answers)] * 0.8 + 0.05


def test_settled_is_the_first_exit_from_which_the_answer_stays():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 3, (200, 5))
    found = exit_agreement(probabilities(answers))
    np.testing.assert_array_equal(found.predicted, answers)
    for said, settled, agreeing in zip(answers.tolist(), found.settled, found.agreeing, strict=True):
        last = len(said) - 1
        while last > 0 and said[last - 1] == said[-1]:
            last -= 1
        assert settled == last
        assert agreeing == said.count(said[-1]) / 5
    assert set(found.settled) == {0, 1, 2, 3, 4}


def test_one_exit_agrees_with_itself():
    found = exit_agreement(probabilities([[1], [2]]))
    assert found.settled.tolist() == [0, 0]
    assert found.agreeing.tolist() == [1, 1]


def test_correlations_equal_scipys():
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 6, (2, 3, 5, 4)).astype(np.float32)  # with ties
    found = map_correlations(maps)
    assert found.shape == (2, 3, 3)
    for cell in range(2):
        for a in range(3):
            for b in range(3):
                expected = spearmanr(maps[cell, a].ravel(), maps[cell, b].ravel()).statistic
                np.testing.assert_allclose(found[cell, a, b], expected, atol=1e-12)


def test_a_map_of_one_value_has_no_correlation():
    assert np.isnan(rank_correlation(np.zeros((1, 4, 4)), np.arange(16.0).reshape(1, 4, 4))).all()
