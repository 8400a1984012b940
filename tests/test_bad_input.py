"""Every kind of bad input gets one line that names it and the mend, exit code 2, and leaves nothing behind.

The table in docs/bad-input.md is made from the cases below: ``python tests/test_bad_input.py > docs/bad-input.md``.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cytodistill.cli import main
from cytodistill.data.cache import cached_cells
from cytodistill.data.sources import read_source
from cytodistill.errors import CytodistillError
from cytodistill.export import export
from cytodistill.infer.artifact import Artifact, write_artifact
from cytodistill.infer.fitted import Fitted
from cytodistill.train.fit import fit
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run, sole_writer

DOCS = Path(__file__).parents[1] / "docs" / "bad-input.md"
RECIPE = """
data: {image_size: 64}
student: {backbone: test_resnet, taps: 3, pretrained: none}
train: {epochs: 3, batch_size: 8, lr: 0.01, checkpoint_minutes: 0.0001}
"""


# ---------------------------------------------------------------- what the cases work on


class Interrupting(Silent):
    """Stops a run in its second epoch, when the first one's checkpoint is written."""

    def __init__(self) -> None:
        self.epochs = 0

    def say(self, line: str) -> None:
        self.epochs += " epoch " in line
        if self.epochs == 2:
            raise KeyboardInterrupt


class Stock:
    """One finished and one stopped run, made once; the cases spoil copies of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_cells(folder / "cells")
        (folder / "tiny.yaml").write_text(RECIPE)
        fit(folder / "cells", folder / "done", recipe=folder / "tiny.yaml", settings=["train.epochs=1"], device="cpu")
        with contextlib.suppress(KeyboardInterrupt):
            fit(
                folder / "cells",
                folder / "stopped",
                recipe=folder / "tiny.yaml",
                device="cpu",
                watcher=Interrupting(),
            )
        assert (folder / "stopped" / "checkpoint.pt").is_file()

    @cached_property
    def artifact(self) -> Path:
        """The finished run for ONNX Runtime."""
        return export(self.folder / "done", self.folder / "artifact").path


def write_cells(folder: Path, classes: tuple[str, ...] = ("benign", "malign"), each: int = 6) -> Path:
    """Class folders of small distinct images."""
    for code, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.Random(f"{code} {number}").randbytes(12 * 10 * 3)
            Image.frombytes("RGB", (12, 10), pixels).save(folder / name / f"{number}.png")
    return folder


class Bench:
    """The working folder of one case; paths in it are relative, so that its lines read the same anywhere."""

    def __init__(self, folder: Path, stock: Stock) -> None:
        self.folder = folder
        self.stock = stock
        self.world = contextlib.ExitStack()
        shutil.copy(stock.folder / "tiny.yaml", folder)

    def hide(self, module: str) -> None:
        """Make as if a module were not installed."""
        self.world.enter_context(mock.patch.dict(sys.modules, {module: None}))

    def unplug(self) -> None:
        """Make as if there were no internet."""
        refusal = OSError("Name or service not known")
        self.world.enter_context(mock.patch("timm.models._builder.load_state_dict_from_hf", side_effect=refusal))

    def cells(self, *classes: str, each: int = 6) -> str:
        write_cells(self.folder / "cells", classes or ("benign", "malign"), each)
        return "cells"

    def write(self, name: str, content: str | bytes = "") -> str:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def zip(self, name: str, *members: str) -> str:
        with zipfile.ZipFile(self.folder / name, "w") as file:
            for number, member in enumerate(members):
                picture = io.BytesIO()
                Image.new("RGB", (8, 8), (30 * number, 9, 7)).save(picture, "png")
                file.writestr(member, picture.getvalue())
        return name

    def manifest(self, *lines: str) -> str:
        """A CSV of the lines, in which ``benign/0`` and the like stand for images."""
        self.cells()
        text = "\n".join(re.sub(r"\b((?:benign|malign)/\d)(?!\.)", r"cells/\1.png", line) for line in lines)
        return self.write("cells.csv", text + "\n")

    def cric(self, *lines: str, header: str = "image_filename,bethesda_system,nucleus_x,nucleus_y") -> str:
        (self.folder / "cric").mkdir()
        Image.new("RGB", (200, 150)).save(self.folder / "cric" / "field.png")
        self.write("cric/classifications.csv", "\n".join([header, *lines]) + "\n")
        return "cric"

    def done(self, name: str = "done") -> Path:
        """Path of a copy of the finished run."""
        shutil.copytree(self.stock.folder / "done", self.folder / name)
        return Path(name)

    def stopped(self) -> Path:
        """Path of a copy of the run that was stopped."""
        shutil.copytree(self.stock.folder / "stopped", self.folder / "stopped")
        return Path("stopped")

    def exported(self) -> Path:
        """Path of a copy of the artifact."""
        shutil.copytree(self.stock.artifact, self.folder / "exported")
        return Path("exported")

    def weights(self, name: str = "weights.safetensors") -> str:
        save_file({"conv.weight": torch.zeros(2, 2)}, self.folder / name)
        return name

    def fit(self, source: str, *more: str) -> list[str]:
        return ["fit", source, "-o", "runs/new", "--recipe", "tiny.yaml", *more]

    def set(self, *settings: str) -> list[str]:
        """A fit that is fine but for its settings."""
        return self.fit(self.cells(), *(part for setting in settings for part in ("--set", setting)))

    def recipe(self, text: str | bytes) -> list[str]:
        return ["fit", self.cells(), "-o", "runs/new", "--recipe", self.write("mine.yaml", text)]

    def resume(self, run: Path, *more: str) -> list[str]:
        return ["fit", str(self.stock.folder / "cells"), "-o", str(run), "--resume", *more]

    def change(self, file: Path, change: Callable[[bytes], bytes]) -> None:
        path = self.folder / file
        path.write_bytes(change(path.read_bytes()))

    def change_json(self, run: Path, **values: object) -> None:
        self.change(run / "run.json", lambda old: json.dumps(json.loads(old) | values).encode())

    def snapshot(self) -> dict[str, str]:
        """Every file and folder, files with their hashes."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(self.folder.rglob("*"))
        }


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header alone says how large it is."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return body + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


# ---------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    area: str
    name: str
    arguments: Callable[[Bench], list[str]]
    line: str


CASES: list[Case] = []


def case(area: str, name: str, line: str) -> Callable:
    """Decorator: the function prepares a bench and returns the command line; ``line`` is searched in what is said."""

    def add(arguments: Callable[[Bench], list[str]]) -> Callable[[Bench], list[str]]:
        CASES.append(Case(area, name, arguments, line))
        return arguments

    return add


def cases(area: str, *rows: tuple[str, Callable[[Bench], list[str]], str]) -> None:
    CASES.extend(Case(area, name, arguments, line) for name, arguments, line in rows)


SPLIT = [
    f"{label}/{n},{label},{split}" for label in ("benign", "malign") for n, split in enumerate(("train", "val", "test"))
]
AREAS = ("Data", "Recipe and settings", "Run folder", "Weights and teacher", "Exported artifact", "Command")
DATA, SETTINGS, RUN, WEIGHTS, ARTIFACT, COMMAND = AREAS


