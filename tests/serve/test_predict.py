"""What the service answers is what the Predictor answers, however the image gets there."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cytodistill.data.images import crop_box
from cytodistill.infer.fitted import abnormality, voices
from cytodistill.metrics.selective import doubt

from .conftest import a_cell, encoded


def probabilities(cell, classes):
    return np.array([cell["prediction"]["probabilities"][name] for name in classes])


def post(client, *images, **data):
    return client.post("/api/v1/predict", files=[("image", image) for image in images], data=data)


def test_a_lone_image_is_answered_bit_for_bit_as_in_python(client, predictor, files):
    wanted = predictor.predict(files[0])
    answer = client.post("/api/v1/predict", content=files[0].read_bytes(), headers={"Content-Type": "image/png"})
    (cell,) = answer.json()["cells"]
    np.testing.assert_array_equal(probabilities(cell, predictor.classes), wanted.probabilities[0].astype(float))
    exits = [[exit["probabilities"][name] for name in predictor.classes] for exit in cell["prediction"]["exits"]]
    np.testing.assert_array_equal(exits, wanted.exit_probabilities[0].astype(float))
    assert cell["prediction"]["predicted"] == wanted.predicted[0]
    assert cell["prediction"]["confidence"] == wanted.probabilities[0].max()


def test_what_validation_decided_is_applied(client, predictor, files):
    found = predictor.predict(files[:3])
    fitted = predictor.fitted
    calibrated = fitted.temperature[-1].calibrated(voices(found.exit_probabilities, found.probabilities)[-1])
    sets = fitted.conformal["lac-0.9-by-group"].sets(calibrated)
    answers = [post(client, file.read_bytes()).json()["cells"][0]["prediction"] for file in files[:3]]
    for n, answer in enumerate(answers):
        np.testing.assert_allclose([answer["calibrated"][name] for name in predictor.classes], calibrated[n], atol=1e-6)
        assert answer["doubt"] == pytest.approx(1 - calibrated[n].max(), abs=1e-6)
        assert answer["abnormal"] == pytest.approx(calibrated[n][1:].sum(), abs=1e-6)
        assert answer["set"]["classes"] == [name for name, held in zip(predictor.classes, sets[n], strict=True) if held]
        assert answer["disagreement"] == pytest.approx(doubt(found.exit_probabilities, "disagreement")[n], abs=1e-6)
        sure = [exit["confidence"] for exit in answer["exits"]]
        means = np.cumsum(found.exit_probabilities[n], 0) / np.arange(1, len(sure) + 1)[:, None]
        stops = [k + 1 for k, mean in enumerate(means[:-1]) if mean.max() > 0.95]
        assert answer["stops_at"] == (stops[0] if stops else len(sure))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG"])
def test_every_format_is_prepared_as_the_predictor_prepares_it(client, predictor, kind, tmp_path):
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(a_cell(3, 40, 31), kind, **options)
    file = tmp_path / f"cell.{kind.lower()}"
    file.write_bytes(content)
    (cell,) = post(client, content).json()["cells"]
    np.testing.assert_array_equal(
        probabilities(cell, predictor.classes), predictor.predict(file).probabilities[0].astype(float)
    )


def test_orientation_transparency_and_depth_are_heeded_too(client, predictor, tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    see_through = np.dstack([a_cell(5), np.full((24, 24), 90, np.uint8)])
    deep = np.random.default_rng(1).integers(0, 65536, (24, 20)).astype(np.uint16)
    cases = {
        "turned.jpg": encoded(a_cell(4, 30, 20), "JPEG", exif=turned),
        "clear.png": encoded(see_through),
        "deep.png": encoded(deep),
        "grey.png": encoded(a_cell(6)[..., 0]),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        (cell,) = post(client, content).json()["cells"]
        wanted = predictor.predict(tmp_path / name).probabilities[0].astype(float)
        np.testing.assert_array_equal(probabilities(cell, predictor.classes), wanted, err_msg=name)


def test_many_in_one_request_keep_their_order_and_names(client, predictor, files):
    answer = post(client, *((f"{n} é.png", file.read_bytes()) for n, file in enumerate(files[:12])))
    cells = answer.json()["cells"]
    assert [cell["name"] for cell in cells] == [f"{n} é.png" for n in range(12)]
    wanted = predictor.predict(files[:12]).probabilities
    np.testing.assert_allclose([probabilities(cell, predictor.classes) for cell in cells], wanted, atol=1e-5)


def test_a_bad_one_among_many_is_passed_over_in_its_place(client, files):
    answer = post(client, files[0].read_bytes(), b"GIF89a" + bytes(40), files[1].read_bytes())
    assert answer.status_code == 200
    cells = answer.json()["cells"]
    assert [cell["prediction"] is None for cell in cells] == [False, True, False]
    assert "PNG, JPEG" in cells[1]["error"]


def test_a_zip_is_answered_member_by_member(client, predictor, files):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for n, file in enumerate(files[:4]):
            archive.write(file, f"slide {n % 2}/{n}.png")
        archive.writestr("notes.txt", "not an image")
        archive.writestr("__MACOSX/._0.png", "clutter")
        archive.writestr("slide 0/broken.png", b"\x89PNG\r\n\x1a\nno")
    cells = post(client, ("all.zip", buffer.getvalue())).json()["cells"]
    assert [cell["name"] for cell in cells] == [
        *(f"all.zip:slide {n % 2}/{n}.png" for n in range(4)),
        "all.zip:slide 0/broken.png",
    ]
    assert cells[-1]["prediction"] is None
    found = np.stack([probabilities(cell, predictor.classes) for cell in cells[:4]])
    np.testing.assert_allclose(found, predictor.predict(files[:4]).probabilities, atol=1e-5)


def test_cells_of_a_field_are_cut_as_everywhere(client, predictor):
    field = a_cell(9, 120, 160)
    boxes = [[10, 20, 30, 30], [-5, 100, 24.4, 24.6], [150, 0, 20, 40]]
    answer = post(client, encoded(field), cells=json.dumps({"boxes": boxes}))
    cells = answer.json()["cells"]
    wanted = predictor.predict([crop_box(field, *box) for box in boxes]).probabilities
    np.testing.assert_allclose([probabilities(cell, predictor.classes) for cell in cells], wanted, atol=1e-5)
    assert cells[0]["box"] == {"x": 10, "y": 20, "width": 30, "height": 30}


def test_points_get_the_runs_window_and_one_outside_is_an_error_in_its_place(client, predictor):
    field = a_cell(9, 120, 160)
    window = predictor.recipe.data.window
    given = {"points": [[60, 50], [5000, 5000]]}
    cells = post(client, encoded(field), cells=json.dumps(given)).json()["cells"]
    wanted = predictor.predict(crop_box(field, 60 - window / 2, 50 - window / 2, window, window)).probabilities[0]
    np.testing.assert_allclose(probabilities(cells[0], predictor.classes), wanted, atol=1e-5)
    assert cells[1]["prediction"] is None
    assert "outside" in cells[1]["error"]


def test_many_clients_at_once_get_their_own_answers(client, predictor, files):
    wanted = predictor.predict(files).probabilities
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda file: post(client, file.read_bytes()).json()["cells"][0], files))
    np.testing.assert_allclose([probabilities(cell, predictor.classes) for cell in answers], wanted, atol=1e-5)


def test_nothing_of_a_prediction_is_kept(client, files):
    before = client.get("/api/v1/cells").json()["total"]
    assert post(client, files[0].read_bytes()).status_code == 200
    assert client.get("/api/v1/cells").json()["total"] == before
    store = client.app.state.service.store
    assert not list(store.incoming.folder.iterdir())


def test_model_tells_what_the_answers_mean(client, predictor):
    model = client.get("/api/v1/model").json()
    assert model["classes"] == list(predictor.classes)
    assert model["exits"] == predictor.exits
    assert model["abnormal"] == ["middle", "right"]
    assert model["calibrated"] is True
    assert model["sets"] == "lac-0.9-by-group"


def test_the_sum_over_abnormal_classes_is_that_of_evaluation(predictor, files, judged_run):
    from cytodistill.data.class_map import ClassMap

    p = predictor.predict(files[:2]).probabilities
    scores, _ = abnormality(ClassMap.load(judged_run / "map.yaml"), p, np.zeros(2, int), predictor.classes)
    np.testing.assert_allclose(scores, p[:, 1:].sum(1), atol=1e-6)
