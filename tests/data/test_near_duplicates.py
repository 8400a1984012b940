"""Near duplicates: planted copies are found, drawn cells that are none are not, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.fft import dct

from cytodistill.data.images import resize
from cytodistill.data.near_duplicates import (
    Pair,
    copy_distance,
    embedding_pairs,
    hash_pairs,
    join_groups,
    judge_pairs,
    perceptual_hashes,
    reencoded,
    render,
)
from cytodistill.data.sources import read_source
from cytodistill.data.sources.synthetic.field import make_field
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError

TURNS = {
    "as it is": lambda cell: cell,
    "mirrored": lambda cell: cell[:, ::-1],
    "upside down": lambda cell: cell[::-1],
    "turned by 90°": lambda cell: np.rot90(cell),
    "turned by 180°": lambda cell: np.rot90(cell, 2),
    "turned by 270°": lambda cell: np.rot90(cell, 3),
    "transposed": lambda cell: cell.swapaxes(0, 1),
    "transverse": lambda cell: np.rot90(cell, 2).swapaxes(0, 1),
}


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """(40, 64, 64, 3) drawn cells of all five classes."""
    crops: list[np.ndarray] = []
    number = 0
    while len(crops) < 40:
        field = make_field(seed=3, kind=number % 5, number=number)
        crops += [
            resize(field.image[top:bottom, left:right], 64, "pad") for left, top, right, bottom in field.boxes[:5]
        ]
        number += 1
    return np.stack(crops[:40])


def literal_coefficients(cell: np.ndarray) -> np.ndarray:
    """(64,): grey, means of equal squares, two passes of a one-dimensional transform."""
    grey = cell @ np.array([0.299, 0.587, 0.114])
    side = cell.shape[0] // 32
    small = grey.reshape(32, side, 32, side).mean(axis=(1, 3))
    return dct(dct(small, axis=0), axis=1)[1:9, 1:9].ravel() / 64


def bits(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1).astype(bool)


def found(pairs: list[Pair]) -> set[tuple[int, int]]:
    return {(pair.first, pair.second) for pair in pairs}


def test_hashes_agree_with_the_formula_for_every_turn(cells: np.ndarray):
    hashes = perceptual_hashes(cells)
    assert hashes.shape == (len(cells), 8)
    coefficients = np.array([literal_coefficients(cell) for cell in cells])
    clear = abs(coefficients) > 0.01  # what is nearer to 0 may be rounding
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(bits(hashes[:, 0])[clear], (coefficients > 0)[clear])
    for row in (0, 7, 21):
        turned = np.stack([turn(cells[row]) for turn in TURNS.values()])
        assert set(hashes[row]) == set(perceptual_hashes(turned)[:, 0])
        assert len(set(hashes[row])) == 8


def test_drawn_cells_are_no_copies_of_each_other(cells: np.ndarray):
    assert hash_pairs(cells) == []


@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_reencoded_copies_are_found(cells: np.ndarray, turn: str):
    copies = reencoded(np.stack([TURNS[turn](cell) for cell in cells[:12]]), quality=50)
    assert not np.array_equal(copies[0], TURNS[turn](cells[0]))
    pairs = hash_pairs(np.concatenate([cells, copies]))
    assert found(pairs) == {(row, 40 + row) for row in range(12)}
    assert {pair.kind for pair in pairs} == {"hash"}
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)


def test_brighter_and_smaller_copies_are_found(cells: np.ndarray):
    darker = (cells[:10] * 0.8).astype(np.uint8)
    smaller = np.stack([resize(resize(cell, 40), 64) for cell in cells[10:20]])
    assert found(hash_pairs(np.concatenate([cells, darker, smaller]))) == {(row, 40 + row) for row in range(20)}


def test_distances_are_those_of_the_nearest_turn_across_tiles(cells: np.ndarray, monkeypatch):
    """Against a double loop over the bits, with tiles that cut the 40 cells unevenly; from either cell the same."""
    monkeypatch.setattr("cytodistill.data.near_duplicates._TILE", 7)
    every = {(pair.first, pair.second): pair.distance for pair in hash_pairs(cells, bits=64, correlation=-1)}
    known = [bits(row) for row in perceptual_hashes(cells)]
    for first in range(40):
        for second in range(first + 1, 40):
            nearest = (known[first][0] != known[second]).sum(axis=1).min()
            assert abs(nearest - (known[second][0] != known[first]).sum(axis=1).min()) <= 1
            assert every.pop((first, second)) == nearest
    assert not every
    some = hash_pairs(cells, bits=18, correlation=-1)
    assert some
    assert all(pair.distance <= 18 for pair in some)


def test_correlation_refuses_what_the_hash_takes(cells: np.ndarray):
    """The correlation asked for is that of the grey thumbnails, in the best turn."""
    thumbnails = (cells @ np.array([0.299, 0.587, 0.114])).reshape(40, 32, 2, 32, 2).mean(axis=(2, 4))

    def best(first: int, second: int) -> float:
        one, other = thumbnails[first].ravel(), thumbnails[second]
        return max(np.corrcoef(one, turn(other).ravel())[0, 1] for turn in TURNS.values())

    every = hash_pairs(cells, bits=64, correlation=-1)
    like = {pair[:2] for pair in every if best(*pair[:2]) >= 0.6}
    assert 0 < len(like) < len(every)
    assert found(hash_pairs(cells, bits=64, correlation=0.6)) == like


def test_pictures_of_one_grey_are_no_copies():
    blank = np.stack([np.full((48, 48, 3), grey, np.uint8) for grey in (0, 128, 128, 255)])
    assert hash_pairs(blank) == []
    assert len(hash_pairs(blank, correlation=-1)) == 6
    assert hash_pairs(blank[:0]) == []


def test_embedding_neighbours_against_scikit_learn(monkeypatch):
    from sklearn.metrics.pairwise import cosine_distances

    monkeypatch.setattr("cytodistill.data.near_duplicates._TILE", 64)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(150, 16))
    vectors[100:110] = vectors[:10] + rng.normal(size=(10, 16)) * 0.02
    vectors[110] = vectors[3]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = embedding_pairs(vectors, 0.3)
    distances = cosine_distances(vectors)
    expected = {(int(a), int(b)) for a, b in zip(*np.nonzero(distances <= 0.3), strict=True) if a < b}
    assert found(pairs) == expected
    assert len(expected) > 12
    assert pairs[0][:2] == (3, 110)
    np.testing.assert_allclose([p.distance for p in pairs], [distances[p.first, p.second] for p in pairs], atol=1e-5)
    assert found(embedding_pairs(vectors, 0.0)) == {(3, 110)}


def test_the_threshold_for_embeddings_comes_from_copies():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 8))
    copies = vectors + rng.normal(size=(60, 8)) * 0.05
    vectors, copies = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, copies))
    own = 1 - (vectors * copies).sum(axis=1)
    assert copy_distance(vectors, copies, share=1) == pytest.approx(own.max(), abs=1e-5)
    assert copy_distance(vectors, copies, share=0.9) == pytest.approx(np.quantile(own, 0.9), abs=1e-5)
    pairs = embedding_pairs(np.concatenate([vectors, copies]), copy_distance(vectors, copies, share=1))
    assert {(row, 60 + row) for row in range(60)} <= found(pairs)


@pytest.fixture
def tree(tmp_path: Path, cells: np.ndarray) -> CellTable:
    """Ten drawn cells, one of them in train and again, turned and as a JPEG, in test under another label; another
    twice in the training cells of two groups."""

    def save(path: str, cell: np.ndarray, **how) -> None:
        file = tmp_path / "source" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(cell)).save(file, **how)

    for row in range(10):
        save(f"{'train' if row < 6 else 'test'}/{'ab'[row % 2]}/{row}.png", cells[row])
    save("test/b/copy.jpg", np.rot90(cells[0]), quality=60)
    save("train/b/copy.png", cells[1][:, ::-1])
    return read_source(tmp_path / "source")


@pytest.fixture
def pairs(tree: CellTable) -> list[Pair]:
    from cytodistill.data.cache import cached_cells

    return hash_pairs(cached_cells(tree, 64, "pad"))


def test_a_tree_of_images_is_judged(tree: CellTable, pairs: list[Pair]):
    result = judge_pairs(tree, pairs)

    def names(pairs: tuple[Pair, ...]) -> list[set[str]]:
        paths = tree.frame["path"]
        return sorted(({paths[pair.first], paths[pair.second]} for pair in pairs), key=sorted)

    leak, twin = {"train/a/0.png", "test/b/copy.jpg"}, {"train/b/1.png", "train/b/copy.png"}
    assert names(result.pairs) == names(result.across_groups) == [leak, twin]
    assert names(result.across_splits) == names(result.conflicting) == [leak]
    said = json.loads(json.dumps(result.to_dict(tree)))
    (entry,) = said["conflicting"]
    assert {Path(cell).name for cell in entry["cells"]} == {"0.png", "copy.jpg"}
    assert (set(entry["label"]), set(entry["split"]), entry["kind"]) == ({"a", "b"}, {"train", "test"}, "hash")
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(*render(result, tree), *render(judge_pairs(tree, []), tree), sep="\n")
    text = console.export_text()
    assert "near duplicates: 2" in text
    assert "near duplicates: none" in text
    assert "in different splits: one of each pair must go" in text
    assert "copy.jpg (test)" in text
    assert "of 64 bits" in text


def test_joined_groups_cannot_be_split_apart(tree: CellTable, pairs: list[Pair]):
    joined = join_groups(tree, pairs)
    assert judge_pairs(joined, pairs).across_groups == ()
    assert joined.frame["group"].nunique() == tree.frame["group"].nunique() - 2
    with pytest.raises(CytodistillError, match="cells in splits test and train"):
        joined.check_groups()
    assert join_groups(tree, []).groups.tolist() == tree.groups.tolist()


def test_groups_join_in_chains_under_the_first_name():
    rows = [{"root": "/r", "path": f"{n}.png", "label": "a", "group": group} for n, group in enumerate("ecadbb")]
    table = CellTable.from_rows(rows, ("a",), "folder")
    chain = [Pair(0, 1, 0, "hash"), Pair(1, 4, 2, "hash"), Pair(2, 2, 0, "hash")]
    assert join_groups(table, chain).frame["group"].tolist() == ["b", "b", "a", "d", "b", "b"]


def test_what_is_not_known_is_no_finding_and_folds_leak_too():
    rows = [
        {"root": "/r", "path": f"{n}.png", "label": label, "group": "g", "split": split, "fold": fold}
        for n, (label, split, fold) in enumerate([("a", "", 0), ("", "test", -1), ("b", "train", 1), ("a", "", 1)])
    ]
    table = CellTable.from_rows(rows, ("a", "b"), "folder")
    every = [Pair(i, j, 0, "hash") for i in range(4) for j in range(i + 1, 4)]
    result = judge_pairs(table, every)
    assert found(result.across_splits) == {(0, 2), (0, 3), (1, 2)}
    assert found(result.conflicting) == {(0, 2), (2, 3)}
    assert result.across_groups == ()


def test_bad_input_is_one_line(cells: np.ndarray, tree: CellTable, monkeypatch):
    with pytest.raises(CytodistillError, match="bits=65: a hash has 64 bits"):
        hash_pairs(cells, bits=65)
    with pytest.raises(CytodistillError, match="correlation=2: give -1 to 1"):
        hash_pairs(cells, correlation=2)
    for bad in (cells / 255, cells[..., 0], cells[:, :32]):
        with pytest.raises(CytodistillError, match="give uint8 of shape"):
            hash_pairs(bad)
    unit = np.eye(4)
    with pytest.raises(CytodistillError, match="not all of length one"):
        embedding_pairs(unit * 2, 0.1)
    with pytest.raises(CytodistillError, match="not all of length one"):
        embedding_pairs(unit * np.nan, 0.1)
    with pytest.raises(CytodistillError, match=r"distance=-0.1: 1 − cosine is from 0 to 2"):
        embedding_pairs(unit, -0.1)
    with pytest.raises(CytodistillError, match="give one copy of each cell"):
        copy_distance(unit, unit[:2])
    with pytest.raises(CytodistillError, match="share=0: "):
        copy_distance(unit, unit, share=0)
    with pytest.raises(CytodistillError, match="rows beyond the table's 12"):
        judge_pairs(tree, [Pair(0, 12, 0, "hash")])
    monkeypatch.setattr("cytodistill.data.near_duplicates.MOST", 100)
    with pytest.raises(CytodistillError, match="bits=64: more than 100 pairs of cells are that near"):
        hash_pairs(cells, bits=64)
