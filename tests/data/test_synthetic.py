"""The drawn cells: SIPaKMeD's format to the letter, the same bytes for a seed, and as hard as they are meant to be."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cytodistill.data.sources.synthetic import CLASSES, LEAST_CELLS, synthesize
from cytodistill.errors import CytodistillError

CELLS = 302


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", CELLS)


def crops(root: Path) -> list[Path]:
    return sorted(root.glob("im_*/im_*/CROPPED/*.bmp"))


def contour(path: Path) -> np.ndarray:
    """(n, 2) points of a contour file that must hold exactly one ``x,y`` a line."""
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"\d+(\.\d+)?,\d+(\.\d+)?", line) for line in lines), path
    return np.array([[float(value) for value in line.split(",")] for line in lines])


def encloses(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ray from each of the points crosses the polygon's sides an odd number of times."""
    x, y = points.T[:, :, None]
    (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, -1, axis=0).T
    spans = (y1 > y) != (y2 > y)
    where = x1 + (y - y1) / np.where(y1 == y2, 1, y2 - y1) * (x2 - x1)
    return (spans & (x < where)).sum(axis=1) % 2 == 1


def area(polygon: np.ndarray) -> float:
    (x, y), (x2, y2) = polygon.T, np.roll(polygon, -1, axis=0).T
    return abs(float((x * y2 - x2 * y).sum())) / 2


def tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.blake2b(path.read_bytes()).hexdigest() for path in files}


def test_names_are_those_of_sipakmed_and_nothing_else_is_written(drawn: Path):
    cell = r"im_(?P<c>[^/]+)/im_(?P=c)/CROPPED/\d{3}_\d\d(\.bmp|_cyt\.dat|_nuc\.dat)"
    field = r"im_(?P<c>[^/]+)/im_(?P=c)/\d{3}(\.bmp|_cyt\d\d\.dat|_nuc\d\d\.dat)"
    names = list(tree(drawn))
    assert all(re.fullmatch(cell, name) or re.fullmatch(field, name) for name in names)
    assert {name.split("/")[0] for name in names} == {f"im_{name}" for name in CLASSES}
    for folder in drawn.glob("im_*/im_*"):
        fields = sorted(path.stem for path in folder.glob("*.bmp"))
        assert fields == [f"{n:03d}" for n in range(1, len(fields) + 1)]  # the numbers restart in each class


def test_counts_are_exact_and_nearly_equal(drawn: Path):
    counts = Counter(path.parts[-3] for path in crops(drawn))
    assert sum(counts.values()) == CELLS
    assert max(counts.values()) - min(counts.values()) == 1


def test_several_cells_share_a_field(drawn: Path):
    fields = Counter((path.parts[-3], path.stem[:3]) for path in crops(drawn))
    assert len(fields) == len(list(drawn.glob("im_*/im_*/*.bmp")))
    assert max(fields.values()) <= 6
    assert sum(count >= 3 for count in fields.values()) >= len(fields) - len(CLASSES)  # the last may be cut short


def test_crops_and_both_contours_are_cut_from_their_field(drawn: Path):
    sizes = set()
    for path in crops(drawn)[::4]:
        number, place = path.stem.split("_")
        field = np.asarray(Image.open(path.parents[1] / f"{number}.bmp"))
        crop = np.asarray(Image.open(path))
        assert crop.dtype == np.uint8
        assert crop.shape[2] == 3
        height, width = crop.shape[:2]
        sizes.add((width, height))
        shifts = []
        for part in ("cyt", "nuc"):
            inner = contour(path.with_name(f"{path.stem}_{part}.dat"))
            outer = contour(path.parents[1] / f"{number}_{part}{place}.dat")
            assert len(inner) >= 20
            assert (inner <= (width - 1, height - 1)).all()
            assert (outer <= (field.shape[1] - 1, field.shape[0] - 1)).all()
            shifts.extend(outer - inner)
        left, top = np.rint(shifts[0]).astype(int)
        np.testing.assert_allclose(shifts, np.broadcast_to((left, top), (len(shifts), 2)), atol=0.011)
        np.testing.assert_array_equal(crop, field[top : top + height, left : left + width])
    assert len(sizes) > 40


