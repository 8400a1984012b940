import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.explain.cam import class_maps
from cytodistill.explain.entries import verdict_lines
from cytodistill.explain.run import choose, explain
from cytodistill.infer.predictor import load


class Listening:
    def __init__(self):
        self.said, self.stages = [], set()

    def step(self, stage, done, total, note=""):
        self.stages.add(stage)
        assert done <= total

    def say(self, line):
        self.said.append(line)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("explained")


@pytest.fixture(scope="module")
def explained(tiny_run, out):
    (out / "maps").mkdir()
    (out / "maps" / "077.png").write_bytes(b"of an earlier one")
    (out / "maps" / "mine.png").write_bytes(b"the user's")
    watcher = Listening()
    return explain(tiny_run, limit=4, out=out, device="cpu", watcher=watcher), watcher


def test_writes_a_panel_a_cell_a_sheet_and_the_figures(explained, out):
    found, watcher = explained
    names = [str(file.relative_to(out)) for file in found.files]
    assert names == ["explain.json", "contact.png", *(f"maps/00{n}.png" for n in (1, 2, 3, 4))]
    for file in found.files[1:]:
        with Image.open(file) as picture:
            assert min(picture.size) > 200
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert {file.name for file in (out / "maps").iterdir()} == {*(f"00{n}.png" for n in (1, 2, 3, 4)), "mine.png"}
    assert json.loads((out / "explain.json").read_text()) == found.content
    assert watcher.stages >= {"evaluate", "explain", "draw"}
    assert any("segmented" in line for line in watcher.said)
    few = [exit + 1 for exit, grid in enumerate(found.content["grids"]) if min(grid) < 4]
    said = next(line for line in watcher.said if "maps of few places" in line)
    assert few
    assert all((f"exit {exit} " in said) == (exit in few) for exit in (1, 2, 3))


def test_the_verdicts_are_said_in_lines(explained):
    content = explained[0].content
    lines = verdict_lines(content)
    exits = content["of_the_chosen_cells"]["exits"]
    assert [line.split(":")[0] for line in lines] == ["Deletion", "Redrawn weights", "Nucleus"]
    assert ", ".join(f"{100 * exit['deletion_above_zero']:.0f}" for exit in exits) + " % of 4 cells" in lines[0]
    assert f"{exits[0]['correlation_with_redrawn_weights']:.2f}" in lines[1]
    assert f"{100 * exits[-1]['mass']['nucleus']:.0f} % of the maps lie in it" in lines[2]
    bare = json.loads(json.dumps(content))
    bare["of_the_chosen_cells"]["area"] = None
    bare["of_the_chosen_cells"]["exits"][0]["correlation_with_redrawn_weights"] = None
    assert len(verdict_lines(bare)) == 2
    assert "correlate –, " in verdict_lines(bare)[1]


def test_figures_agree_with_evaluation_and_the_maps_themselves(explained, tiny_run, tmp_path):
    content = explained[0].content
    predictions = evaluate(tiny_run, out=tmp_path).predictions.set_index("path")
    table = tiny_run.table()
    predictor = load(tiny_run, "cpu")
    for cell in content["cells"]:
        row = predictions.loc[cell["path"]]
        assert cell["predicted"] == row["predicted"]
        assert cell["correct"] == (row["predicted"] == row["label"])
        assert cell["exits_predict"] == [row[f"exit{e}_predicted"] for e in (1, 2, 3)]
        exits = cell["exits"]
        assert [e["predicted"] for e in exits] == [e["explained"] for e in exits] == cell["exits_predict"]
        confidence = [row[f"exit{e}_confidence"] for e in (1, 2, 3)]
        np.testing.assert_allclose([e["confidence"] for e in exits], confidence, atol=1e-4)
        assert table.frame["path"][cell["row"]] == cell["path"]
        image = predictor.read(table.frame["root"][cell["row"]], cell["path"])
        batch = predictor.inputs.tensor(torch.from_numpy(image[None]))
        maps = class_maps(predictor.network, batch, method=content["method"], at=content["at"]).maps[0]
        for e, heat in zip(exits, maps, strict=True):
            assert e["empty_map"] == (not heat.any())
            assert len(e["curves"]["most"]) == len(content["blanked_shares"])
            np.testing.assert_allclose(e["curves"]["most"][0], e["probability"], atol=1e-4)
            if e["mass"] and not e["empty_map"]:
                np.testing.assert_allclose(sum(e["mass"].values()), 1)
        assert [e["context_spread"] is None for e in exits] == [False, False, True]
    agreement = content["agreement"]
    assert agreement["cells"] == len(predictions)
    assert sum(part["cells"] for part in agreement["settled_at_exit"]) == len(predictions)
    assert agreement["agrees_with_deepest"][-1] == 1
    same = (predictions["exit1_predicted"] == predictions["exit3_predicted"]).mean()
    np.testing.assert_allclose(agreement["agrees_with_deepest"][0], same)
    summary = content["of_the_chosen_cells"]["exits"]
    for exit, part in enumerate(summary):
        np.testing.assert_allclose(part["deletion"], np.mean([c["exits"][exit]["deletion"] for c in content["cells"]]))


def test_unlabelled_cells_a_class_and_rows(tiny_run, cells, tmp_path):
    file = tmp_path / "some.csv"
    paths = sorted(path.relative_to(cells).as_posix() for path in cells.rglob("*.png"))[:3]
    pd.DataFrame({"root": str(cells), "path": paths}).to_csv(file, index=False)
    found = explain(
        tiny_run,
        file,
        rows=np.array([2, 0]),
        of="right",
        contours="none",
        method="gradcam++",
        at="branch",
        device="cpu",
        out=tmp_path / "out",
    )
    assert [cell["path"] for cell in found.content["cells"]] == [paths[2], paths[0]]
    assert all(
        cell["label"] is None and cell["correct"] is None and cell["area"] is None for cell in found.content["cells"]
    )
    assert {e["explained"] for cell in found.content["cells"] for e in cell["exits"]} == {"right"}
    assert found.content["agreement"]["settled_at_exit"][0]["deepest_exit_accuracy"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split": "tests"}, "--split tests: choose train, val, test or all"),
        ({"method": "cam"}, "--method cam: choose"),
        ({"at": "stem"}, "--at stem: choose branch or tap"),
        ({"contours": "drawn"}, "--contours drawn: choose"),
        ({"limit": 0}, "--limit 0"),
        ({"of": "top"}, "--of top: not one of the run's classes; choose of left, middle, right"),
        ({"rows": np.array([99])}, "rows: give positions from 0 to 44"),
    ],
)
def test_bad_settings(tiny_run, tmp_path, options, said):
    with pytest.raises(CytodistillError, match=said):
        explain(tiny_run, out=tmp_path / "none", device="cpu", **options)
    assert not (tmp_path / "none").exists()


def test_choice_is_wrong_first_then_doubtful_from_each_class_in_turn():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 60)
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    found = choose(p, labels, 9)
    assert sorted(labels[found].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for code in range(3):
        own = np.flatnonzero(labels == code)
        expected = sorted(own, key=lambda n: (p[n].argmax() == code, p[n, code]))[:3]
        assert [n for n in found if labels[n] == code] == expected
    assert len(choose(p, labels, 100)) == 60
    # A class that runs out leaves its turns to the others.
    many, fewer, few = np.bincount(labels[choose(p, labels, 30)])
    assert few == 5
    assert abs(many - fewer) <= 1


def test_choice_without_labels_is_the_least_sure():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    assert choose(p, np.full(3, -1), 2).tolist() == [1, 2]