def spoiled(content: bytes | None, name: str = "cells/malign/3.png") -> Callable[[Bench], list[str]]:
    """A fit on cells with one image spoiled."""

    def arrange(bench: Bench) -> list[str]:
        bench.cells()
        bench.write(name, (bench.folder / name).read_bytes()[:200] if content is None else content)
        return bench.fit("cells")

    return arrange


def with_manifest(*lines: str, more: tuple[str, ...] = ()) -> Callable[[Bench], list[str]]:
    return lambda bench: bench.fit(bench.manifest(*lines), *more)


@case(DATA, "empty folder", r"empty: no images in it .*check the path")
def _(bench: Bench) -> list[str]:
    (bench.folder / "empty").mkdir()
    return bench.fit("empty")


@case(DATA, "class folder without images", r"cells/other: a class folder without images .*fill it or remove it")
def _(bench: Bench) -> list[str]:
    bench.cells()
    (bench.folder / "cells" / "other").mkdir()
    return bench.fit("cells")


@case(DATA, "damaged member of a zip archive", r"cells.zip:a/0.png: cannot be unpacked .*make the archive again")
def _(bench: Bench) -> list[str]:
    bench.zip("cells.zip", *(f"{name}/{n}.png" for name in "ab" for n in range(6)))
    bench.change(Path("cells.zip"), lambda old: old.replace(b"IDAT", b"IDOT", 2))
    return bench.fit("cells.zip")


@case(DATA, "damaged cache of decoded cells", r"cells-64-.*npy: the cache is damaged; delete it and run again")
def _(bench: Bench) -> list[str]:
    bench.cells()
    cache = bench.folder / "cache"
    bench.world.enter_context(mock.patch.dict(os.environ, CYTODISTILL_CACHE=str(cache)))
    cached_cells(read_source(bench.folder / "cells"), 64, "pad")
    for file in cache.iterdir():
        file.write_bytes(b"")
    return bench.fit("cells")


@case(DATA, "manifest that is not text", r"cells.csv: not a CSV file in UTF-8 .*save it as CSV UTF-8")
def _(bench: Bench) -> list[str]:
    return bench.fit(bench.write("cells.csv", b"path,label\n\xff\xfe\x00,a\n"))


cases(
    DATA,
    ("source that is not there", lambda b: b.fit("cels"), r"cels: no such folder or file; check the path"),
    (
        "file that is no source",
        lambda b: b.fit(b.write("cells.txt", "cells")),
        r"cells.txt: neither a folder, a \.zip archive nor a manifest \.csv; give one of these",
    ),
    (
        "damaged zip archive",
        lambda b: b.fit(b.write("cells.zip", b"PK\3\4 and no more")),
        r"cells.zip: not a readable zip archive .*fetch it again",
    ),
    (
        "zip archive that points out of itself",
        lambda b: b.fit(b.zip("cells.zip", "a/1.png", "../b/1.png")),
        r"cells.zip: member '\.\./b/1.png' points out of the archive; make it again",
    ),
    ("only one class", lambda b: b.fit(b.cells("benign")), r"only the class folder benign/; .*at least 2"),
    (
        "image outside the class folders",
        spoiled(png_of_size(8, 8), "cells/stray.png"),
        r"cells/stray.png: an image outside the class folders; move it",
    ),
    ("truncated image", spoiled(None), r"cells/malign/3.png: damaged or truncated .*replace the file or remove it"),
    ("empty image file", spoiled(b""), r"malign/3.png: empty \(0 bytes\); replace the file or remove it"),
    (
        "text file with an image's name",
        spoiled(b"no picture"),
        r"malign/3.png: not a readable PNG.*convert the file or remove it",
    ),
    (
        "image that is too large, by its header",
        spoiled(png_of_size(60_000, 60_000)),
        r"malign/3.png: .*more than the 100 megapixels allowed; cut it",
    ),
    ("image of one pixel", spoiled(png_of_size(1, 1)), r"malign/3.png: 1×1 pixels, too small .*remove the file"),
    (
        "class with too few groups for a split",
        lambda b: b.fit(b.cells(each=2)),
        r"class 'benign' has 2 cells in 2 group\(s\), and 3 splits need .*; add cells",
    ),
    (
        "unknown --format",
        lambda b: b.fit(b.cells(), "--format", "sipakmet"),
        r"--format sipakmet: not known; the formats are sipakmed",
    ),
    (
        "--format that does not fit",
        lambda b: b.fit(b.cells(), "--format", "herlev"),
        r"cells: does not look like herlev .*the formats are",
    ),
    (
        "CRIC: column missing",
        lambda b: b.fit(b.cric(header="image_filename,bethesda_system,nucleus_x")),
        r"classifications.csv: no column nucleus_y; CRIC's file has",
    ),
    (
        "CRIC: image absent",
        lambda b: b.fit(b.cric("gone.png,NILM,10,10")),
        r"classifications.csv, line 2: the image 'gone.png' is neither .*add them or remove",
    ),
    (
        "CRIC: coordinate that is no number",
        lambda b: b.fit(b.cric("field.png,NILM,ten,10")),
        r"classifications.csv, line 2: nucleus_x 'ten' is not a number; mend the line",
    ),
    (
        "CRIC: coordinate outside its image",
        lambda b: b.fit(b.cric("field.png,NILM,10,900")),
        r"line 2: the nucleus at \(10, 900\) is outside field.png",
    ),
    (
        "CRIC: unknown class",
        lambda b: b.fit(b.cric("field.png,CIN3,10,10")),
        r"line 2: bethesda_system 'CIN3' is not one of NILM",
    ),
    ("manifest: column missing", with_manifest("path", "benign/0"), r"cells.csv: no column label; a manifest needs"),
    (
        "manifest: image absent",
        with_manifest("path,label", "cells/benign/gone.png,benign"),
        r"cells.csv, line 2: the image .*gone.png does not exist; correct path or root",
    ),
    (
        "manifest: unknown split",
        with_manifest("path,label,split", "benign/0,benign,training"),
        r"cells.csv, line 2: split 'training' is not known; use train, val, test",
    ),
    (
        "manifest: some cells without a split",
        with_manifest("path,label,split", "benign/0,benign,train", "malign/0,malign,"),
        r"cells.csv: 1 cells have no split and the others have; give each one, or none",
    ),
    (
        "manifest: cell without a label",
        with_manifest("path,label", "benign/0,benign", "malign/0,"),
        r"cells.csv, line 3: no label; fill it or remove the line",
    ),
    (
        "manifest: half a window",
        with_manifest("path,label,x,y,width,height", "benign/0,benign,1,1,5,"),
        r"cells.csv, line 2: a window without height; give x, y, width and height, or none",
    ),
    (
        "manifest: window outside its image",
        with_manifest(
            "path,label,split,x,y,width,height",
            "benign/0,benign,train,900,1,5,5",
            "malign/0,malign,train,1,1,5,5",
            more=("--set", "data.val_fraction=0"),
        ),
        r"benign/0.png: the window 5×5 at \(900, 1\) lies outside the image .*correct its coordinates",
    ),
    (
        "manifest: group in two splits",
        with_manifest(
            "path,label,group,split", "benign/0,benign,p1,train", "malign/0,malign,p2,train", "malign/1,malign,p1,val"
        ),
        r"group 'p1' has cells in splits train and val .*split again .*--group none",
    ),
    (
        "manifest: training split of one class",
        with_manifest(
            "path,label,split",
            "benign/0,benign,train",
            "benign/1,benign,train",
            "benign/2,benign,val",
            "malign/0,malign,test",
        ),
        r"cells.csv: the training split has 2 cells of 1 class.* at least two",
    ),
    (
        "manifest: too few groups for a validation split",
        with_manifest("path,label,split", "benign/0,benign,train", "malign/0,malign,train", "malign/1,malign,test"),
        r"class 'benign' has 1 cells in 1 group\(s\).*data\.val_fraction=0",
    ),
    (
        "manifest: same image twice",
        with_manifest("path,label", "benign/0,benign", "benign/0,malign"),
        r"cells.csv, line 3: the same image and window as line 2; keep one",
    ),
    (
        "--set data.fold without folds",
        lambda b: b.set("data.fold=1"),
        r"data.fold=1: the table has no folds .*--folds 5",
    ),
)

