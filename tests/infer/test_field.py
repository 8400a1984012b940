"""predict --cells: one field, a list of its cells in, the same list with the predictor's answers out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytodistill.cli import main
from cytodistill.data import slides
from cytodistill.data.images import crop_box
from cytodistill.errors import CytodistillError
from cytodistill.formats.pixel_size import PixelSize
from cytodistill.infer.batch import predict
from cytodistill.infer.field import cut_of
from cytodistill.infer.predictor import load
from cytodistill.train.run_folder import Run

SIDE = 120


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("field") / "a.png"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
    return file


def outline(x, y, width, height, **properties):
    ring = [[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def point(x, y, **properties):
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}, "properties": properties}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def as_file(folder, content, name="cells.geojson"):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


def answers(run, field, boxes):
    """Probabilities of the windows, cut and predicted one by one."""
    pixels = np.asarray(Image.open(field))
    found = load(run, "cpu").predict([crop_box(pixels, *box) for box in boxes])
    return found.probabilities, found.predicted


def test_answers_are_those_of_the_cells_cut_by_hand(tiny_run, field, tmp_path):
    features = [outline(10, 12, 30, 20, name="first"), point(60, 50), outline(70, 80, 24, 24)]
    cells = as_file(tmp_path, collection(*features))
    predict(tiny_run.path, field, tmp_path / "out.geojson", cells=cells, raw=True, device="cpu", batch_size=2)
    out = json.loads((tmp_path / "out.geojson").read_text())["features"]
    boxes = [(10, 12, 30, 20), (15, 5, 90, 90), (70, 80, 24, 24)]
    probabilities, predicted = answers(tiny_run.path, field, boxes)
    assert [feature["geometry"] for feature in out] == [feature["geometry"] for feature in features]
    assert [feature["properties"]["classification"]["name"] for feature in out] == predicted
    measured = [[feature["properties"]["measurements"][f"prob_{name}"] for name in tiny_run.classes] for feature in out]
    np.testing.assert_allclose(measured, probabilities, atol=1e-5)


def test_every_kind_of_list_gives_the_same_answers_in_every_kind_of_file(tiny_run, field, tmp_path):
    boxes = [(10, 12, 30, 20), (70, 80, 24, 24), (100, 100, 30, 30)]
    annotations = [{"id": n, "image_id": 1, "bbox": list(box)} for n, box in enumerate(boxes)]
    lists = [
        as_file(tmp_path, collection(*(outline(*box) for box in boxes))),
        as_file(tmp_path, "x,y,width,height\n" + "".join(f"{x},{y},{w},{h}\n" for x, y, w, h in boxes), "c.csv"),
        as_file(tmp_path, {"images": [{"id": 1, "file_name": "a.png"}], "annotations": annotations}, "c.json"),
    ]
    found = []
    for number, cells in enumerate(lists):
        for suffix in (".csv", ".geojson", ".json", ".jsonl"):
            out = tmp_path / f"{number}{suffix}"
            predict(tiny_run.path, field, out, cells=cells, device="cpu")
            found.append(predicted_of(out))
    assert all(other == found[0] for other in found)
    assert len(found[0]) == 3


def predicted_of(out):
    text = out.read_text()
    if out.suffix == ".csv":
        return pd.read_csv(out)["predicted"].tolist()
    if out.suffix == ".jsonl":
        return [json.loads(line)["predicted"] for line in text.splitlines()]
    document = json.loads(text)
    if out.suffix == ".geojson":
        return [feature["properties"]["classification"]["name"] for feature in document["features"]]
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    return [names[annotation["category_id"]] for annotation in document["annotations"]]


def test_a_killed_prediction_goes_on_to_the_same_bytes(tiny_run, field, tmp_path, monkeypatch):
    cells = as_file(tmp_path, collection(*(point(x, y) for x in range(5, 115, 10) for y in range(5, 115, 10))))
    predict(tiny_run.path, field, tmp_path / "whole.geojson", cells=cells, device="cpu", batch_size=4)
    from cytodistill.infer import batch, batch_output

    monkeypatch.setattr(batch_output, "SECONDS", 0.0)

    def killed(self, done):
        if done > 20:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch.Pace, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            predict(tiny_run.path, field, tmp_path / "out.geojson", cells=cells, device="cpu", batch_size=4)
    predict(tiny_run.path, field, tmp_path / "out.geojson", cells=cells, device="cpu", batch_size=4, resume=True)
    assert (tmp_path / "out.geojson").read_bytes() == (tmp_path / "whole.geojson").read_bytes()
    assert len(json.loads((tmp_path / "out.geojson").read_text())["features"]) == 121


def test_cells_of_a_slide_are_cut_at_the_pixel_size_of_the_training(tiny_run, field, tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("tiffslide")
    pixels = np.asarray(Image.open(field))
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, tile=(32, 32), resolution=(40_000, 40_000), resolutionunit="CENTIMETER"
    )
    monkeypatch.setattr(slides, "MAX_PIXELS", 100)
    cells = as_file(tmp_path, collection(*(point(x, 60) for x in (20, 60, 100))))
    with pytest.raises(CytodistillError, match="a.tif: 0.25 µm a pixel, and the run does not say"):
        predict(tiny_run.path, tmp_path / "a.tif", tmp_path / "o.csv", cells=cells, device="cpu")
    out = tmp_path / "o.csv"
    predict(tiny_run.path, tmp_path / "a.tif", out, cells=cells, device="cpu", raw=True, pixels=PixelSize(ignore=True))
    probabilities, _ = answers(tiny_run.path, field, [(x - 45, 15, 90, 90) for x in (20, 60, 100)])
    said = pd.read_csv(out)[[f"prob_{name}" for name in tiny_run.classes]].to_numpy()
    np.testing.assert_allclose(said, probabilities, atol=1e-5)


BAD = {
    "not JSON": '{"type": ',
    "not GeoJSON of cells": '{"type": "Topology"}',
    "no features": collection(),
    "outside the field of 120×120": collection(point(500, 3)),
    "feature 1: a geometry of type 'LineString'": collection(
        {"type": "Feature", "geometry": {"type": "LineString", "coordinates": []}, "properties": None}
    ),
    "is not two numbers": '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": '
    '{"type": "Point", "coordinates": [NaN, 1]}, "properties": null}]}',
    "a coordinate is not finite": "x,y\nnan,3\n",
    "the table has no columns x and y": "a,b\n1,2\n",
    "no row names this image": "image,x,y\nb.png,1,2\n",
    "no cells in the table": "x,y\n",
    "width and height must be positive": "1,2,0,3\n",
}


@pytest.mark.parametrize("said", BAD)
def test_bad_lists_are_one_line_with_the_files_name(tiny_run, field, tmp_path, capsys, said):
    cells = as_file(tmp_path, BAD[said])
    with pytest.raises(SystemExit) as left:
        main(["predict", str(tiny_run.path), str(field), "--cells", str(cells), "-o", str(tmp_path / "o.geojson")])
    assert left.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "cells.geojson: " in message
    assert said in message
    assert not (tmp_path / "o.geojson").exists()


def test_options_that_do_not_go_together_are_refused(tiny_run, field, tmp_path):
    cells = as_file(tmp_path, collection(point(3, 3)))
    with pytest.raises(CytodistillError, match="give --cells, or name a .csv"):
        predict(tiny_run.path, field, tmp_path / "o.geojson", device="cpu")
    with pytest.raises(CytodistillError, match="give one image, not 2"):
        predict(tiny_run.path, [field, field], tmp_path / "o.csv", cells=cells, device="cpu")
    with pytest.raises(CytodistillError, match="not an image file"):
        predict(tiny_run.path, field.parent, tmp_path / "o.csv", cells=cells, device="cpu")
    with pytest.raises(CytodistillError, match="give --cells"):
        predict(tiny_run.path, field, tmp_path / "o.csv", pixels=PixelSize(0.25), device="cpu")
    with pytest.raises(CytodistillError, match="check the path of --cells"):
        predict(tiny_run.path, field, tmp_path / "o.csv", cells=tmp_path / "none.json", device="cpu")


def test_a_cric_field_comes_back_as_it_went_in(shared_data, tiny_run, tmp_path):
    """Nuclei of a real field as QuPath would export them: every feature back, in order, valid, with its properties."""
    with (shared_data / "cric" / "classifications.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    present = {path.name for path in (shared_data / "cric").rglob("*.jpg")}
    by_field = pd.Series([row["image_filename"] for row in rows if row["image_filename"] in present]).value_counts()
    image = next((shared_data / "cric").rglob(by_field.index[0]))
    nuclei = [row for row in rows if row["image_filename"] == image.name]
    features = []
    for row in nuclei:
        x, y = float(row["nucleus_x"]), float(row["nucleus_y"])
        said = {"objectType": "annotation", "classification": {"name": row["bethesda_system"], "color": [1, 2, 3]}}
        made = point(x, y, **said) if len(features) % 2 else outline(x - 20, y - 15, 40, 30, **said)
        features.append({**made, "id": f"cell-{row['cell_id']}"})
    cells = as_file(tmp_path, collection(*features))
    out = tmp_path / "out.geojson"
    with pytest.raises(SystemExit) as left:
        main(["predict", str(tiny_run.path), str(image), "--cells", str(cells), "-o", str(out), "--cut", "window"])
    assert left.value.code == 0
    document = json.loads(out.read_text(), parse_constant=pytest.fail)
    schema = Path(__file__).parents[1] / "formats" / "qupath.schema.json"
    jsonschema.validate(document, json.loads(schema.read_text()))
    assert len(document["features"]) == len(nuclei) > 20
    for before, after in zip(features, document["features"], strict=True):
        assert (after["id"], after["geometry"]) == (before["id"], before["geometry"])
        assert after["properties"]["objectType"] == "annotation"
        assert after["properties"]["previous_classification"] == before["properties"]["classification"]
        assert after["properties"]["classification"]["name"] in tiny_run.classes
        assert sum(after["properties"]["measurements"][f"prob_{name}"] for name in tiny_run.classes) == pytest.approx(1)


def test_a_run_on_a_manifest_of_windows_cuts_windows(tiny_run, tmp_path):
    """`data split` makes a manifest of CRIC; a run of it was trained on windows as one of CRIC itself."""
    assert tiny_run.info["table"]["windowed"] is False  # whole images
    copy = tmp_path / "run"
    copy.mkdir()
    info = tiny_run.info | {"table": tiny_run.info["table"] | {"format": "manifest", "windowed": True}}
    (copy / "run.json").write_text(json.dumps(info))
    assert (cut_of(tiny_run), cut_of(Run.open(copy))) == ("outline", "window")
