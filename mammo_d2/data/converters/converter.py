"""What every data set converter hands over: images and lesions in pixels of the source files.

A converter reads a data set's tables and says which files there are and what is known about them; everything that
needs pixels (reading, cropping, scaling, writing, the splits) is done for all of them by ``mammo_d2.data.prepare``.
"""

from __future__ import annotations

import argparse
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mammo_d2.core.csv_files import read_csv
from mammo_d2.data.converters.header_listing import HeaderListing
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule, LabelRules
from mammo_d2.data.converters.source_arguments import add_read_arguments, add_source_argument, read_options
from mammo_d2.data.reading.image_meta import ImageMeta, ReadOptions
from mammo_d2.data.reading.reader import read_image


class ConverterError(ValueError):
    """A source that is not the expected data set; the message names file, row and remedy."""


@dataclass(frozen=True)
class SourceAnnotation:
    """One lesion in pixels of the source file.

    Attributes:
        category: "benign", "malignant" or "unknown"; see ``set_unknown_apart``.
        bbox: x, y, width, height; None when ``complete`` finds it from a mask.
        segmentation: polygons [[x1, y1, ...], ...] or run-length {"size", "counts"} (pycocotools), or None.
        pathology: as the data set says it.
        lesion_id: joins the same lesion over views.
        extra: further keys of the annotation record.
    """

    category: str
    bbox: tuple[float, float, float, float] | None
    segmentation: Any = None
    pathology: str | None = None
    lesion_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceImage:
    """One image of a data set before it is read.

    Attributes:
        path: the source file.
        key: unique name of the prepared image without suffix, with forward slashes, e.g. "mdb001".
        source_name: how the record names the source file (no patient names; usually relative to the data set).
        annotations: its lesions.
        patient_id, exam_id, laterality, view, labels, birads, density, pixel_spacing, pixel_spacing_source,
            breast_box: as in the COCO image record, geometry in source pixels; None where unknown (the file's own tags
            then fill in laterality, view and spacing). ``labels`` None: the record has none, and an image without
            lesion is a negative one; unknown ones are {"benign": None, "malignant": None}.
        split: the data set's own split, or None.
        points: further point lists in source pixels, by record key (e.g. "nipple": [x, y]).
        boxes: further XYWH boxes in source pixels, by record key.
        extra: further keys of the image record.
        data: whatever ``Converter.complete`` needs (paths of masks); not written.
        kinds: special kinds of image, of ``SPECIAL_KINDS``, as far as they are known without reading the file.
        exam_time: when the exam was, to be compared as text with the patient's other exams (a date, a year); not
            written.
        problem: why the image cannot be used, e.g. its truth cannot be read; it is then left out with this error.
    """

    path: Path
    key: str
    source_name: str
    annotations: tuple[SourceAnnotation, ...] = ()
    patient_id: str | None = None
    exam_id: str | None = None
    laterality: str | None = None
    view: str | None = None
    labels: dict[str, int | None] | None = None
    birads: int | str | None = None
    density: str | int | None = None
    pixel_spacing: tuple[float, float] | None = None
    pixel_spacing_source: str | None = None
    breast_box: tuple[float, float, float, float] | None = None
    split: str | None = None
    points: dict[str, Any] = field(default_factory=dict)
    boxes: dict[str, list[list[float]]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    exam_time: str | None = None
    problem: str | None = None


class DryRun(Exception):
    """Raised by ``Converter.from_arguments`` if a dry run has no source to look at; says what a run would do."""


class Converter(ABC):
    """Base of all converters; must be picklable, for the worker processes call ``read`` and ``complete``.

    ``command``, ``summary``, ``description`` and ``source_help`` are what ``mammo-d2 prepare`` offers it by, once it is
    registered (see ``converter_registry``).

    Args:
        source: folder of the data set.
        read_options: how DICOM files become pixels.

    Raises:
        FileNotFoundError: no such folder.
    """

    #: Short name, also the default name of the prepared data set.
    name: str = ""
    #: The sub-command of ``mammo-d2 prepare``, e.g. "mini-mias"; the entry point's name if it comes from one.
    command: ClassVar[str] = ""
    #: One line for the list of sub-commands.
    summary: ClassVar[str] = ""
    #: What the sub-command's help says.
    description: ClassVar[str] = ""
    #: What --source must hold.
    source_help: ClassVar[str] = "folder of the data set"
    #: What the data set says, for rules that make its labels of it (--labels); empty: it needs none.
    label_facts: ClassVar[Facts] = {}

    def __init__(self, source: str | os.PathLike[str], read_options: ReadOptions | None = None) -> None:
        self.source = Path(source)
        self.read_options = read_options or ReadOptions()
        self.skipped: list[tuple[str, str]] = []
        #: How ``images`` reads the headers of many files; set by the run.
        self.listing = HeaderListing()
        self._rules: LabelRules | None = None
        if not self.source.is_dir():
            raise FileNotFoundError(f"{self.source}: no such folder; give the folder of the {self.name} data set")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Arguments of the sub-command besides those of every one: by default --source and how DICOM is read."""
        add_source_argument(parser, cls.source_help)
        add_read_arguments(parser)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Converter:
        """The converter that parsed arguments ask for.

        Args:
            args: those of ``add_arguments``; besides, ``out``, ``workers``, ``quiet``, ``dry_run``, ``keep_files`` and
                the others of every sub-command.

        Raises:
            DryRun: the source is made by the run, and this is a dry run.
            ValueError: arguments that do not go together.
        """
        return cls(args.source, read_options=read_options(args))

    @abstractmethod
    def images(self) -> Iterable[SourceImage]:
        """The data set's images in a fixed order.

        Files or rows that are left out on purpose go to ``self.skipped`` as (what, why).
        """

    def read(self, image: SourceImage) -> tuple[np.ndarray, ImageMeta]:
        """Pixels of one image, float32 (H, W), and its meta (called in a worker)."""
        return read_image(image.path, self.read_options)

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """Fill in what only the file knows (called in a worker): laterality, view and spacing from DICOM tags."""
        known = image.pixel_spacing is not None
        return replace(
            image,
            laterality=image.laterality or meta.laterality,
            view=image.view or meta.view,
            pixel_spacing=image.pixel_spacing if known else meta.pixel_spacing,
            pixel_spacing_source=image.pixel_spacing_source if known else meta.pixel_spacing_source,
        )

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """The data set's own tables for ``rules``, level -> rows; read at their first use."""
        return {}

    @property
    def rules(self) -> LabelRules:
        """How the labels follow from ``label_facts``."""
        if self._rules is None:
            self._rules = LabelRules(self.built_in_rules())
        return self._rules

    def use_label_rules(self, path: str | os.PathLike[str]) -> None:
        """Take the rules of a YAML file instead of the built-in ones, level by level.

        Raises:
            FileNotFoundError: no such file.
            LabelRuleError: not a table of such rules, or of other facts than the data set's.
        """
        self._rules = LabelRules.from_file(path, self.label_facts, LabelRules(self.built_in_rules()))

    def image_labels(
        self,
        what: str,
        facts: Mapping[str, Mapping[str, str]],
        findings: Iterable[str],
        where: str,
        complete: bool = True,
    ) -> dict[str, int | None] | None:
        """Labels of an image by the rules (arguments as of ``LabelRules.image_labels``).

        Returns:
            None if the rules leave the image out; it is then listed as skipped under the name ``what``.
        """
        labels = self.rules.image_labels(facts, findings, where, complete)
        if labels is None:
            said = ", ".join(f"{name} {value}" for level in facts.values() for name, value in level.items() if value)
            self.skip(what, f"left out by the label rules ({self.rules.origin}){': ' if said else ''}{said}")
        return labels

    def parameters(self) -> dict[str, Any]:
        """What the manifest records about this converter besides its name."""
        labels = {"labels": self.rules.to_dict()} if self.rules.tables else {}
        return {"source": self.source.name, **labels}

    def skip(self, what: str | os.PathLike[str], why: str) -> None:
        """Record a file or row that is skipped."""
        self.skipped.append((str(what), why))


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    delimiter: str = ",",
    unique: Sequence[str] = (),
    keep: Collection[str] | None = None,
) -> list[dict[str, str]]:
    """Read a CSV file with a header; values are stripped, line breaks within quotes are kept together.

    Args:
        path: the file.
        columns: names that must be there.
        delimiter: between fields.
        unique: columns whose values together name a row: two rows with the same ones are an error.
        keep: the only columns that rows shall have, of a table with hundreds; all if None.

    Returns:
        One dict per row, with the number of the line that it begins on under "#" (the header is line 1).

    Raises:
        FileNotFoundError: no such file.
        ConverterError: no row, a missing column, one that is there twice, a row with more or fewer values than columns
            or whose ``unique`` values are there twice, a quotation mark that is not closed, or no text in UTF-8.
    """
    header, rows = read_csv(
        path,
        delimiter=delimiter,
        keep=keep,
        if_missing="the table belongs to the data set, download it too",
        error=ConverterError,
    )
    stripped = ((number, {column: value.strip() for column, value in row.items()}) for number, row in rows)
    return checked_rows(path, header, [{**row, "#": str(number)} for number, row in stripped], columns, unique)