cases(
    SETTINGS,
    (
        "unknown recipe",
        lambda b: ["fit", b.cells(), "-o", "runs/new", "--recipe", "papper"],
        r"recipe 'papper': no such recipe; there are .*paper.*, or give a \.yaml file",
    ),
    (
        "recipe file that is not there",
        lambda b: ["fit", b.cells(), "-o", "runs/new", "--recipe", "mine.yaml"],
        r"recipe mine.yaml: no such file",
    ),
    ("recipe that is not YAML", lambda b: b.recipe("train: [1, 2\nlr: {"), r"recipe mine.yaml: not YAML .*line \d"),
    ("recipe that is not text", lambda b: b.recipe(b"train: \xff\xfe"), r"recipe mine.yaml: not .*UTF-8"),
    ("recipe without sections", lambda b: b.recipe("just words"), r"recipe mine.yaml: expected sections such as"),
    (
        "unknown section",
        lambda b: b.recipe("trian: {epochs: 3}"),
        r"recipe mine.yaml: trian: unknown setting; did you mean 'train'\?",
    ),
    (
        "section that is no section",
        lambda b: b.recipe("train: 3"),
        r"recipe mine.yaml: train=3: expected a section of settings",
    ),
    ("recipe with a number for a name", lambda b: b.recipe("1: 2"), r"recipe mine.yaml: 1=1: keys should be strings"),
    (
        "unknown setting",
        lambda b: b.set("train.epoch=3"),
        r"--set: train.epoch: unknown setting; did you mean 'epochs'\?",
    ),
    (
        "unknown section in --set",
        lambda b: b.set("trian.epochs=3"),
        r"--set trian.epochs: there is no section 'trian'; did you mean 'train'\?",
    ),
    (
        "date that the calendar does not have",
        lambda b: b.set("train.lr=2020-13-45"),
        r"--set 'train.lr=2020-13-45': '2020-13-45' is not a YAML value",
    ),
    (
        "wrong type",
        lambda b: b.set("train.epochs=many"),
        r"--set: train.epochs='many': input should be a valid integer",
    ),
    ("out of range", lambda b: b.set("train.lr=-1"), r"--set: train.lr=-1: input should be greater than 0"),
    ("not a number", lambda b: b.set("train.lr=.nan"), r"--set: train.lr=nan: input should be "),
    ("infinite", lambda b: b.set("train.weight_decay=.inf"), r"--set: train.weight_decay=inf: input should be "),
    ("infinite setting of a method", lambda b: b.set("method.temperature=.inf"), r"method.temperature=inf: .*finite"),
    (
        "not one of the choices",
        lambda b: b.set("train.optimizer=adam"),
        r"--set: train.optimizer='adam': input should be 'sgd' or 'adamw'",
    ),
    ("--set without a value", lambda b: b.set("train.epochs"), r"--set 'train.epochs': write it as section.key=value"),
    ("--set with a broken value", lambda b: b.set("data.mean=[1"), r"--set 'data.mean=\[1': '\[1' is not a YAML value"),
    ("bad ratio", lambda b: b.set("data.ratio=3:1"), r"--set: data.ratio='3:1': .*like 3:1:1"),
    ("falling crop scale", lambda b: b.set("augment.scale=[1, 0.5]"), r"augment.*scale must be two rising numbers"),
    ("Nesterov without momentum", lambda b: b.set("train.nesterov=true", "train.momentum=0"), r"nesterov needs"),
    ("unknown method", lambda b: b.set("method.name=kdd"), r"method.name='kdd': no such method; did you mean 'kd'\?"),
    (
        "unknown setting of a method",
        lambda b: b.set("method.temprature=2"),
        r"method.temprature: 'self_distillation' has no such setting; did you mean 'temperature'\?",
    ),
    (
        "method's setting out of range",
        lambda b: b.set("method.temperature=0"),
        r"method.temperature=0: input should be greater than 0",
    ),
    ("kd without a teacher", lambda b: b.set("method.name=kd"), r"method.name=kd: needs a teacher; give --teacher"),
    (
        "teacher for a method that takes none",
        lambda b: b.set("method.name=supervised", "teacher.source=test_vit", "teacher.pretrained=none"),
        r"method.name=supervised: does not learn from a teacher; set --teacher none",
    ),
    (
        "self-distillation of one exit",
        lambda b: b.set("student.multi_exit=false"),
        r"self_distillation: the student has one exit.*set student.multi_exit=true",
    ),
    (
        "method of one exit on a student with several",
        lambda b: b.set("method.name=supervised"),
        r"method.name=supervised: trains the deepest exit alone .*set student.multi_exit=false",
    ),
    (
        "milestones beyond the last epoch",
        lambda b: b.set("train.schedule=multistep", "train.epochs=9", "train.milestones=[20, 30]"),
        r"milestones \[20, 30\] all lie beyond the 9 epochs, .*set train.milestones too",
    ),
    (
        "deep supervision of one exit",
        lambda b: b.set("method.name=deep_supervision", "student.multi_exit=false"),
        r"deep_supervision: the student has one exit.* set student.multi_exit=true",
    ),
    (
        "hint at a stage that is not there",
        lambda b: b.set(
            "student.multi_exit=false",
            "method.name=fitnet",
            "method.hint_stage=5",
            "teacher.source=test_vit",
            "teacher.pretrained=none",
        ),
        r"method.hint_stage=5: student and teacher share 4 stages; use 4 or fewer",
    ),
    (
        "MSDNet with one exit",
        lambda b: b.set("student.backbone=msdnet_4", "student.multi_exit=false", "method.name=supervised"),
        r"student.backbone=msdnet_4: is a network of several exits; set student.multi_exit=true",
    ),
    (
        "images too small for a network",
        lambda b: b.set(
            *("student.backbone=deeppap", "student.multi_exit=false", "method.name=supervised", "data.image_size=32")
        ),
        r"data.image_size=32: 'deeppap' cannot take images that small; use 63 px or more",
    ),
    (
        "images too small for a network of timm's",
        lambda b: b.set("student.backbone=inception_v3", "student.multi_exit=false", "method.name=supervised"),
        r"data.image_size=64: the network cannot take images of that size .*use larger ones",
    ),
    (
        "snapshots without cycles",
        lambda b: b.set("student.multi_exit=false", "method.name=snapshot"),
        r"method.name=snapshot: learns from what an earlier cycle .*set train.cycles=2 or more",
    ),
    ("cycles of broken epochs", lambda b: b.set("train.cycles=2"), r"3 epochs are not 2 cycles of whole epochs"),
    (
        "cycles of a schedule that has none",
        lambda b: b.set("train.cycles=3", "train.schedule=constant"),
        r"schedule constant does not run in cycles; set train.schedule=cosine",
    ),
    (
        "estimator with a teacher",
        lambda b: b.set("estimator.head=svm", "student.multi_exit=false", "teacher.source=test_vit"),
        r"estimator.head=svm: learns from no teacher; set --teacher none",
    ),
    (
        "estimator with several exits",
        lambda b: b.set("estimator.head=svm"),
        r"estimator.head=svm: has one exit; set student.multi_exit=false",
    ),
    (
        "more components than features",
        lambda b: b.set("estimator.head=svm", "student.multi_exit=false", "estimator.components=4000"),
        r"estimator.components=4000: \d+ features of \d+ training cells have at most \d+; lower it",
    ),
    (
        "more clusters than cells",
        lambda b: b.set("estimator.head=gcn", "student.multi_exit=false", "estimator.clusters=200"),
        r"estimator.clusters=200: there are \d+ training cells to cluster; lower it",
    ),
    (
        "more neighbours than clusters",
        lambda b: b.set("estimator.clusters=4"),
        r"neighbours=8: a cluster has 3 others; lower it, or raise clusters",
    ),
    (
        "features of maps that are none",
        lambda b: b.set(
            *("estimator.head=svm", "estimator.features=conv", "student.multi_exit=false", "student.backbone=test_vit")
        ),
        r"estimator.features=conv: student.backbone has no convolutional map; set estimator.features=fc",
    ),
    (
        "contours from files that are not there",
        lambda b: b.set(
            *("estimator.head=svm", "estimator.features=shape", "estimator.contours=file", "student.multi_exit=false")
        ),
        r"cells/\w+/\d.png: has no contours .*set estimator.contours=auto to have such cells segmented",
    ),
    (
        "natural-image weights that nobody has",
        lambda b: b.set("student.backbone=cifar_resnet8", "student.pretrained=imagenet"),
        r"student.pretrained=imagenet: there are no such weights of 'cifar_resnet8'",
    ),
    (
        "unknown backbone",
        lambda b: b.set("student.backbone=resnet81"),
        r"student.backbone='resnet81': timm has no such model; did you mean",
    ),
    (
        "small-image stem on a network without one",
        lambda b: b.set("student.backbone=test_vit", "student.stem=cifar"),
        r"student.stem=cifar: 'test_vit' has no ResNet stem .*use stem: imagenet",
    ),
    ("more exits than stages", lambda b: b.set("student.taps=8"), r"student.taps=8: 'test_resnet' has \d stages"),
    (
        "image smaller than the network's stride",
        lambda b: b.set("data.image_size=16", "student.stem=imagenet"),
        r"data.image_size=16: 'test_resnet' strides by 32; use 32 px or more",
    ),
    (
        "unknown setting of the teacher's training",
        lambda b: b.set(
            "method.name=kd", "teacher.source=test_vit", "teacher.pretrained=none", "teacher.train={epoch: 1}"
        ),
        r"teacher.train: train.epoch: unknown setting; did you mean 'epochs'\?",
    ),
)


