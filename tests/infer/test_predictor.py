import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.files import collect, predict_files
from cytodistill.infer.predictor import load
from cytodistill.infer.writers import open_writer


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return load(tiny_run, "cpu")


@pytest.fixture(scope="module")
def files(cells):
    return sorted(cells.rglob("*.png"))


def test_equals_the_network_on_preprocessed_images(predictor, files):
    cell = np.asarray(Image.open(files[0]).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC))
    data = predictor.recipe.data
    image = torch.from_numpy(((cell / 255 - data.mean) / data.std).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = predictor.network(image).logits
    answer = predictor.predict(files[0], logits=True)
    np.testing.assert_allclose(answer.logits[0], torch.cat(logits).numpy(), atol=1e-4)
    np.testing.assert_allclose(answer.exit_probabilities[0], torch.cat(logits).softmax(-1).numpy(), atol=1e-5)
    np.testing.assert_allclose(answer.probabilities[0], answer.exit_probabilities[0].mean(0), atol=1e-6)


def test_paths_pictures_and_arrays_answer_alike_in_any_batch(predictor, files):
    some = files[:5]
    by_path = predictor.predict(some).probabilities
    by_picture = predictor.predict([Image.open(file) for file in some], batch_size=2).probabilities
    by_array = predictor.predict([np.asarray(Image.open(file).convert("RGB")) for file in some], batch_size=1)
    np.testing.assert_allclose(by_picture, by_path, atol=1e-5)
    np.testing.assert_allclose(by_array.probabilities, by_path, atol=1e-5)
    assert by_array.predicted == [predictor.classes[code] for code in by_path.argmax(1)]


def test_nothing_in_nothing_out(predictor):
    empty = predictor.predict([])
    assert len(empty) == 0
    assert empty.probabilities.shape == (0, 3)
    assert empty.exit_probabilities.shape == (0, 3, 3)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_arrays_of_another_kind_are_refused(predictor, image):
    with pytest.raises(CytodistillError, match="give an \\(H, W, 3\\) uint8 RGB array"):
        predictor.predict(image)


def test_predict_evaluate_and_python_say_the_same(predictor, tiny_run, cells, tmp_path):
    found = evaluate(tiny_run, split="all", out=tmp_path / "report")
    items = collect([cells])
    with open_writer(tmp_path / "p.csv", predictor.classes, predictor.exits) as writer:
        assert predict_files(predictor, items, writer, batch_size=7) == []
    predicted = pd.read_csv(tmp_path / "p.csv").set_index("path")
    evaluated = found.predictions
    evaluated.index = [str(cells / path) for path in evaluated["path"]]
    probabilities = [f"prob_{name}" for name in predictor.classes]
    python = predictor.predict(list(predicted.index))
    assert len(predicted) == len(evaluated) == 45
    np.testing.assert_allclose(predicted[probabilities], evaluated.loc[predicted.index, probabilities], atol=1e-5)
    np.testing.assert_allclose(predicted[probabilities], python.probabilities, atol=1e-5)
    assert set(predicted["exit"]) == {"ensemble"}


def test_bad_files_are_passed_over_in_their_place(predictor, files, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes(files[0].read_bytes())
    (folder / "b.png").write_bytes(b"not an image")
    (folder / "c.png").write_bytes(files[1].read_bytes())
    with open_writer(tmp_path / "p.csv", predictor.classes, predictor.exits) as writer:
        problems = predict_files(predictor, collect([folder]), writer)
    rows = pd.read_csv(tmp_path / "p.csv")
    assert [path.rsplit("/")[-1] for path in rows["path"]] == ["a.png", "b.png", "c.png"]
    assert rows["predicted"].isna().tolist() == [False, True, False]
    assert len(problems) == 1
    assert "b.png" in problems[0]


def test_inputs_may_be_files_folders_and_zips(files, cells, zipped, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "one.png").write_bytes(files[0].read_bytes())
    archive = zipped(tmp_path / "x")
    items = collect([files[3], tmp_path / "x", archive])
    assert [item.path for item in items] == [files[3].name, "one.png", "one.png"]
    assert items[2].root == str(archive)
