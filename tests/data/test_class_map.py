"""Class maps against the data sets' own classes, tables and arithmetic done by hand."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.data.class_map import ClassMap, map_names
from cytodistill.data.sources import cric, herlev, sipakmed
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError

OFFICIAL = {"sipakmed": sipakmed.CLASSES, "herlev": herlev.CLASSES, "cric": cric.CLASSES}
LEFT_OUT = "sipakmed-binary-benign-left-out"

GOOD = """
name: own
version: 2
source: folder
target: yes or no
origin: made up
classes: {no: "no", 1: on, other: null}
target_classes: [no, on]
abnormal: [on]
"""


def table_of(*labels: str, classes: tuple[str, ...] = sipakmed.CLASSES) -> CellTable:
    rows = [
        {"root": "/r", "path": f"{n}.png", "label": label, "group": f"g{n // 2}", "split": "test", "fold": n % 3}
        for n, label in enumerate(labels)
    ]
    return CellTable.from_rows(rows, classes, "sipakmed")


def write(folder: Path, text: str) -> Path:
    file = folder / "own.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", map_names())
def test_shipped_maps_cover_their_data_set_and_say_where_they_come_from(name: str):
    shipped = ClassMap.load(name)
    assert shipped.name == name
    assert set(shipped.classes) == set(OFFICIAL[shipped.source])
    assert len(shipped.origin) > 60
    assert 0 < len(shipped.abnormal) < len(shipped.target_classes)


def test_the_published_groupings():
    def members(name: str, target: str | None) -> set[str]:
        return {source for source, assigned in ClassMap.load(name).classes.items() if assigned == target}

    assert set(map_names()) == {
        "cric-bethesda-3",
        "cric-bethesda-6",
        "cric-binary",
        "herlev-bethesda-3",
        "herlev-binary",
        "sipakmed-bethesda-3",
        "sipakmed-binary-benign-is-normal",
        LEFT_OUT,
        "sipakmed-official-3",
    }
    normal, abnormal = {"Superficial-Intermediate", "Parabasal"}, {"Koilocytotic", "Dyskeratotic"}
    for name, metaplastic in (("sipakmed-official-3", "benign"), (LEFT_OUT, None)):
        assert [members(name, t) for t in ("normal", metaplastic, "abnormal")] == [normal, {"Metaplastic"}, abnormal]
    assert members("sipakmed-binary-benign-is-normal", "normal") == normal | {"Metaplastic"}
    dysplastic = {"light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"}
    assert members("herlev-binary", "abnormal") == dysplastic
    assert members("herlev-bethesda-3", "HSIL") == dysplastic - {"light_dysplastic"}
    assert (
        members("herlev-bethesda-3", "NILM") == members("herlev-binary", "normal") == set(herlev.CLASSES) - dysplastic
    )
    assert members("cric-binary", "normal") == {"NILM"}
    assert ClassMap.load("cric-bethesda-6").target_classes == cric.CLASSES
    assert ClassMap.load("cric-bethesda-3").target_classes == ClassMap.load("herlev-bethesda-3").target_classes
    bethesda = {of: members("sipakmed-bethesda-3", of) for of in ("NILM", "LSIL", "HSIL", None)}
    assert list(bethesda.values()) == [normal | {"Metaplastic"}, {"Koilocytotic"}, {"Dyskeratotic"}, set()]
    assert "debatable" in ClassMap.load("sipakmed-bethesda-3").origin
    for name in ("herlev-bethesda-3", "cric-bethesda-3"):
        ClassMap.load("sipakmed-bethesda-3").check_same_target(ClassMap.load(name))


def test_the_wheel_has_the_maps():
    """Hatchling ships every file below the packages it is given, and the maps lie below."""
    root = Path(__file__).parents[2]
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    (package,) = packages["packages"]
    assert not {"exclude", "only-include"} & packages.keys()
    assert {file.stem for file in (root / package / "maps").glob("*.yaml")} == set(map_names())
    assert (resources.files("cytodistill") / "maps" / f"{LEFT_OUT}.yaml").is_file()


def test_a_table_is_renamed_and_what_is_left_out_is_counted():
    before = table_of("Metaplastic", "Parabasal", "", "Dyskeratotic", "Metaplastic", "Koilocytotic")
    after = ClassMap.load(LEFT_OUT).apply(before)
    assert after.table.classes == ("normal", "abnormal")
    assert after.table.frame["label"].tolist() == ["normal", "", "abnormal", "abnormal"]
    assert after.table.labels.tolist() == [0, -1, 1, 1]
    assert after.rows.tolist() == [1, 2, 3, 5]
    rest = ["path", "group", "split", "fold"]
    assert after.table.frame[rest].equals(before.frame.iloc[after.rows][rest].reset_index(drop=True))
    assert after.left_out == {"Metaplastic": 2}
    assert after.says == "4 cells, 2 left out (Metaplastic 2)"
    assert before.frame["label"][0] == "Metaplastic"
    whole = ClassMap.load("sipakmed-official-3").apply(before)
    assert (len(whole.table), whole.left_out, whole.says) == (6, {}, "6 cells, none left out")
    assert whole.table.classes == ("normal", "benign", "abnormal")


def test_classes_of_the_map_that_the_table_lacks_are_no_mistake():
    few = table_of("Parabasal", "Dyskeratotic", classes=("Parabasal", "Dyskeratotic"))
    after = ClassMap.load("sipakmed-official-3").apply(few)
    assert after.table.classes == ("normal", "benign", "abnormal")
    assert after.table.labels.tolist() == [0, 2]


def test_probabilities_are_summed_in_the_order_of_the_columns():
    classes = ("Dyskeratotic", "Metaplastic", "Parabasal", "Koilocytotic", "Superficial-Intermediate")
    p = np.array([[0.1, 0.2, 0.3, 0.25, 0.15], [0.0, 0.9, 0.1, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(
        ClassMap.load("sipakmed-official-3").collapse(p, classes), [[0.45, 0.2, 0.35], [0.1, 0.9, 0]], atol=1e-7
    )
    left_out = ClassMap.load(LEFT_OUT)
    np.testing.assert_allclose(left_out.collapse(p, classes), [[0.45 / 0.8, 0.35 / 0.8], [1, 0]], atol=1e-7)
    np.testing.assert_allclose(left_out.left_out_share(p, classes), [0.2, 0.9], atol=1e-7)
    assert left_out.abnormal_codes.tolist() == [1]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(map_names()), st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_collapsed_rows_are_probabilities_whatever_the_order_of_the_classes(name: str, seed: int, cells: int):
    """And agree with sums over names, cell by cell."""
    shipped = ClassMap.load(name)
    rng = np.random.default_rng(seed)
    classes = [str(source) for source in rng.permutation(list(shipped.classes))]
    p = rng.dirichlet(np.full(len(classes), 0.3), cells)
    p = (p + 1e-9) / (p + 1e-9).sum(axis=1, keepdims=True)
    collapsed = shipped.collapse(p, classes)
    assert collapsed.shape == (cells, len(shipped.target_classes))
    assert (collapsed >= 0).all()
    np.testing.assert_allclose(collapsed.sum(axis=1), 1, atol=1e-9)
    for row, given_row in zip(collapsed, p, strict=True):
        sums = dict.fromkeys(shipped.target_classes, 0.0)
        for source, share in zip(classes, given_row, strict=True):
            if shipped.classes[source] is not None:
                sums[shipped.classes[source]] += share
        total = sum(sums.values())
        np.testing.assert_allclose(row, [sums[target] / total for target in shipped.target_classes], atol=1e-9)


def test_plain_words_and_numbers_are_class_names(tmp_path: Path):
    own = ClassMap.load(write(tmp_path, GOOD))
    assert own.classes == {"no": "no", "1": "on", "other": None}
    assert (own.target_classes, own.abnormal, own.label) == (("no", "on"), ("on",), "own v2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1: on", "no: on", "line 7.*'no' is given twice"),
        ("1: on", "1: off", "maps '1' to 'off', which is not one of target_classes"),
        ("1: on", "1: null", "no class is mapped to 'on'"),
        ("1: on", "1: [on]", "classes.1"),
        ("[no, on]\n", "[no, on, no]\n", "names 'no' twice"),
        ("abnormal: [on]", "abnormal: [ill]", "abnormal names 'ill'"),
        ("version: 2", "version: two", "version='two'"),
        ("version: 2", "version: 0", "version='0'"),
        ("origin: made up", "", "origin is missing; add it"),
        ("origin: made up", "origin:", "origin=None"),
        ("source:", "sauce:", "source is missing|sauce: unknown entry"),
        ("target: yes or no", "target: yes or no\nnote: x", "note: unknown entry; there are name, version"),
        ("classes: {", "classes: {{", "not YAML"),
        (GOOD, "- a", "expected entries such as `classes:`"),
    ],
)
def test_a_bad_map_is_one_line_naming_file_and_entry(tmp_path: Path, old: str, new: str, message: str):
    assert old in GOOD
    file = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CytodistillError, match=message) as error:
        ClassMap.load(file)
    assert str(error.value).startswith(f"class map {file}: ")


def test_maps_that_are_not_there(tmp_path: Path):
    with pytest.raises(CytodistillError, match="'herlev': no such class map; there are .*herlev-binary"):
        ClassMap.load("herlev")
    with pytest.raises(CytodistillError, match="no such file"):
        ClassMap.load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CytodistillError, match="not a text file in UTF-8"):
        ClassMap.load(tmp_path / "binary.yaml")


def test_tables_and_models_of_other_classes_are_refused():
    shipped = ClassMap.load(LEFT_OUT)
    with pytest.raises(CytodistillError, match=f"{LEFT_OUT} v1: has no entry for the class 'NILM' of the table"):
        shipped.apply(table_of("NILM", classes=("NILM", "Parabasal")))
    with pytest.raises(CytodistillError, match="leaves out every cell"):
        shipped.apply(table_of("Metaplastic", "Metaplastic"))
    half = np.full((3, 2), 0.5)
    with pytest.raises(CytodistillError, match="no entry for the class 'HSIL' of the model"):
        shipped.collapse(half, ("Parabasal", "HSIL"))
    with pytest.raises(CytodistillError, match="'Parabasal' twice"):
        shipped.collapse(half, ("Parabasal", "Parabasal"))
    with pytest.raises(CytodistillError, match="shape .3, 2. for 3 classes"):
        shipped.collapse(half, sipakmed.CLASSES[:3])
    two = ("Parabasal", "Metaplastic")
    for logits in (half * 3, np.array([[-0.5, 1.5]]), np.array([[np.nan, 1]])):
        with pytest.raises(CytodistillError, match="give the softmax, not logits"):
            shipped.collapse(logits, two)
    with pytest.raises(CytodistillError, match="1 cells have all their probability in classes that it leaves out"):
        shipped.collapse(np.array([[0.0, 1.0], [0.5, 0.5]]), two)
