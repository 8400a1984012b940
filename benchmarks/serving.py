"""The service as a process of its own, for measurements: started, watched and killed; and clients that cost little."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 120


class Running:
    """``cytodistill serve RUN`` on a free port.

    Args:
        run: finished run folder.
        data: the service's folder.
        options: further options of the command.
    """

    def __init__(self, run: Path, data: Path, *options: str) -> None:
        self.started = time.monotonic()
        command = (sys.executable, "-m", "cytodistill", "serve", str(run), "--port", "0", "--data", str(data))
        # Not a pipe: the log has a line a request, and nobody would read it.
        self._log = data.with_name(f"{data.name}-{time.monotonic_ns()}.log")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen((*command, *options), stdout=log, stderr=log)
        self.port = self._port()
        self.address = f"http://127.0.0.1:{self.port}"

    def _port(self) -> int:
        while self.process.poll() is None:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", self._log.read_text()):
                return int(found[1])
            time.sleep(0.02)
        raise SystemExit(f"the service did not start:\n{self._log.read_text()}")

    def wait(self, path: str) -> float:
        """Seconds from the start of the process to the first answer 200 at a path."""
        while time.monotonic() - self.started < START_SECONDS:
            try:
                with urllib.request.urlopen(self.address + path, timeout=5):
                    return time.monotonic() - self.started
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"{path} was not answered within {START_SECONDS} s")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path) as answer:
            return json.load(answer)

    def post(self, path: str, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def processes(self) -> list[int]:
        """The service and the processes that decode for it."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [self.process.pid, *(int(child) for file in children for child in file.read_text().split())]

    def memory(self) -> list[int]:
        """Bytes that each process has in memory, the service first."""
        return [_status(pid, "VmRSS") << 10 for pid in self.processes()]

    def processor_seconds(self) -> float:
        """Processor time of all of its processes so far."""
        return sum(_processor_seconds(pid) for pid in self.processes())

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def _status(pid: int, name: str) -> int:
    try:
        return int(re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]
    except (OSError, TypeError):  # it has just ended
        return 0


def _processor_seconds(pid: int) -> float:
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Told:
    """What clients were told: how often each status ("broken" for no answer), and seconds of each answer 200."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    processor: float = 0.0
    without_retry_after: int = 0


def drive(port: int, clients: int, seconds: float, bodies: list[tuple[str, bytes]]) -> Told:
    """Clients that each send one request after another, over a connection of its own; called in a process of its own.

    Requests are made beforehand, and of an answer no more than its head is looked at: what the clients take of the
    processor, the service does not have.
    """
    requests = [
        b"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (kind.encode(), len(body), body)
        for kind, body in bodies
    ]
    told = Told()
    started, busy = time.monotonic(), time.process_time()
    asyncio.run(_all_clients(port, clients, started + seconds, requests, told))
    told.wall, told.processor = time.monotonic() - started, time.process_time() - busy
    return told


async def _all_clients(port: int, clients: int, until: float, requests: list[bytes], told: Told) -> None:
    async with asyncio.TaskGroup() as group:
        for client in range(clients):
            group.create_task(_client(port, until, requests[client:] + requests[:client], told))


async def _client(port: int, until: float, requests: list[bytes], told: Told) -> None:
    while time.monotonic() < until:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await _ask(reader, writer, until, requests, told)
            finally:
                writer.close()
        except (OSError, EOFError):
            told.statuses["broken"] += 1
            await asyncio.sleep(0.1)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float, requests: list[bytes], told: Told
) -> None:
    turn = 0
    while time.monotonic() < until:
        sent = time.monotonic()
        writer.write(requests[turn % len(requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        status = head[9:12].decode()
        told.statuses[status] += 1
        turn += 1
        if status == "200":
            told.seconds.append(time.monotonic() - sent)
        elif status == "503":
            told.without_retry_after += b"retry-after:" not in head
            await asyncio.sleep(0.2)