@case(SETTINGS, "TensorBoard that is not installed", r"train.tensorboard=true: .*pip install 'cytodistill\[track\]'")
def _(bench: Bench) -> list[str]:
    bench.hide("torch.utils.tensorboard")
    return bench.set("train.tensorboard=true")


def spoil(file: str, change: Callable[[bytes], bytes], command: str = "evaluate") -> Callable[[Bench], list[str]]:
    """A finished run with one file changed."""

    def arrange(bench: Bench) -> list[str]:
        run = bench.done()
        bench.change(run / file, change)
        return [command, str(run)]

    return arrange


@case(RUN, "fit into a run without --resume", r"done: holds a run already; --resume continues it, or choose another")
def _(bench: Bench) -> list[str]:
    return ["fit", bench.cells(), "-o", str(bench.done()), "--recipe", "tiny.yaml"]


@case(RUN, "fit into a file", r"notes.txt: is not empty and not a run folder; choose another folder")
def _(bench: Bench) -> list[str]:
    return ["fit", bench.cells(), "-o", bench.write("notes.txt", "x"), "--recipe", "tiny.yaml"]


@case(RUN, "fit below a file", r"notes.txt/run: cannot be made a folder .*choose another")
def _(bench: Bench) -> list[str]:
    return ["fit", bench.cells(), "-o", bench.write("notes.txt", "x") + "/run", "--recipe", "tiny.yaml"]


@case(RUN, "fit into another folder that is not empty", r"papers: is not empty and not a run folder; choose another")
def _(bench: Bench) -> list[str]:
    bench.write("papers/notes.txt")
    return ["fit", bench.cells(), "-o", "papers", "--recipe", "tiny.yaml"]


@case(RUN, "--resume in another folder that is not empty", r"papers: is not empty and not a run folder; choose another")
def _(bench: Bench) -> list[str]:
    bench.write("papers/notes.txt")
    return ["fit", bench.cells(), "-o", "papers", "--recipe", "tiny.yaml", "--resume"]


@case(
    RUN, "--resume with another recipe", r"stopped: --resume .*train.lr is 0.5 now and 0.01 there; leave the settings"
)
def _(bench: Bench) -> list[str]:
    return bench.resume(bench.stopped(), "--set", "train.lr=0.5")


@case(RUN, "--resume with other cells", r"stopped: --resume goes on with the cells and splits .*give the same, or")
def _(bench: Bench) -> list[str]:
    return ["fit", bench.cells(each=9), "-o", str(bench.stopped()), "--resume"]


@case(
    RUN, "evaluation on cells that trained the run", r"cells: \d+ of its \d+ cells trained this run, .*leave SOURCE out"
)
def _(bench: Bench) -> list[str]:
    shutil.copytree(bench.stock.folder / "cells", bench.folder / "cells")
    return ["evaluate", str(bench.done()), "cells"]


@case(
    RUN, "calibrators fitted on test cells", r"calibration.json: was fitted on the split 'test', which must not judge"
)
def _(bench: Bench) -> list[str]:
    run = bench.done()
    fingerprint = json.loads((bench.folder / run / "run.json").read_text())["fingerprint"]
    content = {"format": 1, "run": fingerprint, "fitted_on": {"split": "test", "cells": 2, "groups": 2}}
    bench.write(f"{run}/calibration.json", json.dumps(content))
    return ["evaluate", str(run)]


@case(RUN, "calibrators of another run", r"calibration.json: was fitted for another run; delete it")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    content = {"format": 1, "run": "of another", "fitted_on": {"split": "val", "cells": 2, "groups": 2}}
    bench.write(f"{run}/calibration.json", json.dumps(content))
    return ["evaluate", str(run)]


@case(RUN, "calibrators of other weights", r"calibration.json: was fitted on the answers of other weights than the run")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    fingerprint = json.loads((bench.folder / run / "run.json").read_text())["fingerprint"]
    Fitted(fingerprint, 2, 2, (), (), {}, None, (), None, "0" * 64).write(bench.folder / run)
    return ["evaluate", str(run)]


@case(WEIGHTS, "teacher that has seen the test cells", r"teacher.source=done: \d+ of the \d+ test cells trained that")
def _(bench: Bench) -> list[str]:
    shutil.copytree(bench.stock.folder / "cells", bench.folder / "cells")
    return bench.fit("cells", "--teacher", str(bench.done()), "--set", "seed=5")


