"""The service under load: many clients against one, memory over time, and what `kill -9` leaves.

    OMP_NUM_THREADS=1 python benchmarks/serve_load.py RUN --minutes 5 --json results/benchmarks/serve_load.json

One client that waits for each answer is measured before and after the many, on the same service: the ratio of cells a
second is within one run. Then reviews are accepted while the service is killed, and every accepted one is looked for
after its restart; and a service that takes less at once than there are clients is asked by all of them.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from serving import Running, Told, drive

KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SIDES = (48, 64, 80, 96, 112, 128, 160, 192, 256, 384)
"""Pixels of the cells' sides: those of published sets of single cells."""
BODIES = 150
ALONE_SECONDS = 20
REVIEWERS = 8
REVIEWED_CELLS = 64
LIMIT = 16
"""Requests at once, of the service that is asked for more."""


def bodies(seed: int) -> list[tuple[str, bytes]]:
    """Cells of mixed sizes in all formats: (Content-Type, body) each."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(BODIES):
        kind = KINDS[number % len(KINDS)]
        high, wide = rng.choice(SIDES, 2)
        found.append((f"image/{kind.lower()}", encoded(cell(int(high), int(wide), rng), kind)))
    return found


def cell(high: int, wide: int, rng: np.random.Generator) -> np.ndarray:
    """(high, wide, 3) uint8: cytoplasm and a nucleus, with grain."""
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j]
    distance = np.hypot(x, y)[..., None]
    plain = np.where(distance < rng.uniform(0.15, 0.6), (90, 60, 140), np.where(distance < 0.95, (190, 170, 215), 240))
    return np.clip(plain + rng.normal(0, 6, (high, wide, 3)), 0, 255).astype(np.uint8)


def encoded(image: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


class Memory(threading.Thread):
    """Samples the memory of a service's processes until it is stopped."""

    def __init__(self, service: Running, every: float) -> None:
        super().__init__(daemon=True)
        self._service, self._every, self._end = service, every, threading.Event()
        self.samples: list[list[int]] = []

    def run(self) -> None:
        while not self._end.wait(self._every):
            self.samples.append(self._service.memory())

    def stop(self) -> dict[str, Any]:
        """MiB of the service, and of all its processes, in each tenth of the time."""
        self._end.set()
        self.join()
        tenths = np.array_split(np.arange(len(self.samples)), min(10, len(self.samples)))
        mean = lambda figures: round(float(np.mean(figures)) / 2**20, 1)  # noqa: E731
        service = [mean([self.samples[n][0] for n in tenth]) for tenth in tenths]
        whole = [mean([sum(self.samples[n]) for n in tenth]) for tenth in tenths]
        return {"service_mib": service, "all_mib": whole, "growth_mib": round(whole[-1] - whole[len(whole) // 2], 1)}


def figures(told: Told, busy: float) -> dict[str, Any]:
    """What is told of one stretch of time; ``busy`` is the service's processor time in it."""
    p50, p99 = np.percentile(told.seconds, (50, 99)) if told.seconds else (np.nan, np.nan)
    return {
        "seconds": round(told.wall, 2),
        "statuses": dict(told.statuses),
        "cells_per_second": round(len(told.seconds) / told.wall, 2),
        "p50_ms": round(1000 * p50, 1),
        "p99_ms": round(1000 * p99, 1),
        "service_processor_seconds": round(busy, 2),
        "clients_processor_seconds": round(told.processor, 2),
        "refused_without_retry_after": told.without_retry_after,
    }


def measured(service: Running, pool: Any, clients: int, seconds: float, sent: list[tuple[str, bytes]]) -> dict:
    """One stretch of load by clients in a process of their own."""
    print(f"{clients} clients, {seconds:g} s …", file=sys.stderr, flush=True)
    before = service.processor_seconds()
    told = pool.apply(drive, (service.port, clients, seconds, sent))
    found = figures(told, service.processor_seconds() - before)
    print(f"  {found['cells_per_second']} cells/s, {found['statuses']}", file=sys.stderr, flush=True)
    return found


def load(service: Running, pool: Any, clients: int, seconds: float) -> dict[str, Any]:
    """Many clients, with one alone before and after."""
    sent = bodies(0)
    alone_for = min(ALONE_SECONDS, seconds)
    measured(service, pool, 4, 2, sent)  # every path has been walked once
    before = measured(service, pool, 1, alone_for, sent)
    memory = Memory(service, max(0.2, seconds / 100))
    memory.start()
    many = measured(service, pool, clients, seconds, sent)
    held = memory.stop()
    after = measured(service, pool, 1, alone_for, sent)
    alone = (before["cells_per_second"] + after["cells_per_second"]) / 2
    return {
        "clients": clients,
        "alone_before": before,
        "many": many,
        "alone_after": after,
        "ratio": round(many["cells_per_second"] / alone, 2),
        "memory": held,
        "decoders_replaced": gauge(service, "cytodistill_decoders_replaced"),
    }


def gauge(service: Running, name: str) -> float:
    with urllib.request.urlopen(f"{service.address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def killed(run: Path, data: Path) -> dict[str, Any]:
    """Reviews that are accepted while the service is killed, and what its restart knows of them."""
    service = Running(run, data, "--keep-uploads")
    service.wait("/readyz")
    cells = uploaded(service)
    accepted: list[int] = []
    with ThreadPoolExecutor(REVIEWERS) as pool:
        working = [pool.submit(review, service, f"reviewer {n}", cells, accepted) for n in range(REVIEWERS)]
        time.sleep(3)
        service.kill()
        for one in working:
            one.result()
    print("killed; again …", file=sys.stderr, flush=True)
    again = Running(run, data, "--keep-uploads", "--max-requests", str(LIMIT))
    serves, answers = again.wait("/api/v1/cells"), again.wait("/readyz")
    known = {event["id"] for cell in cells for event in again.get(f"/api/v1/cells/{cell}/reviews")}
    return {
        "service": again,
        "accepted": len(accepted),
        "lost": len(set(accepted) - known),
        "serves_after_seconds": round(serves, 2),
        "predicts_after_seconds": round(answers, 2),
    }


def uploaded(service: Running) -> list[str]:
    """Cells in the service's gallery."""
    rng, buffer = np.random.default_rng(1), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(REVIEWED_CELLS):
            archive.writestr(f"slide/{number}.png", encoded(cell(80, 80, rng), "PNG"))
    upload = service.post("/api/v1/uploads", buffer.getvalue(), "application/zip")
    while service.get(f"/api/v1/uploads/{upload['id']}")["state"] in ("waiting", "working"):
        time.sleep(0.1)
    return [cell["id"] for cell in service.get("/api/v1/cells?limit=500")["cells"]]


def review(service: Running, reviewer: str, cells: list[str], accepted: list[int]) -> None:
    """Accept cell after cell until the service is gone."""
    given = json.dumps({"action": "accept", "reviewer": reviewer}).encode()
    turn = 0
    while True:
        try:
            told = service.post(f"/api/v1/cells/{cells[turn % len(cells)]}/reviews", given, "application/json")
        except (OSError, http.client.HTTPException):  # also where the kill cuts an answer in the middle
            return
        accepted.append(told["review"]["id"])
        turn += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("options", nargs="*", help="further options of the service, after --")
    given = parser.parse_args()
    # A process that is forked from one with threads may hang; this one starts afresh.
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Pool(1) as pool:
        service = Running(given.run, Path(folder, "load"), *given.options)
        first = {"serves": service.wait("/api/v1/cells"), "ready": service.wait("/readyz")}
        under_load = load(service, pool, given.clients, 60 * given.minutes)
        service.stop()
        crash = killed(given.run, Path(folder, "killed"))
        again: Running = crash.pop("service")
        past = measured(again, pool, given.clients, 10, bodies(2))
        again.stop()
    found = {
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()[2]},
        "start": {name: round(seconds, 2) for name, seconds in first.items()},
        "load": under_load,
        "past_the_limit": {"limit": LIMIT} | past,
        "kill": crash,
    }
    print(table(found))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def table(found: dict[str, Any]) -> str:
    """The figures for people."""
    under_load, crash = found["load"], found["kill"]
    stretches = {
        "one, before": under_load["alone_before"],
        f"{under_load['clients']} clients": under_load["many"],
        "one, after": under_load["alone_after"],
        f"{under_load['clients']}, limit {found['past_the_limit']['limit']}": found["past_the_limit"],
    }
    lines = [f"{'':18}{'s':>8}{'cells/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'busy s':>9}  statuses"]
    for name, one in stretches.items():
        numbers = f"{one['seconds']:8.1f}{one['cells_per_second']:10.1f}{one['p50_ms']:9.1f}{one['p99_ms']:9.1f}"
        lines.append(f"{name:18}{numbers}{one['service_processor_seconds']:9.1f}  {one['statuses']}")
    memory = under_load["memory"]
    return "\n".join(
        [
            *lines,
            f"ratio {under_load['ratio']}; decoders replaced {under_load['decoders_replaced']:g}",
            f"memory by tenths of the time, MiB: all {memory['all_mib']}",
            f"                           the service {memory['service_mib']}",
            f"kill -9: {crash['accepted']} reviews accepted, {crash['lost']} lost; serves after "
            f"{crash['serves_after_seconds']} s, predicts after {crash['predicts_after_seconds']} s",
        ]
    )


if __name__ == "__main__":
    main()
