"""Blocks answered by Ray workers are those of one process, a worker that dies included."""

from __future__ import annotations

import os

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.infer import spread
from cytodistill.infer.batch import predict


def test_two_workers_write_the_bytes_of_one_process(tiny_run, cells, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    died = tmp_path / "died"
    (tmp_path / "bad.png").write_bytes(b"no picture")

    class Fragile(spread.Worker):
        """Dies once, in the middle of a block."""

        def block(self, items):
            if not died.exists():
                died.touch()
                os._exit(1)
            return super().block(items)

    monkeypatch.setattr(spread, "Worker", Fragile)
    given = [cells, tmp_path / "bad.png"]
    one = predict(tiny_run.path, given, tmp_path / "one.csv", batch_size=4, device="cpu")
    two = predict(tiny_run.path, given, tmp_path / "two.csv", batch_size=4, device="cpu", workers=2, threads=1)
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert died.exists()
    assert (two.cells, two.problems) == (one.cells, one.problems) == (46, one.problems)


def test_ray_is_asked_for_where_it_is_wanted(tiny_run, cells, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(CytodistillError, match=r"pip install 'cytodistill\[scale\]'"):
        predict(tiny_run.path, cells, tmp_path / "p.csv", workers=2, device="cpu")
    assert not list(tmp_path.iterdir())