@case(DATA, "manifest with folds and no test fold", r"cells.csv: has folds and no splits; .*--set data.fold=0 \(to 2\)")
def _(bench: Bench) -> list[str]:
    rows = [f"{name}/{number},{name},{number % 3}" for name in ("benign", "malign") for number in range(6)]
    return bench.fit(bench.manifest("path,label,fold", *rows))


@case(RUN, "--resume with a damaged checkpoint", r"checkpoint.pt: the checkpoint is damaged .*fit again")
def _(bench: Bench) -> list[str]:
    run = bench.stopped()
    bench.change(run / "checkpoint.pt", lambda old: old[: len(old) // 2])
    return bench.resume(run)


@case(RUN, "--resume with an empty checkpoint", r"checkpoint.pt: the checkpoint is damaged .*fit again")
def _(bench: Bench) -> list[str]:
    run = bench.stopped()
    bench.change(run / "checkpoint.pt", lambda old: b"")
    return bench.resume(run)


@case(
    RUN, "--resume with the checkpoint of another recipe", r"checkpoint.pt: written with another recipe, seed or cells"
)
def _(bench: Bench) -> list[str]:
    run = bench.stopped()
    state = torch.load(bench.folder / run / "checkpoint.pt", weights_only=True)
    torch.save({**state, "fingerprint": "of another"}, bench.folder / run / "checkpoint.pt")
    return bench.resume(run)


@case(RUN, "run that another process is training", r"stopped: another process is training into it; wait for it or stop")
def _(bench: Bench) -> list[str]:
    run = bench.stopped()
    bench.world.enter_context(sole_writer(bench.folder / run))
    return bench.resume(run)


@case(RUN, "evaluate a folder that is no run", r"cells: not a run folder \(it has no run.json\); make one with")
def _(bench: Bench) -> list[str]:
    return ["evaluate", bench.cells()]


@case(RUN, "unfinished run", r"stopped: the run is not finished; continue it with .*--resume")
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.stopped())]


@case(RUN, "run.json of a later version", r"run.json: written by another version \(format 99\); update cytodistill")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    bench.change_json(run, format=99, recipe={"optics": 1})
    return ["evaluate", str(run)]


@case(RUN, "run.json without its parts", r"run.json: damaged \(.*'table'\); fit again")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    text = json.loads((bench.folder / run / "run.json").read_text())
    del text["table"]
    bench.write("done/run.json", json.dumps(text))
    return ["evaluate", str(run)]


@case(RUN, "weights gone", r"model.safetensors: gone; fit again")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    (bench.folder / run / "model.safetensors").unlink()
    return ["predict", str(run), bench.cells()]


@case(RUN, "weights of another network", r"model.safetensors: damaged or of another network .*fit again")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    bench.weights(f"{run}/model.safetensors")
    return ["evaluate", str(run)]


@case(RUN, "manifest gone", r"manifest.csv: gone; give a source or manifest to work on")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    (bench.folder / run / "manifest.csv").unlink()
    return ["evaluate", str(run)]


@case(RUN, "images of the run gone", r"manifest.csv, line 2: the image .* does not exist; correct path or root")
def _(bench: Bench) -> list[str]:
    run = bench.done()
    bench.change(run / "manifest.csv", lambda old: old.replace(str(bench.stock.folder / "cells").encode(), b"/moved"))
    return ["evaluate", str(run)]


cases(
    RUN,
    ("run that is not there", lambda b: ["evaluate", "runs/none"], r"runs/none: no such folder; make one with"),
    ("damaged run.json", spoil("run.json", lambda old: old[:100]), r"run.json: damaged \(.*\); fit again"),
    ("run.json of something else", spoil("run.json", lambda old: b"[]"), r"run.json: damaged \(.*\); fit again"),
    ("truncated weights", spoil("model.safetensors", lambda old: old[:-50]), r"model.safetensors: damaged .*fit again"),
    ("empty weights", spoil("model.safetensors", lambda old: b""), r"model.safetensors: damaged .*fit again"),
    (
        "manifest changed: a split",
        spoil("manifest.csv", lambda old: old.replace(b",test,", b",val,", 1)),
        r"manifest.csv: not the table that the run was fitted on .*give the changed one as SOURCE",
    ),
    (
        "manifest changed: a label",
        spoil("manifest.csv", lambda old: old.replace(b",benign,", b",benigm,", 1)),
        r"manifest.csv: not the table that the run was fitted on .*give the changed one as SOURCE",
    ),
)


def with_weights(name: str, content: bytes) -> Callable[[Bench], list[str]]:
    return lambda bench: bench.fit(bench.cells(), "--pretrained", bench.write(name, content))


@case(WEIGHTS, "weights of another network as start", r"student.pretrained='weights.safetensors': fits 0 of .*another")
def _(bench: Bench) -> list[str]:
    return bench.fit(bench.cells(), "--pretrained", bench.weights())


class Planted:
    """Pickles as code that would print; loading must refuse it."""

    def __reduce__(self):
        return print, ("ran",)


@case(WEIGHTS, "pickled code in a weight file", r"weights.pt': holds more than tensors .*; save its state_dict as")
def _(bench: Bench) -> list[str]:
    torch.save({"conv.weight": Planted()}, bench.folder / "weights.pt")
    return bench.fit(bench.cells(), "--pretrained", "weights.pt")


@case(WEIGHTS, "weight file without a state dict", r"weights.pt': not a state dict of tensors; ")
def _(bench: Bench) -> list[str]:
    torch.save([1, 2], bench.folder / "weights.pt")
    return bench.fit(bench.cells(), "--pretrained", "weights.pt")


@case(WEIGHTS, "weights that timm's hub cannot give", r"student.pretrained=imagenet: .*give a local file")
def _(bench: Bench) -> list[str]:
    bench.unplug()
    return bench.fit(bench.cells(), "--pretrained", "imagenet")


def taught(bench: Bench, teacher: str, *settings: str) -> list[str]:
    more = [part for setting in ("method.name=kd", "teacher.pretrained=none", *settings) for part in ("--set", setting)]
    return bench.fit(bench.cells(), "--teacher", teacher, *more)


@case(WEIGHTS, "teacher of other classes", r"teacher.source=done: its classes \(benign, malign\) are not those of the")
def _(bench: Bench) -> list[str]:
    return bench.fit(bench.cells("x", "y"), "--teacher", str(bench.done()), "--set", "method.name=kd")


@case(WEIGHTS, "teacher of another weight file's network", r"teacher.source='test_resnet.safetensors': fits 0 of")
def _(bench: Bench) -> list[str]:
    return taught(bench, bench.weights("test_resnet.safetensors"))