def test_the_cytoplasm_encloses_the_nucleus(drawn: Path):
    for path in crops(drawn):
        cytoplasm = contour(path.with_name(f"{path.stem}_cyt.dat"))
        nucleus = contour(path.with_name(f"{path.stem}_nuc.dat"))
        assert encloses(cytoplasm, nucleus).all(), path
        assert 0.005 < area(nucleus) / area(cytoplasm) < 0.6


def test_the_contour_is_where_the_nucleus_is(drawn: Path):
    darker = []
    for path in crops(drawn)[::8]:
        grey = np.asarray(Image.open(path).convert("L"), float)
        polygons = [contour(path.with_name(f"{path.stem}_{part}.dat")) for part in ("nuc", "cyt")]
        ys, xs = np.indices(grey.shape)
        pixels = np.stack([xs.ravel(), ys.ravel()], axis=1)
        nucleus, cell = (encloses(polygon, pixels).reshape(grey.shape) for polygon in polygons)
        darker.append(grey[nucleus].mean() < grey[cell & ~nucleus].mean() - 5)
    assert np.mean(darker) > 0.95


def test_a_seed_gives_the_same_bytes_and_a_larger_set_extends_a_smaller(tmp_path: Path):
    small, again = tree(synthesize(tmp_path / "a", 65, seed=3)), tree(synthesize(tmp_path / "b", 65, seed=3))
    other, large = tree(synthesize(tmp_path / "c", 65, seed=4)), tree(synthesize(tmp_path / "d", 78, seed=3))
    assert small == again
    assert small.items() < large.items()
    pictures = {digest for name, digest in small.items() if name.endswith(".bmp")}
    assert pictures.isdisjoint(other.values())
    assert len(pictures) == sum(name.endswith(".bmp") for name in small)  # no field or cell is drawn twice


def test_colour_and_size_do_not_tell_the_classes_but_the_nucleus_does(drawn: Path):
    colour, size, ratio, labels, groups = [], [], [], [], []
    for path in crops(drawn):
        image = np.asarray(Image.open(path), float)
        colour.append([*image.mean(axis=(0, 1)), *image.std(axis=(0, 1))])
        size.append(image.shape[:2])
        areas = [area(contour(path.with_name(f"{path.stem}_{part}.dat"))) for part in ("nuc", "cyt")]
        ratio.append([areas[0] / areas[1]])
        labels.append(path.parts[-3])
        groups.append(path.parts[-3] + path.stem[:3])

    def accuracy(model, features: list) -> float:
        folds = GroupKFold(5, shuffle=True, random_state=0)
        return cross_val_score(model, np.array(features, float), labels, groups=groups, cv=folds).mean()

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=0)
    assert accuracy(linear, colour) < 0.50
    assert accuracy(linear, size) < 0.45
    assert accuracy(forest, size) < 0.45
    assert accuracy(forest, ratio) > 0.42


def test_progress_ends_at_the_number_of_cells(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    synthesize(tmp_path / "set", 65, progress=lambda done, cells: seen.append((done, cells)))
    assert seen == sorted(set(seen))
    assert seen[-1] == (65, 65)


def test_the_least_number_of_cells_has_three_fields_in_every_class(tmp_path: Path):
    root = synthesize(tmp_path / "set", LEAST_CELLS)
    assert all(len(list(root.glob(f"im_{name}/im_{name}/*.bmp"))) >= 3 for name in CLASSES)
    with pytest.raises(CytodistillError, match=f"cells={LEAST_CELLS - 1}: at least {LEAST_CELLS} "):
        synthesize(tmp_path / "few", LEAST_CELLS - 1)
    assert not (tmp_path / "few").exists()


def test_only_an_empty_folder_is_written_over(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert len(crops(synthesize(tmp_path / "empty", 65))) == 65
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for taken in (tmp_path / "full", tmp_path / "full" / "mine.txt"):
        with pytest.raises(CytodistillError, match=rf"{taken.name}: already exists and is not an empty folder"):
            synthesize(taken, 65)
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
    with pytest.raises(CytodistillError, match=r"mine.txt/set: cannot be written"):
        synthesize(tmp_path / "full" / "mine.txt" / "set", 65)


def test_a_negative_seed_is_refused(tmp_path: Path):
    with pytest.raises(CytodistillError, match="seed=-1"):
        synthesize(tmp_path / "set", 65, seed=-1)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path):
    def interrupt(done: int, cells: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", 65, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
