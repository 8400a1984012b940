import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytodistill.errors import CytodistillError
from cytodistill.infer.artifact import Artifact, Graph, Graphs, is_artifact, write_artifact

GRAPHS = Graphs(
    "f" * 64,
    (Graph("segment1", ("segment1.onnx",), 1), Graph("segment2", ("segment2.onnx",), 2)),
    Graph("whole", ("whole.onnx",), 3),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artifact"
    made.mkdir()
    for number, name in enumerate(("segment1.onnx", "segment2.onnx", "whole.onnx", "run.json", "manifest.csv")):
        (made / name).write_bytes(bytes(range(40)) + bytes([number]))
    write_artifact(made, {"runtime": "onnx", "run": {"weights": "f" * 64}, "classes": ["a", "ä"]}, GRAPHS)
    return made


def refused(folder: Path) -> str:
    with pytest.raises(CytodistillError) as found:
        Artifact.open(folder)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_opens_as_it_was_written(folder):
    artifact = Artifact.open(folder)
    assert artifact.graphs == GRAPHS
    assert artifact.runtime == "onnx"
    assert artifact.info["classes"] == ["a", "ä"]
    assert artifact.read("whole.onnx")[-1] == 2
    assert is_artifact(folder)


@pytest.mark.parametrize("name", ["segment1.onnx", "whole.onnx", "run.json", "manifest.csv"])
def test_a_file_that_was_changed_is_named(folder, name):
    file = folder / name
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert refused(folder).startswith(f"{file}: ")
    file.write_bytes(content[:-1])
    assert f"{file}: " in (said := refused(folder))
    assert "40 bytes, and 41 were written" in said


def test_a_file_that_is_gone_or_renamed_is_named(folder):
    (folder / "segment2.onnx").rename(folder / "deep.onnx")
    assert "segment2.onnx: cannot be read (No such file or directory)" in refused(folder)


def test_graphs_that_stand_in_for_each_other_are_named(folder):
    (folder / "segment1.onnx").rename(folder / "x")
    (folder / "segment2.onnx").rename(folder / "segment1.onnx")
    (folder / "x").rename(folder / "segment2.onnx")
    assert "segment1.onnx: not the file that was exported" in refused(folder)


def test_the_manifest_may_be_taken_away(folder):
    before = Artifact.open(folder).info
    (folder / "manifest.csv").unlink()
    assert Artifact.open(folder).info == before


def test_what_comes_later_is_no_part_of_it(folder):
    before = Artifact.open(folder).info
    (folder / "report").mkdir()
    (folder / "notes.txt").write_text("mine")
    assert Artifact.open(folder).info == before


def test_another_order_of_classes_is_refused(folder):
    file = folder / "artifact.json"
    info = json.loads(file.read_text())
    info["classes"].reverse()
    file.write_text(json.dumps(info))
    assert "artifact.json: changed since it was written" in refused(folder)


def test_another_version_is_refused(folder):
    file = folder / "artifact.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    assert "written by another version (format 2)" in refused(folder)


def test_without_its_artifact_json_it_is_still_known_for_one(folder):
    (folder / "artifact.json").rename(folder / "other.json")
    assert is_artifact(folder)
    assert "artifact.json: gone" in refused(folder)
    assert not is_artifact(folder / "nowhere")


def said_of(folder: Path) -> dict | None:
    try:
        return Artifact.open(folder).info
    except CytodistillError:
        return None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), kept=st.floats(0, 1))
def test_any_damage_to_artifact_json_is_refused_or_says_the_same(folder, place, value, kept):
    file = folder / "artifact.json"
    whole = file.read_bytes()
    info = json.loads(whole)
    try:
        changed = bytearray(whole)
        changed[int(place * len(whole))] = value
        for content in (bytes(changed), whole[: int(kept * len(whole))]):
            file.write_bytes(content)
            if said_of(folder) != info:
                assert refused(folder).startswith(f"{file}: ")
    finally:
        file.write_bytes(whole)