cases(
    WEIGHTS,
    (
        "weight file that is not there",
        lambda b: b.fit(b.cells(), "--pretrained", "resnet18.safetensors"),
        r"student.pretrained='resnet18.safetensors': no such weight file or run folder",
    ),
    (
        "text as .safetensors",
        with_weights("weights.safetensors", b"weights"),
        r"student.pretrained='weights.safetensors': not a readable weight file",
    ),
    (
        "text as .pt",
        with_weights("weights.pt", b"these are not weights"),
        r"student.pretrained='weights.pt': not a readable weight file",
    ),
    ("empty .pt", with_weights("weights.pt", b""), r"student.pretrained='weights.pt': not a readable weight file"),
    (
        "folder that is no run as start",
        lambda b: b.fit(b.cells(), "--pretrained", "cells"),
        r"student.pretrained='cells.*': no such weight file or run folder",
    ),
    (
        "unknown teacher",
        lambda b: taught(b, "resnet81"),
        r"teacher.source='resnet81': timm has no such model; did you mean",
    ),
    (
        "teacher's run folder that is not there",
        lambda b: taught(b, "runs/teacher"),
        r"teacher.source='runs/teacher': no such weight file or run folder",
    ),
    (
        "teacher's weight file that is not there",
        lambda b: taught(b, "teacher.pt"),
        r"teacher.source='teacher.pt': no such weight file or run folder",
    ),
    (
        "teacher's weight file without a network's name",
        lambda b: taught(b, b.weights("best.safetensors")),
        r"teacher.source='best.safetensors': the file's name does not say .*set teacher.backbone",
    ),
    (
        "teacher that is not finished",
        lambda b: taught(b, str(b.stopped())),
        r"teacher.source=stopped: that run is not finished; resume it",
    ),
    (
        "teacher of another image size",
        lambda b: taught(b, str(b.done()), "data.image_size=96"),
        r"teacher.source=done: fitted with data.image_size=64, the student has 96",
    ),
)


def harmed(file: str, change: Callable[[bytes], bytes], command: str = "predict") -> Callable[[Bench], list[str]]:
    """An artifact with one file changed, asked for answers."""

    def arrange(bench: Bench) -> list[str]:
        artifact = bench.exported()
        bench.change(artifact / file, change)
        return [command, str(artifact), bench.cells(), *(["-o", "out.csv"] if command == "predict" else [])]

    return arrange


@case(ARTIFACT, "graph of an artifact renamed", r"exported/segment2.onnx: cannot be read .*export the run again")
def _(bench: Bench) -> list[str]:
    artifact = bench.exported()
    (bench.folder / artifact / "segment2.onnx").rename(bench.folder / artifact / "deep.onnx")
    return ["predict", str(artifact), bench.cells(), "-o", "out.csv"]


@case(ARTIFACT, "two graphs of an artifact in each other's place", r"exported/segment1.onnx: not the file that was")
def _(bench: Bench) -> list[str]:
    artifact = bench.folder / bench.exported()
    for old, new in (("segment1", "kept"), ("segment2", "segment1"), ("kept", "segment2")):
        (artifact / f"{old}.onnx").rename(artifact / f"{new}.onnx")
    return ["predict", "exported", bench.cells(), "-o", "out.csv"]


@case(
    ARTIFACT, "graph of another run's artifact", r"exported/whole.onnx: not whole of this run, but whole of another; "
)
def _(bench: Bench) -> list[str]:
    artifact = Artifact.open(bench.folder / bench.exported())
    other = {**artifact.info, "run": {**artifact.info["run"], "weights": "0" * 64}}
    graphs = dataclasses.replace(artifact.graphs, weights="0" * 64)
    (artifact.path / "artifact.json").unlink()
    write_artifact(artifact.path, other, graphs)  # as whoever puts a folder together by hand would write it
    return ["predict", "exported", bench.cells(), "-o", "out.csv"]


@case(ARTIFACT, "artifact.json gone", r"exported/artifact.json: gone; export the run again")
def _(bench: Bench) -> list[str]:
    artifact = bench.exported()
    (bench.folder / artifact / "artifact.json").unlink()
    return ["predict", str(artifact), bench.cells(), "-o", "out.csv"]


@case(ARTIFACT, "export into an artifact", r"exported: holds an artifact already; delete it, or name another folder")
def _(bench: Bench) -> list[str]:
    return ["export", str(bench.done()), "-o", str(bench.exported())]


@case(ARTIFACT, "export of an artifact", r"exported: is an artifact; give the run that it was made from")
def _(bench: Bench) -> list[str]:
    return ["export", str(bench.exported()), "-o", "again"]


cases(
    ARTIFACT,
    (
        "damaged graph of an artifact",
        harmed("whole.onnx", lambda old: old[:900] + bytes([old[900] ^ 1]) + old[901:]),
        r"exported/whole.onnx: not the file that was exported \(its SHA-256 differs\)",
    ),
    (
        "truncated graph of an artifact",
        harmed("segment1.onnx", lambda old: old[: len(old) // 2]),
        r"exported/segment1.onnx: not the file that was exported \(\d+ bytes, and \d+ were written\)",
    ),
    (
        "truncated graph of an artifact, evaluated",
        harmed("whole.onnx", lambda old: old[:-1], "evaluate"),
        r"exported/whole.onnx: not the file that was exported \(\d+ bytes, and \d+ were written\)",
    ),
    (
        "other classes in artifact.json",
        harmed("artifact.json", lambda old: old.replace(b"benign", b"malign")),
        r"exported/artifact.json: changed since it was written; export the run again",
    ),
    (
        "truncated artifact.json",
        harmed("artifact.json", lambda old: old[:100]),
        r"exported/artifact.json: damaged \(JSONDecodeError\); export the run again",
    ),
)


@case(
    COMMAND, "evaluate on cells of other classes", r"cells: class 'x' is not one of the run's classes \(benign, malign"
)
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.done()), bench.cells("x", "y")]


@case(
    COMMAND, "evaluate on a split that is not there", r"cells.csv: no cells in split 'val'; choose another with --split"
)
def _(bench: Bench) -> list[str]:
    source = bench.manifest("path,label,split", "benign/0,benign,test", "malign/0,malign,test")
    return ["evaluate", str(bench.done()), source, "--split", "val"]


@case(COMMAND, "evaluate into a file", r"notes.txt: cannot be made a folder .*choose another")
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.done()), "-o", bench.write("notes.txt")]


@case(COMMAND, "GPU where there is none", r"--device cuda: torch finds no GPU here; use --device cpu")
def _(bench: Bench) -> list[str]:
    bench.world.enter_context(mock.patch("torch.cuda.is_available", return_value=False))
    return ["evaluate", str(bench.done()), "--device", "cuda"]


@case(COMMAND, "predict without images", r"empty: no images in it .*check the path")
def _(bench: Bench) -> list[str]:
    (bench.folder / "empty").mkdir()
    return ["predict", str(bench.done()), "empty"]


@case(COMMAND, "predict into a folder", r"cells.csv: is a folder, and a file is to be written; choose another name")
def _(bench: Bench) -> list[str]:
    (bench.folder / "cells.csv").mkdir()
    return ["predict", str(bench.done()), bench.cells(), "-o", "cells.csv"]


@case(COMMAND, "synth into a folder that is not empty", r"cells: already exists and is not an empty folder; name a new")
def _(bench: Bench) -> list[str]:
    return ["data", "synth", bench.cells(), "--cells", "100"]


@case(COMMAND, "synth below a file", r"notes.txt/cells: cannot be written")
def _(bench: Bench) -> list[str]:
    return ["data", "synth", bench.write("notes.txt") + "/cells", "--cells", "100"]


@case(COMMAND, "demo into a folder that is no demo", r"cells: is not empty and not an earlier demo; choose another")
def _(bench: Bench) -> list[str]:
    return ["demo", "-o", bench.cells()]


