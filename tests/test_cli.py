import csv
import json
import subprocess
import sys

import pytest

import cytodistill
from cytodistill.cli import main


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command."""
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (["--recipe", "paper", "--classes", "100", "--size", "32"], 12_327_587),
        (["--classes", "100", "--size", "32", "--set", "student.multi_exit=false"], 11_220_132),
        (["--classes", "5", "--size", "32", "--set", "student.multi_exit=false"], 11_171_397),
    ],
)
def test_model_counts(capsys, arguments, parameters):
    code, out, _ = run(capsys, "model", *arguments, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["parameters"] == parameters
    assert said["exit_macs"][-1] <= said["macs"]


def test_help_imports_no_heavy_package():
    script = "import sys; from cytodistill.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    script += "print(sorted({'torch', 'pandas', 'numpy', 'pydantic', 'matplotlib', 'timm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "fit" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(capsys):
    assert run(capsys, "--version")[1].strip() == f"cytodistill {cytodistill.__version__}"


def test_a_strangers_way(capsys, tmp_path, cells, tiny):
    """inspect → split → fit → evaluate → predict, as the README has it."""
    code, out, _ = run(capsys, "data", "inspect", cells)
    assert code == 0
    assert "left" in out
    manifest = tmp_path / "manifest.csv"
    code, out, _ = run(capsys, "data", "split", cells, "-o", manifest)
    assert code == 0
    assert manifest.is_file()
    settings = [f"--set={key}={value}" for key, value in _flat(tiny).items()]
    folder = tmp_path / "run"
    code, out, err = run(capsys, "fit", manifest, "-o", folder, "--set", "train.epochs=1", *settings)
    assert code == 0, err
    assert "cytodistill evaluate" in out
    code, out, _ = run(capsys, "evaluate", folder)
    assert code == 0
    assert "Ensemble" in out
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["n"] > 0
    predictions = tmp_path / "out.csv"
    code, out, _ = run(capsys, "predict", folder, cells, "-o", predictions)
    assert code == 0
    with open(predictions, newline="") as file:
        assert len(list(csv.DictReader(file))) == 45
    code, out, err = run(capsys, "fit", manifest, "-o", folder)
    assert code == 2
    assert "--resume continues it" in err


def _flat(recipe):
    """Settings of the tiny recipe that differ from quick's, but for the epochs."""
    quick = cytodistill.Recipe.load("quick").model_dump(mode="json")
    mine = recipe.model_dump(mode="json")
    return {
        f"{section}.{key}": value
        for section in ("data", "augment", "student", "train")
        for key, value in mine[section].items()
        if value != quick[section][key] and key != "epochs"
    }


def test_an_error_is_one_line_and_debug_shows_the_traceback(capsys, tmp_path):
    code, out, err = run(capsys, "data", "inspect", tmp_path / "absent")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    with pytest.raises(cytodistill.CytodistillError):
        main(["--debug", "data", "inspect", str(tmp_path / "absent")])


def test_python_interface_is_the_same(cells, tiny, tmp_path):
    done = cytodistill.fit(cells, tmp_path / "run", recipe=tiny.override({"train.epochs": 1}))
    found = cytodistill.evaluate(done)
    assert found.metrics["classes"] == ["left", "middle", "right"]
    predictor = cytodistill.load(tmp_path / "run")
    assert predictor.predict(next(cells.rglob("*.png"))).predicted[0] in predictor.classes


@pytest.mark.parametrize(
    ("module", "left_out"),
    [("cytodistill.infer.batch", {"timm", "torchvision", "sklearn"}), ("cytodistill.train.fit", {"sklearn"})],
)
def test_what_takes_long_to_import_is_left_out_where_nothing_needs_it(module, left_out):
    """An artifact needs no networks, and only estimators train by scikit-learn: seconds, and hundreds of MiB."""
    code = f"import sys, {module}; print(sorted({left_out} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
