"""Reviews: events that are never changed, an undo among them; agreement; and what can be made of them."""

import csv
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from cytodistill.data.prepare import prepare_table
from cytodistill.data.sources import read_source
from cytodistill.train.fit import fit

from .conftest import a_cell, encoded, send


@pytest.fixture
def own(serving, tmp_path):
    with serving(tmp_path) as client:
        yield client


def cells_of(client, upload):
    answer = client.get("/api/v1/cells", params={"upload": upload["id"], "sort": "name", "descending": "false"})
    return answer.json()["cells"]


def review(client, cell, action, label=None, reviewer="Ana", **headers):
    given = {"action": action, "reviewer": reviewer} | ({"label": label} if label else {})
    return client.post(f"/api/v1/cells/{cell['id']}/reviews", json=given, headers=headers)


def test_accept_correct_and_undo_are_events_of_their_own(client):
    (cell,) = cells_of(client, send(client, encoded(a_cell())))
    other = next(name for name in ("left", "right") if name != cell["predicted"])
    assert review(client, cell, "accept").json()["label"] == cell["predicted"]
    assert review(client, cell, "correct", other).json()["label"] == other
    undone = review(client, cell, "undo").json()
    assert undone["label"] == cell["predicted"]
    assert review(client, cell, "undo").json()["label"] is None
    assert review(client, cell, "undo").status_code == 409
    events = client.get(f"/api/v1/cells/{cell['id']}/reviews").json()
    assert [event["action"] for event in events] == ["accept", "correct", "undo", "undo"]
    assert [event["undoes"] for event in events] == [None, None, events[1]["id"], events[0]["id"]]
    assert client.get(f"/api/v1/cells/{cell['id']}").json()["label"] is None


def test_one_takes_back_only_what_is_ones_own(client):
    (cell,) = cells_of(client, send(client, encoded(a_cell(1))))
    review(client, cell, "correct", "left", "Ana")
    review(client, cell, "correct", "right", "Ben")
    assert review(client, cell, "undo", reviewer="Eve").status_code == 409
    after = review(client, cell, "undo", reviewer="Ana").json()
    assert (after["label"], after["reviewer"]) == ("right", "Ben")
    assert review(client, cell, "undo", reviewer="Ben").json()["label"] is None


@pytest.mark.parametrize(
    "given",
    [
        {"action": "correct", "reviewer": "A"},
        {"action": "correct", "label": "unheard of", "reviewer": "A"},
        {"action": "accept", "label": "left", "reviewer": "A"},
        {"action": "accept"},
        {"action": "accept", "reviewer": "  \n"},
        {"action": "accept", "reviewer": "x" * 65},
        {"action": "delete", "reviewer": "A"},
        {"action": "accept", "reviewer": "A", "at": "2020-01-01"},
    ],
)
def test_reviews_that_say_nothing_clear_are_refused(client, given):
    (cell,) = cells_of(client, send(client, encoded(a_cell(2))))
    assert client.post(f"/api/v1/cells/{cell['id']}/reviews", json=given).status_code == 422
    assert client.get(f"/api/v1/cells/{cell['id']}/reviews").json() == []


def test_agreement_is_cohens_and_grows(own, files):
    cells = cells_of(own, send(own, *(file.read_bytes() for file in files[::4])))
    rng = np.random.default_rng(0)
    said, labels = [], []
    for cell in cells:
        label = cell["predicted"] if rng.random() < 0.6 else "middle"
        said.append(cell["predicted"])
        labels.append(label)
        review(own, cell, "correct", label)
    found = own.get("/api/v1/agreement").json()
    same = np.array(said) == np.array(labels)
    assert found["reviewed"] == len(cells)
    assert found["agreement"] == pytest.approx(same.mean())
    assert found["kappa"] == pytest.approx(cohen_kappa_score(said, labels))
    np.testing.assert_array_equal(found["confusion"], confusion_matrix(said, labels, labels=found["classes"]))
    growth = [point["agreement"] for point in found["growth"]]
    np.testing.assert_allclose(growth, np.cumsum(same) / np.arange(1, len(same) + 1))
    assert own.get("/api/v1/agreement", params={"reviewer": "nobody"}).json()["agreement"] is None
    agreeing = own.get("/api/v1/cells", params={"agrees": "true"}).json()["total"]
    assert agreeing == same.sum()


