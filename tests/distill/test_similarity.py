import numpy as np
import pytest


def np_gram(maps):
    flat = maps.reshape(len(maps), -1)
    gram = flat @ flat.T
    return gram / np.linalg.norm(gram, axis=1, keepdims=True)


def test_similarity_of_the_last_maps(lesson, numbers):
    taught = lesson("similarity")
    ours, theirs = numbers(taught.outputs.maps[-1]), numbers(taught.teacher.maps[-1])
    expected = 3000 * np.linalg.norm(np_gram(theirs) - np_gram(ours)) ** 2 / len(ours) ** 2
    assert taught.values()["similarity"] == pytest.approx(expected, rel=1e-4)


def test_only_the_last_map_gets_gradients(lesson):
    taught = lesson("similarity")
    taught.parts()["similarity"].backward()
    assert [maps.grad is not None for maps in taught.outputs.maps] == [False, False, True]