@case(COMMAND, "evaluate on one group", r"cells.csv: its 2 cells are all of the group 'slide', .*--one-group")
def _(bench: Bench) -> list[str]:
    source = bench.manifest("path,label,group", "benign/0,benign,slide", "malign/0,malign,slide")
    return ["evaluate", str(bench.done()), source]


@case(COMMAND, "evaluate by a map that misses a class", r"--map herlev-binary: does not say of class 'benign'")
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.done()), "--map", "herlev-binary"]


@case(COMMAND, "external test with one map", r"--source-map: is for an external test; give SOURCE and the --map")
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.done()), bench.cells("x", "y"), "--source-map", "cric-binary"]


@case(
    COMMAND,
    "evaluate with folds",
    r"--folds 5: a finished run .*fit SOURCE -o CV --folds 5`, and `cytodistill evaluate CV`",
)
def _(bench: Bench) -> list[str]:
    return ["evaluate", str(bench.done()), "--folds", "5"]


@case(COMMAND, "comparison of one run", r"compare: 1 run is given; give two or more, the reference first")
def _(bench: Bench) -> list[str]:
    return ["compare", str(bench.done())]


@case(COMMAND, "comparison on cells that trained a run", r"cells: \d+ of its \d+ cells trained this run")
def _(bench: Bench) -> list[str]:
    bench.done("other")
    return ["compare", str(bench.done()), "other", bench.cells()]


@case(COMMAND, "comparison on one group", r"all of the group 'slide', and a comparison needs two groups or more; add")
def _(bench: Bench) -> list[str]:
    source = bench.manifest("path,label,group", "benign/0,benign,slide", "malign/0,malign,slide")
    bench.done("other")
    return ["compare", str(bench.done()), "other", source]


@case(
    COMMAND, "comparison of runs of other test cells", r"other: its test cells are not those of done .*give cells that"
)
def _(bench: Bench) -> list[str]:
    run = bench.done("other")
    table = Run.open(bench.folder / run).table()
    split = table.frame["split"].replace({"test": "val", "val": "test"})
    table = table.with_frame(table.frame.assign(split=split))
    table.write(bench.folder / run / "manifest.csv")
    info = json.loads((bench.folder / run / "run.json").read_text())
    bench.change_json(run, table=info["table"] | {"digest": table.digest()})
    return ["compare", str(bench.done()), str(run)]


@case(
    COMMAND,
    "groups' file without a file of cells",
    r"--groups g.csv: is made from the file of cells; name that with -o",
)
def _(bench: Bench) -> list[str]:
    return ["predict", str(bench.done()), bench.cells(), "--groups", "g.csv"]


@case(
    COMMAND,
    "groups' file of a run without points",
    r"--groups: done has no points of groups .*`cytodistill evaluate done`",
)
def _(bench: Bench) -> list[str]:
    return ["predict", str(bench.done()), bench.cells(), "-o", "o.csv", "--groups", "g.csv"]


@case(COMMAND, "group point without a groups' file", r"--group-point max: decides for whole groups; give .*--groups")
def _(bench: Bench) -> list[str]:
    return ["predict", str(bench.done()), bench.cells(), "-o", "o.csv", "--group-point", "max"]


@case(COMMAND, "audit of cells without groups", r"cells: every cell is a group of its own.*data inspect --near")
def _(bench: Bench) -> list[str]:
    return ["audit", bench.cells(), "-o", "audit", "--pretrained", "none"]


@case(COMMAND, "audit into a folder that is not empty", r"papers: is not empty and holds no audit; choose another")
def _(bench: Bench) -> list[str]:
    bench.write("papers/notes.txt")
    rows = [f"{name}/{n},{name},slide{n // 2}" for name in ("benign", "malign") for n in range(6)]
    return ["audit", bench.manifest("path,label,group", *rows), "-o", "papers", "--pretrained", "none"]


cases(
    COMMAND,
    (
        "evaluate by a map that is not there",
        lambda b: ["evaluate", str(b.done()), "--map", "herlev-binry"],
        r"herlev-binry.*herlev-binary",
    ),
    (
        "predict at an operating point that is not there",
        lambda b: ["predict", str(b.done()), b.cells(), "--operating-point", "youden"],
        r"--operating-point youden: done has none, for .*",
    ),
    (
        "predict with sets that are not there",
        lambda b: ["predict", str(b.done()), b.cells(), "--sets", "lac-0.5"],
        r"--sets lac-0.5: done has none",
    ),
    (
        "predict by a policy that is not there",
        lambda b: ["predict", str(b.done()), b.cells(), "--policy", "early"],
        r"policy 'early': done has none.*cytodistill policy done",
    ),
    (
        "predict raw probabilities as sets",
        lambda b: ["predict", str(b.done()), b.cells(), "--raw", "--sets", "lac-0.9"],
        r"--sets lac-0.9: was chosen on calibrated probabilities; leave --raw out",
    ),
    (
        "resume what went to standard output",
        lambda b: ["predict", str(b.done()), b.cells(), "--resume"],
        r"--resume: what went to standard output cannot be resumed; name a file with -o",
    ),
    (
        "evaluate an unknown split",
        lambda b: ["evaluate", str(b.done()), "--split", "dev"],
        r"--split dev: choose train, val, test or all",
    ),
    (
        "predict into an unknown kind of file",
        lambda b: ["predict", str(b.done()), b.cells(), "-o", "out.xlsx"],
        r"out.xlsx: predictions are written as \.csv or \.jsonl; name the file so",
    ),
    (
        "predict from what is not there",
        lambda b: ["predict", str(b.done()), "cels"],
        r"cels: no such folder or file; check the path",
    ),
    ("synth of too few cells", lambda b: ["data", "synth", "new", "--cells", "9"], r"cells=9: at least 65 are needed"),
    ("demo into a file", lambda b: ["demo", "-o", b.write("notes.txt")], r"notes.txt: .*choose another folder with -o"),
    (
        "split into what is no .csv",
        lambda b: ["data", "split", b.cells(), "-o", "splits.txt"],
        r"-o splits.txt: a manifest is a \.csv file; name it so",
    ),
    (
        "split by a bad ratio",
        lambda b: ["data", "split", b.cells(), "-o", "splits.csv", "--ratio", "3:0:1"],
        r"--ratio 3:0:1: each part of train:val:test must be a positive number, like 3:1:1",
    ),
    (
        "split into too few folds",
        lambda b: ["data", "split", b.cells(), "-o", "splits.csv", "--folds", "2"],
        r"--folds 2: needs at least 3",
    ),
    (
        "inspect what is not there",
        lambda b: ["data", "inspect", "cels"],
        r"cels: no such folder or file; check the path",
    ),
    (
        "reproduce an unknown table",
        lambda b: ["reproduce", "table9", b.cells(), "-o", "runs"],
        r"reproduce table9: there (is|are) .*table3",
    ),
    (
        "reproduce without cells",
        lambda b: ["reproduce", "table3", "-o", "runs"],
        r"reproduce table3: give SOURCE and -o FOLDER; --dry-run alone does without them",
    ),
    (
        "reproduce a row that the table has not",
        lambda b: ["reproduce", "table5", b.cells(), "-o", "runs", "--rows", "KDD"],
        r"--rows KDD: no row of table5 is called so; it has .*FitNet",
    ),
    (
        "reproduce with students where there is one",
        lambda b: ["reproduce", "table5", b.cells(), "-o", "runs", "--students", "resnet18"],
        r"--students: table5 has one student",
    ),
    (
        "reproduce with weights from nowhere",
        lambda b: ["reproduce", "table5", b.cells(), "-o", "runs", "--weights", "weigths"],
        r"--weights weigths: no such folder; give imagenet, none, or a folder",
    ),
    (
        "reproduce over too few folds",
        lambda b: ["reproduce", "table4", b.cells(), "-o", "runs", "--folds", "2", "--weights", "none"],
        r"--folds 2: needs at least 3",
    ),
    (
        "reproduce over folds of a source with splits",
        lambda b: [
            *("reproduce", "table4", b.manifest("path,label,split", *SPLIT), "-o", "runs"),
            *("--folds", "3", "--weights", "none"),
        ],
        r"--folds 3: cells.csv has its own splits; leave --folds out",
    ),
    (
        "model of an estimator",
        lambda b: ["model", "--set", "estimator.head=svm"],
        r"estimator.head: `model` counts networks; set estimator.head=none",
    ),
    (
        "model of an unknown network",
        lambda b: ["model", "--set", "student.backbone=resnet81"],
        r"student.backbone='resnet81': timm has no such model",
    ),
)


