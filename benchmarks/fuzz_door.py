"""Damaged images and zips against the service's door, for minutes: each answered 200 or by a clear 4xx, nothing leaks.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_door.py RUN --minutes 10 [--seed 0] [--json FILE] [--keep FOLDER]

Seeds are pictures in every format that is taken, in the ways that its writers know (palettes, 16 bits, interlaced,
progressive, CMYK, several frames, compressions), and zips of them. Each request damages one: bits, bytes, lengths that
are far too large, pieces that are cut out, doubled, or taken from another seed. Most of what is sent dies in Pillow's
decoders, in processes that may be killed; what must not happen is an answer 5xx, a refusal that is no problem
document, a word of the service's insides, a service that no longer answers, or answers otherwise than before. What did
is kept in ``--keep``, one file each. The same seed damages in the same way.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from serve_load import cell, gauge
from serving import Running

CLIENTS = 4
LEAKS = ("Traceback", "/tmp", "/home", "/work", "site-packages", '.py"', "PIL", "sqlalchemy", "Errno")
LENGTHS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WAYS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "PNG": [("RGB", {}), ("P", {}), ("1", {}), ("LA", {}), ("I;16", {}), ("RGBA", {"optimize": True})],
    "JPEG": [("RGB", {}), ("L", {"progressive": True}), ("CMYK", {}), ("RGB", {"subsampling": 2, "quality": 20})],
    "BMP": [("RGB", {}), ("P", {}), ("1", {}), ("RGBA", {})],
    "TIFF": [
        *(("RGB", {"compression": each}) for each in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *(("1", {"compression": "group4"}), ("I;16", {}), ("CMYK", {}), ("RGB", {"save_all": True})),
    ],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"save_all": True, "lossless": True})],
}


def seeds(rng: np.random.Generator) -> list[bytes]:
    """Whole pictures in every way, and zips of them."""
    found = []
    for kind, ways in WAYS.items():
        for mode, options in ways:
            high, wide = (int(side) for side in rng.integers(20, 90, 2))
            pictures = [Image.fromarray(cell(high, wide, rng)) for _ in range(3)]
            pictures = [picture.convert("L" if mode == "I;16" else "RGB").convert(mode) for picture in pictures]
            if options.get("save_all"):
                options = options | {"append_images": pictures[1:]}
            buffer = io.BytesIO()
            pictures[0].save(buffer, kind, **options)
            found.append(buffer.getvalue())
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", packing) as archive:
            for number, picture in enumerate(found[::6]):
                archive.writestr(f"slide/{number}.png", picture)
        found.append(buffer.getvalue())
    return found


def damaged(whole: list[bytes], rng: random.Random) -> bytes:
    """One of the seeds, damaged once or several times."""
    data = bytearray(rng.choice(whole))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not data:
            break
        # Headers are short, and where most decisions hang on.
        at = rng.randrange(min(len(data), 200)) if rng.random() < 0.6 else rng.randrange(len(data))
        length = min(rng.choice((1, 2, 4, 16, 64, 400)), len(data) - at)
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + length] = rng.randbytes(length)
            case 2:
                order = rng.choice("<>")
                number = struct.pack(f"{order}I", rng.choice(LENGTHS))[: rng.choice((2, 4))]
                data[at : at + len(number)] = number
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
            case 5:
                other = rng.choice(whole)
                place = rng.randrange(len(other))
                data[at : at + length] = other[place : place + length]
            case _:
                del data[at + length :]
    return bytes(data)


@dataclass
class Seen:
    """What came back: how often each status, and what should not have."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def judge(self, sent: bytes, status: int, kind: str, text: str, keep: Path | None) -> None:
        self.statuses[str(status)] += 1
        words = []
        if not (status == 200 or 400 <= status < 500 or status == 503):
            words.append(f"status {status}")
        if status != 200 and kind != "application/problem+json":
            words.append(f"a refusal as {kind}")
        words += [f"says {leak}" for leak in LEAKS if leak in text]
        if not words:
            return
        self.wrong.append(f"{', '.join(words)}: {text[:200]}")
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{len(self.wrong)}.bin").write_bytes(sent)


def ask(service: Running, sent: bytes) -> tuple[int, str, str]:
    """Status, content type and text of the answer."""
    request = urllib.request.Request(f"{service.address}/api/v1/predict", sent, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read().decode(errors="replace")


def attack(service: Running, whole: list[bytes], seed: int, until: float, seen: Seen, keep: Path | None) -> None:
    rng = random.Random(seed)
    while time.monotonic() < until:
        sent = damaged(whole, rng)
        seen.judge(sent, *ask(service, sent), keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--keep", type=Path, help="folder for what was answered as it must not be")
    given = parser.parse_args()
    whole, seen = seeds(np.random.default_rng(given.seed)), Seen()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(CLIENTS) as pool:
        service = Running(given.run, Path(folder, "fuzz"))
        service.wait("/readyz")
        good = [(each, ask(service, each)) for each in whole]
        if refused := [text for _, (status, _, text) in good if status != 200]:
            raise SystemExit(f"a seed is refused before it is damaged: {refused[0]}")
        before = sum(service.memory())
        until = time.monotonic() + 60 * given.minutes
        working = [
            pool.submit(attack, service, whole, 1000 * given.seed + n, until, seen, given.keep) for n in range(CLIENTS)
        ]
        for one in working:
            one.result()
        changed = sum(not _same(ask(service, each), answer) for each, answer in good)
        found = {
            "minutes": given.minutes,
            "requests": sum(seen.statuses.values()),
            "statuses": dict(seen.statuses),
            "wrong": len(seen.wrong),
            "good_images_answered_otherwise": changed,
            "decoders_replaced": gauge(service, "cytodistill_decoders_replaced"),
            "memory_mib": [round(before / 2**20), round(sum(service.memory()) / 2**20)],
        }
        service.stop()
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    for line in seen.wrong[:20]:
        print(line, file=sys.stderr)
    sys.exit(bool(seen.wrong or changed))


def _same(answer: tuple[int, str, str], other: tuple[int, str, str]) -> bool:
    """Whether two answers say the same. Cells of a zip share forward passes as they happen to be decoded, which moves
    the last digits of a probability."""
    (status, _, text), (status_then, _, text_then) = answer, other
    if status != status_then:
        return False
    pairs = list(zip(json.loads(text)["cells"], json.loads(text_then)["cells"], strict=True))
    return all(
        cell["error"] == then["error"]
        and cell["prediction"]["predicted"] == then["prediction"]["predicted"]
        and np.allclose(*(list(one["prediction"]["probabilities"].values()) for one in (cell, then)), rtol=0, atol=1e-5)
        for cell, then in pairs
    )


if __name__ == "__main__":
    main()
