"""Class maps: which class of a data set counts as which class of another grouping, by name and version.

A map is a YAML file (``maps/*.yaml`` by name, or a path):

    name: sipakmed-binary-benign-left-out
    version: 1
    source: sipakmed                  # format whose classes are mapped
    target: normal / abnormal         # in words
    origin: who assigns the classes so
    classes: {Parabasal: normal, Metaplastic: null, ...}    # null leaves the class out
    target_classes: [normal, abnormal]                      # in order
    abnormal: [abnormal]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from yaml.constructor import ConstructorError

from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.files import named_or_file, package_names, place_in_yaml
from cytodistill.recipe import Positive, Section

Text = Annotated[str, Field(min_length=1)]

DEFAULTS = {"herlev": "herlev-binary", "cric": "cric-binary", "sipakmed": "sipakmed-binary-benign-is-normal"}
"""Which classes are abnormal, by format, where no map is named."""
MANIFEST = "manifest"
"""The format of tables that `cytodistill data split` and people write."""


class Mapped(NamedTuple):
    """A table in a map's target classes.

    ``rows`` are the positions in the original table that are left, so that arrays beside it can follow; ``left_out``
    has the number of dropped cells of every class that the map leaves out and the table has (also 0);
    ``source_labels`` are the labels of the rows as they were.
    """

    table: CellTable
    rows: NDArray[np.int64]
    left_out: dict[str, int]
    source_labels: NDArray[np.object_]

    @property
    def says(self) -> str:
        """What was left out, as a line for people."""
        if not self.left_out:
            return f"{len(self.table)} cells, none left out"
        classes = ", ".join(f"{name} {count}" for name, count in self.left_out.items())
        return f"{len(self.table)} cells, {sum(self.left_out.values())} left out ({classes})"


class ClassMap(Section):
    """One assignment of source classes to target classes. ``ClassMap.load("herlev-binary")`` reads a named map or a
    YAML file."""

    name: Text
    version: Positive
    source: Text
    """Format of the data set ("sipakmed", "herlev", "cric", ...). For the reader: the class names decide."""
    target: Text
    """The target classes in words."""
    origin: Text
    """Where the assignment comes from."""
    classes: Annotated[dict[Text, Text | None], Field(min_length=1)]
    """Source class to target class, or to None, which leaves its cells out."""
    target_classes: Annotated[tuple[Text, ...], Field(min_length=2)]
    """In the order of label codes and columns."""
    abnormal: tuple[Text, ...] = ()
    """Target classes that a screening must find; none where the grouping does not say."""

    @model_validator(mode="after")
    def _names_meet(self) -> ClassMap:
        targets = self.target_classes
        if len(set(targets)) < len(targets):
            raise ValueError(f"target_classes names {_repeated(targets)!r} twice; name each class once")
        for source, target in self.classes.items():
            if target is not None and target not in targets:
                raise ValueError(
                    f"classes maps {source!r} to {target!r}, which is not one of target_classes "
                    f"({', '.join(targets)}); add it there, or correct it"
                )
        if unused := [target for target in targets if target not in self.classes.values()]:
            raise ValueError(f"no class is mapped to {unused[0]!r} of target_classes; map one, or take it out")
        if unknown := [name for name in self.abnormal if name not in targets]:
            raise ValueError(f"abnormal names {unknown[0]!r}, which is not one of target_classes; correct it")
        return self

    @classmethod
    def load(cls, class_map: str | Path) -> ClassMap:
        """Map by name or from a YAML file.

        Raises:
            CytodistillError: no such map, not YAML, an entry that is unknown, missing, given twice or contradicts
                another.
        """
        text, called = named_or_file(class_map, "class map", "maps")
        try:
            entries = yaml.load(text, _Names)
        except yaml.YAMLError as error:
            raise CytodistillError(f"{called}: not YAML ({place_in_yaml(error)}); mend it there") from None
        if not isinstance(entries, dict):
            raise CytodistillError(f"{called}: expected entries such as `classes:`, found {entries!r:.40}")
        try:
            return cls.model_validate(entries)
        except ValidationError as error:
            raise CytodistillError(f"{called}: {_first_problem(error)}") from None

    @property
    def label(self) -> str:
        """Name and version, for reports: two figures compare only where these are equal."""
        return f"{self.name} v{self.version}"

    @property
    def abnormal_codes(self) -> NDArray[np.int64]:
        """Codes of the abnormal classes in ``target_classes``."""
        return np.array([self.target_classes.index(name) for name in self.abnormal], np.int64)

    def check_same_target(self, other: ClassMap) -> None:
        """Raise CytodistillError where the two maps' target classes differ, in names, order or in which are abnormal:
        figures in the one's classes would not be of the other's."""
        for what, own, others in (
            ("lead to", self.target_classes, other.target_classes),
            ("call abnormal", self.abnormal, other.abnormal),
        ):
            if own != others:
                raise CytodistillError(
                    f"class maps {self.label} and {other.label}: {what} {', '.join(own) or 'nothing'} and "
                    f"{', '.join(others) or 'nothing'}; use two maps of the same target"
                )

    def apply(self, table: CellTable) -> Mapped:
        """The table with its labels renamed, its classes ``target_classes`` in their order, and without the cells of
        the classes that are left out, which are counted. Cells without a label stay, without one.

        Raises CytodistillError where the map misses a class of the table, or nothing is left. Classes of the map that
        the table lacks are no mistake.
        """
        self._check_knows(table.classes, "the table")
        labels = table.frame["label"]
        left_out = {name: int((labels == name).sum()) for name in table.classes if self.classes[name] is None}
        rows = np.flatnonzero(~labels.isin(list(left_out)).to_numpy())
        if not len(rows):
            raise CytodistillError(
                f"class map {self.label}: leaves out every cell of the table; use another map, or another table"
            )
        kept = table.frame.iloc[rows]
        renamed = kept.assign(label=[self.classes[name] or "" if name else "" for name in kept["label"]])
        return Mapped(
            CellTable(renamed.reset_index(drop=True), self.target_classes, table.format),
            rows.astype(np.int64),
            left_out,
            kept["label"].to_numpy(object),
        )

    def collapse(self, probabilities: NDArray[np.floating], source_classes: Sequence[str]) -> NDArray[np.float64]:
        """(N, C_target) probabilities of the target classes by a model of the source classes.

        A target class t has the sum over its source classes, P(t | x) = Σ_{s → t} p(s | x). Where source classes are
        left out the rows are divided by their sums: P(t | x, the cell is of a class that is kept). What the model gave
        to the others is ``left_out_share``; where that is nearly all, the result rests on very little. The class of
        the highest sum may be another than that of the highest source probability: three doubtful grades of abnormal
        together outweigh one normal.

        Args:
            probabilities: (N, C_source), rows of sum one.
            source_classes: names of their columns.

        Raises:
            CytodistillError: columns and names do not match, rows are no probabilities, the map misses a class, or a
                row has nothing outside the classes that are left out (then nothing can be said of that cell).
        """
        known = self._checked(probabilities, source_classes)
        sums = known @ self.matrix(source_classes)
        if all(self.classes[name] is not None for name in source_classes):
            return sums
        kept = sums.sum(axis=1, keepdims=True)
        if empty := int((kept <= 0).sum()):
            raise CytodistillError(
                f"class map {self.label}: {empty} cells have all their probability in classes that it leaves out; "
                "leave these cells out, or use a map that keeps the classes"
            )
        return sums / kept

    def left_out_share(self, probabilities: NDArray[np.floating], source_classes: Sequence[str]) -> NDArray[np.float64]:
        """(N,) probability that the model gave to the classes that are left out; raises like ``collapse``."""
        known = self._checked(probabilities, source_classes)
        dropped = [self.classes[name] is None for name in source_classes]
        return known[:, dropped].sum(axis=1)

    def matrix(self, source_classes: Sequence[str]) -> NDArray[np.float64]:
        """(C_source, C_target): one where the source class is of the target class, rows of 0 where it is left out.

        Raises CytodistillError where the map misses a class.
        """
        self._check_knows(source_classes, "the model")
        targets = np.array(self.target_classes, object)
        assigned = np.array([self.classes[name] for name in source_classes], object)
        return (assigned[:, None] == targets[None]).astype(np.float64)

    def _checked(self, probabilities: NDArray[np.floating], source_classes: Sequence[str]) -> NDArray[np.float64]:
        self._check_knows(source_classes, "the model")
        known = np.asarray(probabilities, np.float64)
        if len(set(source_classes)) < len(source_classes):
            raise CytodistillError(
                f"class map {self.label}: the model names the class {_repeated(source_classes)!r} twice; name each once"
            )
        if known.ndim != 2 or known.shape[1] != len(source_classes):
            raise CytodistillError(
                f"class map {self.label}: probabilities of shape {known.shape} for {len(source_classes)} classes; "
                "give one row a cell and one column a class"
            )
        if not (np.isfinite(known).all() and (known >= 0).all() and np.allclose(known.sum(axis=1), 1, atol=1e-3)):
            raise CytodistillError(
                f"class map {self.label}: the rows are no probabilities (from 0 to 1, of sum 1); give the softmax, not "
                "logits"
            )
        return known

    def _check_knows(self, names: Sequence[str], whose: str) -> None:
        if unknown := [name for name in names if name not in self.classes]:
            raise CytodistillError(
                f"class map {self.label}: has no entry for the class {unknown[0]!r} of {whose}; use a map for these "
                "classes, or add it to a copy of this one (null leaves it out)"
            )


def map_names() -> list[str]:
    """Names of the maps that come with the package."""
    return package_names("maps")


def map_for(format: str, classes: Sequence[str]) -> ClassMap | None:
    """The map of a format by which classes are abnormal, where it knows all of these classes and leaves none out.

    A manifest does not say which data set it was made of: there the names of the classes decide, where they are those
    of one default map alone.
    """
    if format == MANIFEST:
        found = [kept for name in DEFAULTS.values() if (kept := _that_keeps(name, classes))]
        return found[0] if len(found) == 1 else None
    return _that_keeps(DEFAULTS[format], classes) if format in DEFAULTS else None


def maps_between(classes: Sequence[str], others: Sequence[str]) -> tuple[ClassMap, ClassMap] | None:
    """Two of the maps used by default, with one target: one that keeps all of ``classes``, one that keeps all of
    ``others``. By the names of the classes alone, so only for telling people what they may want."""
    found = [
        next(filter(None, (_that_keeps(name, of) for name in DEFAULTS.values())), None) for of in (classes, others)
    ]
    first, second = found
    if first is None or second is None or first.target_classes != second.target_classes:
        return None
    return first, second


def _that_keeps(name: str, classes: Sequence[str]) -> ClassMap | None:
    class_map = ClassMap.load(name)
    return class_map if all(class_map.classes.get(known) is not None for known in classes) else None


class _Names(yaml.SafeLoader):
    """YAML in which everything plain is text but null: of class names, 1 and no stay what they are. A name given twice
    is a mistake, where PyYAML would take the later one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [getattr(key, "value", None) for key, _ in node.value]
            problem = f"{_repeated(keys)!r} is given twice"
            raise ConstructorError(None, None, problem, node.start_mark)
        return mapping


_Names.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag == "tag:yaml.org,2002:null"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _repeated(names: Sequence[Any]) -> Any:
    return next(name for position, name in enumerate(names) if name in names[:position])


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing; add it"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown entry; there are {', '.join(ClassMap.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}={problem['input']!r:.60}: {message[0].lower()}{message[1:]}" if where else message