def test_the_csv_has_every_event_and_no_formulas(own):
    name = '=HYPERLINK("http://evil","x")\n.png'
    cells = cells_of(own, send(own, (name, encoded(a_cell(4))), ("b,é.png", encoded(a_cell(5)))))
    for cell in cells:
        review(own, cell, "accept", reviewer="+Ana")
    review(own, cells[0], "undo", reviewer="+Ana")
    answer = own.get("/api/v1/export/reviews.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="reviews.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["action"] for row in rows] == ["accept", "accept", "undo"]
    assert [row["stands"] for row in rows] == ["0", "1", "0"]
    assert not any(value.startswith(("=", "+", "@")) for row in rows for value in row.values())
    assert rows[1]["name"] == "b,é.png"
    assert rows[0]["confidence"] == repr(cells[0]["confidence"])


def test_what_was_reviewed_trains_the_next_run(own, files, tiny, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in files:
            archive.write(file, f"{file.parent.name}/{file.parent.parent.name}-{file.name}")
    cells = cells_of(own, send(own, ("set.zip", buffer.getvalue())))
    cells += cells_of(own, send(own, ("lone.png", encoded(a_cell(6))), group="slide 9"))
    truth = {}
    for cell in cells:
        truth[cell["id"]] = cell["name"].split("/")[-1].split("-")[0] if "/" in cell["name"] else "left"
        review(own, cell, "correct", truth[cell["id"]])
    review(own, cells[3], "undo")
    (tmp_path / "export.zip").write_bytes(own.get("/api/v1/export/training.zip").content)
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path / "export")
    table = read_source(tmp_path / "export" / "manifest.csv")
    assert table.classes == ("left", "middle", "right")
    found = {path.split("/")[-1].removesuffix(".png"): label for path, label in table.frame[["path", "label"]].values}
    assert found == {id: label for id, label in truth.items() if id != cells[3]["id"]}
    groups = table.frame.groupby("group").size()
    assert groups["slide 9"] == 1
    assert len(groups) == 1 + len({file.parent for file in files})
    assert len(prepare_table(table, tiny)) == len(cells) - 1
    run = fit(tmp_path / "export" / "manifest.csv", tmp_path / "again", recipe=tiny.override({"train.epochs": 1}))
    assert run.finished
    assert set(pd.read_csv(tmp_path / "again" / "manifest.csv")["split"]) == {"train", "val", "test"}


def test_nothing_to_export_is_said(own):
    assert own.get("/api/v1/export/training.zip").status_code == 409
    assert len(own.get("/api/v1/export/reviews.csv").text.splitlines()) == 1


def test_a_token_says_who_reviews(serving, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"Dr Ana {'a' * 24}\n{'b' * 24}\n")
    with serving(tmp_path / "data", token_file=tokens) as own:
        own.headers["Authorization"] = f"Bearer {'a' * 24}"
        (cell,) = cells_of(own, send(own, encoded(a_cell())))
        given = {"action": "accept"}
        path = f"/api/v1/cells/{cell['id']}/reviews"
        assert own.post(path, json=given).json()["reviewer"] == "Dr Ana"
        assert own.post(path, json=given | {"reviewer": "Ben"}).status_code == 422
        own.headers["Authorization"] = f"Bearer {'b' * 24}"
        assert own.post(path, json=given).status_code == 422
        assert own.post(path, json=given | {"reviewer": "Ben"}).json()["reviewer"] == "Ben"
