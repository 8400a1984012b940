"""What is compared: a run's network and its exports, each with and without its exit policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cytodistill.errors import CytodistillError
from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.policies import read_policies
from cytodistill.train.run_folder import Run

NO_POLICY = "none"


@dataclass(frozen=True)
class Contestant:
    """A run folder or an artifact at ``path``; ``runtime`` is "torch", or an artifact's, with its precision."""

    path: Path
    runtime: str
    name: str


@dataclass(frozen=True)
class Setting:
    """How a contestant answers: under a policy of that name, or None for all exits, so many cells at once, on so many
    threads."""

    contestant: Contestant
    policy: str | None
    batch: int
    threads: int


def contestants_of(paths: Sequence[str | Path]) -> list[Contestant]:
    """A run and its artifacts, in the order given, each under a name of its own.

    Raises:
        CytodistillError: one of them is none, or they are of different runs.
    """
    found: list[Contestant] = []
    prints = set()
    for path in map(Path, paths):
        run = Run.open(path)
        prints.add(run.info["fingerprint"])
        if len(prints) > 1:
            raise CytodistillError(f"{path}: of another run than {paths[0]}; compare a run with its own exports")
        runtime = "torch"
        if is_artifact(path):
            info = Artifact.open(path).info
            runtime = f"{info['runtime']} {info['precision']}"
        same = [each for each in found if each.runtime == runtime]
        found.append(Contestant(path, runtime, f"{runtime} ({path.name})" if same else runtime))
    return found


def policies_of(contestants: Sequence[Contestant], asked: Sequence[str] | None) -> list[str | None]:
    """Names of the policies to compare, and None for none, which comes first; by default all that all of them have.

    Raises:
        CytodistillError: one of them has no policy of a name that was asked for.
    """
    there = [list(read_policies(Run.open(contestant.path))) for contestant in contestants]
    if asked is None:
        return [None, *(name for name in there[0] if all(name in names for names in there))]
    wanted = [name for name in asked if name != NO_POLICY]
    for contestant, names in zip(contestants, there, strict=True):
        for name in wanted:
            if name not in names:
                has = f"there are {', '.join(names)}" if names else "there is none"
                raise CytodistillError(
                    f"--policy {name}: {contestant.path} has none of that name; {has}; fit one with "
                    "`cytodistill policy`, and export again"
                )
    return [None, *dict.fromkeys(wanted)]


def settings_of(
    contestants: Sequence[Contestant],
    policies: Sequence[str | None],
    batches: Sequence[int],
    threads: Sequence[int],
) -> list[Setting]:
    """Every contestant under every policy, at every size of a batch, on every number of threads."""
    return [
        Setting(contestant, policy, batch, cores)
        for cores, batch, contestant, policy in product(threads, batches, contestants, policies)
    ]
