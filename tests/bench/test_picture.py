import itertools

from cytodistill.bench.picture import bench_figure
from cytodistill.bench.tables import bench_tables


def content():
    """Two contestants, one policy, batches of 1 and 8, 1 and 2 threads; speeds are multiples of one another."""
    rows = []
    for threads, batch, name, policy in itertools.product((1, 2), (1, 8), ("torch", "onnx fp32"), (None, "early")):
        speed = 10.0 * threads * (2 if name != "torch" else 1) * (1.5 if policy else 1)
        latency = {"median": 1000 / speed, "p95": 1200 / speed} if batch == 1 else None
        rows.append(
            {
                "name": name,
                "policy": policy,
                "batch": batch,
                "threads": threads,
                "ms_a_cell": 1000 / speed,
                "cells_a_second": speed,
                "times": speed / (10 * threads),
                "latency_ms": latency,
            }
        )
    files = [row for row in rows if (row["batch"], row["threads"]) == (8, 2)]
    memory = [{"name": "torch", "answering": 300 << 20, "libraries": 200 << 20}]
    return {"title": "tiny, 64 px", "network": rows, "files": files, "memory": memory}


def test_bars_are_the_figures():
    figure = bench_figure(content())
    latency, throughput, files = figure.axes
    names = ["torch", "torch, early", "onnx fp32", "onnx fp32, early"]
    assert [text.get_text() for text in latency.get_yticklabels()] == names
    assert "batches of 8" in throughput.get_title()
    one, two = ([bar.get_width() for bar in bars] for bars in throughput.containers)
    assert one == [10, 15, 20, 30]
    assert two == [20, 30, 40, 60]
    assert [bar.get_width() for bar in latency.containers[0]] == [1000 / 10, 1000 / 15, 1000 / 20, 1000 / 30]
    # Files were answered on all threads alone: the bars stand beside their names and not elsewhere.
    assert [len(bars) for bars in files.containers] == [0, 4]


def test_one_batch_is_one_panel_less():
    said = content()
    said["network"] = [row for row in said["network"] if row["batch"] == 8]
    assert len(bench_figure(said).axes) == 2


def test_tables_have_every_figure():
    *networks, files, memory = bench_tables(content())
    assert [(str(table.title), table.row_count) for table in networks] == [
        ("The network alone, 1 thread, cell by cell", 4),
        ("The network alone, 1 thread, batches of 8", 4),
        ("The network alone, 2 threads, cell by cell", 4),
        ("The network alone, 2 threads, batches of 8", 4),
    ]
    assert [len(table.columns) for table in networks] == [6, 4, 6, 4]
    assert list(networks[0].columns[4].cells) == ["100.00", "66.67", "50.00", "33.33"]
    assert str(files.title) == "Files to CSV, 2 threads, batches of 8"
    assert list(files.columns[1].cells) == ["20.0", "30.0", "40.0", "60.0"]
    assert [list(column.cells) for column in memory.columns] == [["torch"], ["300"], ["200"]]