def checked_rows(
    path: str | os.PathLike[str],
    header: Sequence[str],
    rows: list[dict[str, str]],
    columns: Sequence[str],
    unique: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Rows of a table of any kind of file, unchanged; arguments and errors as of ``read_table``."""
    missing = [c for c in columns if c not in header]
    if missing:
        raise ConverterError(
            f"{path}: column {missing[0]!r} is missing; found {', '.join(header) or 'nothing'}; is this the right "
            "file, with the right delimiter?"
        )
    if not rows:
        raise ConverterError(f"{path}: no row below the header; download the table again")
    lines: dict[tuple[str, ...], str] = {}
    for row in rows if unique else ():
        first = lines.setdefault(tuple(row[column] for column in unique), row["#"])
        if first != row["#"]:
            named = ", ".join(f"{column} {row[column]!r}" for column in unique)
            raise ConverterError(f"{path}, line {row['#']}: {named} is there twice (line {first}); remove one of them")
    return rows


def labels_from(categories: Iterable[str], known: bool = True) -> dict[str, int | None]:
    """Image labels from its lesions: 1 where there is one; without one 0, or None if ``known`` is False."""
    present = set(categories)
    return {name: 1 if name in present else (0 if known else None) for name in ("benign", "malignant")}


def set_unknown_apart(image: SourceImage) -> SourceImage:
    """Move lesions that are neither benign nor malignant from the annotations to the image's ``unassessed_boxes``.

    Their kinds (``finding`` of ``extra``) become the image's ``unassessed_findings``.
    """
    unknown = [lesion for lesion in image.annotations if lesion.category == UNKNOWN]
    if not unknown:
        return image
    boxes = {"unassessed_boxes": [list(lesion.bbox) for lesion in unknown if lesion.bbox is not None]}
    kinds = {"unassessed_findings": [lesion.extra.get("finding") for lesion in unknown if lesion.bbox is not None]}
    known = tuple(lesion for lesion in image.annotations if lesion.category != UNKNOWN)
    return replace(image, annotations=known, boxes={**image.boxes, **boxes}, extra={**image.extra, **kinds})


def circle_box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """XYWH box around a circle given by the centre's pixel indices.

    The centre of pixel (x, y) lies at (x + 0.5, y + 0.5) in continuous coordinates.
    """
    return x + 0.5 - radius, y + 0.5 - radius, 2 * radius, 2 * radius