# ---------------------------------------------------------------- what is asked of them


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str
    changed: bool


def run_main(bench: Bench, arguments: list[str]) -> Said:
    """The command line in this process, in the bench's folder."""
    out, err = io.StringIO(), io.StringIO()
    before = bench.snapshot()
    code = 0
    with bench.world, contextlib.chdir(bench.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue(), bench.snapshot() != before)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    with mock.patch.dict(os.environ, CYTODISTILL_CACHE=str(tmp_path_factory.mktemp("cache"))):
        yield Stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture
def bench(stock: Stock, tmp_path: Path) -> Bench:
    return Bench(tmp_path, stock)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.area}: {case.name}")
def test_one_line_and_nothing_left(case: Case, bench: Bench) -> None:
    said = run_main(bench, case.arguments(bench))
    assert re.fullmatch(r"error: .+\n", said.err)
    assert re.search(case.line, said.err)
    assert len(readable(said.err, bench)) < 320
    assert said.code == 2
    assert said.out == ""
    assert not said.changed
    assert not [file for file in Path(os.environ["CYTODISTILL_CACHE"]).rglob("*") if file.suffix != ".npy"]


def test_the_document_lists_every_kind() -> None:
    names = [case.name for area in AREAS for case in CASES if case.area == area]
    assert len(set(names)) == len(names) >= 40
    listed = re.findall(r"^\| ([^|]+) \| `", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == names


@pytest.mark.parametrize(
    "arguments", [["fit", "cells"], ["fitt"], ["data", "split", "cells", "-o", "x.csv", "--seed", "one"]]
)
def test_a_command_that_cannot_be_parsed_shows_its_usage(arguments: list[str], bench: Bench) -> None:
    said = run_main(bench, arguments)
    assert said.code == 2
    assert said.err.startswith("Usage: cytodistill")
    assert "Error: " in said.err.splitlines()[-1]
    assert not said.changed


def test_a_traceback_only_with_debug(bench: Bench) -> None:
    with pytest.raises(CytodistillError, match="no such folder"):
        run_main(bench, ["data", "inspect", "cels", "--debug"])


def test_a_run_whose_loss_is_lost_says_so_and_stays_a_run_to_resume(bench: Bench) -> None:
    fit_command = bench.set("train.lr=1e30")
    said = run_main(bench, fit_command)
    assert said.code == 2
    assert re.fullmatch(r"error: train.lr=1e\+30: the .* became .*lower .*\n", said.err)
    run = bench.folder / "runs" / "new"
    assert not Run.open(run).finished
    assert not (run / "model.safetensors").exists()
    assert not list(run.rglob("*.tmp"))
    assert "new: the run is not finished; continue it with" in run_main(bench, ["evaluate", "runs/new"]).err
    assert "runs/new: holds a run already" in run_main(bench, fit_command).err
    assert run_main(bench, [*fit_command, "--resume"]).err == said.err


def test_a_failure_at_a_later_epoch_keeps_the_checkpoint(bench: Bench) -> None:
    """The run goes on from the last good epoch once what stopped it is gone."""
    run = bench.stopped()
    with mock.patch("cytodistill.train.validate.classification_metrics", side_effect=CytodistillError("stopped: why")):
        said = run_main(bench, bench.resume(run))
    assert said.code == 2
    assert said.err == "error: stopped: why\n"
    said = run_main(bench, bench.resume(run))
    assert said.code == 0
    assert "epoch 1/3" not in said.err
    assert Run.open(bench.folder / run).finished


def test_predict_passes_bad_files_over_and_lists_them(bench: Bench) -> None:
    bench.cells()
    bench.write("cells/malign/3.png", b"no picture")
    bench.write("cells/malign/4.png", b"")
    said = run_main(bench, ["predict", str(bench.done()), "cells", "-o", "out.csv"])
    assert said.code == 0
    assert said.out == "out.csv: 10 cells predicted, 2 passed over\n"
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["passed over", "passed over"]
    rows = list(csv.DictReader((bench.folder / "out.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["3.png", "4.png"]
    assert all(bool(row["error"]) != bool(row["predicted"]) for row in rows)


def test_predict_fails_where_nothing_can_be_read(bench: Bench) -> None:
    bench.write("cells/1.png", b"no picture")
    said = run_main(bench, ["predict", str(bench.done()), "cells"])
    assert said.code == 1
    assert said.err.startswith("passed over: ")
    assert said.err.count("\n") == 1


# ---------------------------------------------------------------- the document


def readable(text: str, bench: Bench) -> str:
    """A line without the temporary folders that stand in it."""
    return text.replace(f"{bench.folder}/", "").replace(f"{bench.stock.folder}/", "")


def table(folder: Path) -> str:
    """docs/bad-input.md."""
    lines = [
        "# What bad input gets",
        "",
        "Every kind of bad input gets one line on stderr that names the file or setting and the mend, and exit code 2. "
        "Nothing is written: no run folder is made or changed. `--debug` adds the traceback.",
        "",
        "A command that cannot be parsed (an option missing, a letter for a number) shows its usage and an `Error:` "
        "line, with exit code 2 too. `predict` passes files over that it cannot read and lists them; it fails with "
        "exit code 1 where it can read none. A training whose loss is no longer a number ends with such a line as "
        "well; its run stays unfinished, and `--resume` goes on from its last checkpoint.",
        "",
        "Made by `python tests/test_bad_input.py > docs/bad-input.md` from the cases that are tested there.",
    ]
    os.environ["CYTODISTILL_CACHE"] = str(folder / "cache")
    (folder / "stock").mkdir()
    stock = Stock(folder / "stock")
    area = ""
    for number, case in enumerate(sorted(CASES, key=lambda case: AREAS.index(case.area))):
        if case.area != area:
            area = case.area
            lines += ["", f"## {area}", "", "| Kind | What is said |", "| --- | --- |"]
        (folder / str(number)).mkdir()
        bench = Bench(folder / str(number), stock)
        said = readable(run_main(bench, case.arguments(bench)).err, bench).strip()
        lines.append(f"| {case.name} | `` {said} `` |" if "`" in said else f"| {case.name} | `{said}` |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(table(Path(place).resolve()))
