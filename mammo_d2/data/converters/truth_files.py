"""Truth that comes beside a folder of images: a table or a COCO file, in pixels of the source files.

A table (CSV in any usual form, or .xlsx; see ``core/table_files.py``) has the column ``file`` (path relative to the
folder; of a DICOM file also its SOP Instance UID) and any of ``COLUMNS``: one row per lesion, or one row without box
and category for an image. Columns may have other names, which have to be told. Any other column is an error unless it
is named as one to be ignored: a misspelt one would silently turn images with lesions into negative images. Of a COCO
file only the keys named below go out; others are left out with a note.

With label rules (``label_rules``) a table may have further columns, the facts that the rules look at, and boxes without
a category. A fact at the level of a finding is that of its row; one of an image, breast or exam must be the same in all
of its rows.

If the truth has labels, an image without labels is unknown. A truth without any (no label column, no ``labels`` in the
COCO file) is a list of boxes: its images without a box have no finding.
"""

from __future__ import annotations

import argparse
import math
import os
import posixpath
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.core.table_files import TABLE_SUFFIXES, TextTable
from mammo_d2.data.converters.converter import Converter, ConverterError, SourceAnnotation, checked_rows, labels_from
from mammo_d2.data.converters.label_rules import IMAGE_LEVELS, LEFT_OUT, LabelRules
from mammo_d2.data.converters.truth_columns import BOX, COLUMNS, ROW_FACTS, TruthColumns
from mammo_d2.data.format.annotations import SPLITS, load_coco
from mammo_d2.data.format.record_checks import VIEWS
from mammo_d2.data.reading.image_meta import SPECIAL_KINDS, ReadOptions

# Keys of a COCO file that the pipeline makes itself or that hold geometry.
_OWN_KEYS = ("id", "file_name", "height", "width", "source", "transform", "breast_box")
_FACTS = ("patient_id", "exam_id", "laterality", "view", "labels", "birads", "density")
_POINTS = ("nipple", "pectoral")
_OWN_ANNOTATION_KEYS = (
    "id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "pathology", "lesion_id",
)  # fmt: skip
# Further facts that are passed on: what this package's converters and phantoms write. Any other key is left out with a
# note: it may hold a name or a date, or mean something else here.
_MORE_FACTS = ("patient_class", "site", "difficult_negative", "abnormality", "subtype", "tissue", "findings")
_MORE_LESION_FACTS = ("finding", "birads", "look", "decided_by", "diameter_mm")
_DATE = re.compile(r"^\d{4}(-\d\d(-\d\d)?)?$")
_SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}


class Truth:
    """What a truth file says, by file name.

    Args:
        path: table or COCO JSON, or None: nothing is known about any file.
        rules: how labels and categories follow from a table's further columns.
        columns: names of a table's columns that are not in ``COLUMNS``.

    Raises:
        FileNotFoundError, ConverterError, SchemaError: a missing or wrong truth file.
        LabelRuleError: facts that no rule covers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        rules: LabelRules | None = None,
        columns: TruthColumns | None = None,
    ) -> None:
        self.path = Path(path) if path else None
        self._records: dict[str, dict[str, Any]] = {}
        self._used: set[str] = set()
        #: What of the file is not used, for a person: no values, which may name somebody.
        self.notes: list[str] = []
        #: How a table was understood, in a line; empty without one.
        self.understood = ""
        is_table = self.path is not None and self.path.suffix.lower() in TABLE_SUFFIXES
        for what, given in (
            ("label rules need", rules is not None),
            ("--columns and --ignore-columns are for", columns),
        ):
            if given and not is_table:
                raise ConverterError(f"{self.path or 'no truth'}: {what} a truth table; give --truth TABLE.csv")
        if self.path is None:
            return
        if is_table:
            table, self.understood = (columns or TruthColumns()).of_truth(self.path)
            self._records = _read_table(table, rules or LabelRules({}))
        else:
            self._records, self.notes = _read_coco(self.path)

    @property
    def dated(self) -> bool:
        """Whether any file has an exam_date."""
        return any(record.get("exam_date") for record in self._records.values())

    def find(self, *names: str | None) -> Mapping[str, Any] | None:
        """Facts about the file that has one of these names; without truth none, None if the truth does not list it.

        ``labels`` among them are None if the truth has no labels at all.
        """
        if self.path is None:
            return {"labels": labels_from((), known=False)}
        for name in names:
            key = file_key(name or "")
            if key in self._records:
                self._used.add(key)
                return self._records[key]
        return None

    def check_all_found(self, source: Path, skipped: Sequence[tuple[str, str]]) -> None:
        """To be called when all files have been looked for.

        Args:
            source: the folder of images.
            skipped: (file, why) that were left out.

        Raises:
            ConverterError: the truth lists files that are not in the folder, or that were skipped there.
        """
        unused = sorted(set(self._records) - self._used)
        if not unused:
            return
        why = {file_key(what): reason for what, reason in skipped}
        first = next((name for name in unused if name in why), None)
        if first is not None:
            raise ConverterError(f"{self.path}: {len(unused)} files cannot be used, e.g. {first!r}: {why[first]}")
        raise ConverterError(
            f"{self.path}: {len(unused)} files are not in {source}, e.g. {unused[0]!r}; file names are relative to "
            "that folder"
        )


class FolderWithTruth(Converter):
    """Base class of converters of a folder with a truth file beside it.

    Args:
        source: the folder.
        truth: COCO JSON or table, or None.
        read_options: how files become pixels.
        name: of the data set; the class's by default.
        labels: YAML file of label rules, for a truth table whose labels follow from further columns.
        columns: of a truth table with names of its own.

    Raises:
        FileNotFoundError, ConverterError, SchemaError, LabelRuleError: a missing or wrong truth file, or label rules.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        truth: str | os.PathLike[str] | None = None,
        read_options: ReadOptions | None = None,
        name: str = "",
        labels: str | os.PathLike[str] | None = None,
        columns: TruthColumns | None = None,
    ) -> None:
        super().__init__(source, read_options)
        self.name = name or self.name
        self._rules = LabelRules.from_file(labels, None) if labels else None
        self.truth = Truth(truth, self._rules, columns)
        for note in self.truth.notes:
            self.skip(str(truth), note)

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "truth": self.truth.path.name if self.truth.path else None}

    def tell_truth(self) -> None:
        """Print how a truth table was understood."""
        if self.truth.understood:
            print(self.truth.understood)

    def facts(self, relative: str, *others: str | None) -> Mapping[str, Any] | None:
        """What the truth says of a file, by its path or another name; None, and a note, if it does not list it."""
        found = self.truth.find(relative, *others)
        if found is None:
            assert self.truth.path is not None  # without truth every file is known
            self.skip(relative, f"not in {self.truth.path.name}")
        elif found.get("left_out"):
            self.skip(relative, f"left out by the label rules ({self.rules.origin})")
            return None
        return found


def add_truth_arguments(parser: argparse.ArgumentParser, pixels: str) -> None:
    """The arguments --truth, --columns, --ignore-columns and --labels of folders with a truth table.

    Args:
        parser: of the command.
        pixels: whose pixels the truth is in.
    """
    parser.add_argument("--truth", type=Path, default=None, help=f"COCO JSON, CSV or .xlsx in pixels of {pixels}")
    parser.add_argument("--columns", nargs="+", default=[], metavar="NAME=FIELD",
                        help="columns of the truth table with names of their own, e.g. Befund=category")  # fmt: skip
    parser.add_argument("--ignore-columns", nargs="+", default=[], metavar="NAME",
                        help="columns of the truth table that are not read")  # fmt: skip
    text = "rules by which the labels follow from columns of the truth table; --dry-run shows them"
    parser.add_argument("--labels", type=Path, default=None, metavar="YAML", help=text)


def truth_help(file: str) -> str:
    """What a truth file must hold, for the help of a command.

    Args:
        file: what its column ``file`` holds.
    """
    columns = textwrap.indent(textwrap.fill(", ".join(COLUMNS[1:]), 106), "    ")
    return (
        "Truth may come as a COCO file with the categories benign and malignant, or as a table, both in pixels of\n"
        f"the files. The table has the column file ({file}) and any of\n{columns}\n"
        "One row per lesion (category benign or malignant and a box), or one row without category and box for an\n"
        "image. benign and malignant label the image: 1, 0, or empty where unknown. exam_date (2019-05-31 or less)\n"
        "orders a patient's exams and is not written. kinds are those of --take. With --labels the table may have any\n"
        "further columns that the rules name, and they say what is benign or malignant."
    )


def file_key(name: str) -> str:
    """A relative path in one spelling: slashes, composed accents (some file systems decompose them)."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return posixpath.normpath(name) if name else name


def _read_coco(path: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """File name -> facts from a COCO file in source pixels; and a note for each key that is left out."""
    data = load_coco(path, clip_boxes=False)
    names = {c["id"]: c["name"].lower() for c in data["categories"]}
    wrong = sorted(set(names.values()) - set(LABELS))
    if wrong:
        raise ConverterError(f"{path}: category {wrong[0]!r}; the categories must be among {', '.join(LABELS)}")
    records: dict[str, dict[str, Any]] = {}
    by_id: dict[int, dict[str, Any]] = {}
    for image in data["images"]:
        _check_split(image.get("split"), f"{path}: image {image['id']}")
        record = {key: image.get(key) for key in (*_FACTS, "breast_box", "split")}
        spacing = image.get("pixel_spacing")
        record["pixel_spacing"] = tuple(spacing) if spacing else None
        record["pixel_spacing_source"] = image.get("pixel_spacing_source")
        record["annotations"] = []
        record["points"] = {key: image[key] for key in _POINTS if key in image}
        record["boxes"] = {}
        record["extra"] = {key: image[key] for key in _MORE_FACTS if key in image}
        records[file_key(image["file_name"])] = by_id[image["id"]] = record
    for annotation in data["annotations"]:
        extra = {key: annotation[key] for key in _MORE_LESION_FACTS if key in annotation}
        lesion = SourceAnnotation(
            names[annotation["category_id"]],
            tuple(annotation["bbox"]),
            annotation.get("segmentation"),
            annotation.get("pathology"),
            annotation.get("lesion_id"),
            extra,
        )
        here = by_id[annotation["image_id"]]["annotations"]
        if lesion in here:
            raise ConverterError(
                f"{path}: annotation {annotation['id']}: another annotation of image {annotation['image_id']} says the "
                "same; remove one of them"
            )
        here.append(lesion)
    for distractor in data.get("distractors", ()):
        by_id[distractor["image_id"]]["boxes"].setdefault("distractors", []).append(distractor["bbox"])
    _check_labels(path, records)
    _fill_labels(records, any(record["labels"] for record in records.values()))
    image_keys = (*_OWN_KEYS, *_FACTS, *_POINTS, *_MORE_FACTS, "split", "pixel_spacing", "pixel_spacing_source")
    annotation_keys = (*_OWN_ANNOTATION_KEYS, *_MORE_LESION_FACTS)
    notes = _left_out(data["images"], "images", image_keys)
    return records, notes + _left_out(data["annotations"], "annotations", annotation_keys)


def _left_out(entries: Sequence[Mapping[str, Any]], what: str, known: Sequence[str]) -> list[str]:
    """A note for each key of the entries that is not ``known``."""
    counts = Counter(key for entry in entries for key in entry if key not in known)
    return [f"key {key!r} of {count} {what} is none of the format's; left out" for key, count in sorted(counts.items())]


def _read_table(table: TextTable, rules: LabelRules) -> dict[str, dict[str, Any]]:
    """File name -> facts from a table in ``COLUMNS``."""
    path = table.path
    rows = [
        {name: table.number_text(cell) if name in BOX else cell for name, cell in row.items()} | {"#": str(line)}
        for line, row in table.by_column(ConverterError)
    ]
    records: dict[str, dict[str, Any]] = {}
    labelled = False
    finding_facts, image_facts = rules.facts_of("finding"), rules.facts_of(*IMAGE_LEVELS)
    # A fact of findings alone may differ between the lesions of an image.
    of_image = [
        key for key in dict.fromkeys((*ROW_FACTS, *image_facts)) if key in image_facts or key not in finding_facts
    ]
    for row in checked_rows(path, table.header, rows, ["file"]):
        where = f"{path}, line {row['#']}"
        unknown = sorted(set(row) - {*COLUMNS, *finding_facts, *image_facts, "#"})
        if unknown:
            raise ConverterError(
                f"{path}: unknown column {', '.join(map(repr, unknown))}; the columns are {', '.join(COLUMNS)}: "
                f"remove it, or say what it is: --columns {unknown[0]}=FIELD, --ignore-columns {unknown[0]}"
            )
        if missing := [name for name in (*finding_facts, *image_facts) if name not in row]:
            raise ConverterError(f"{path}: column {missing[0]!r} is missing, at which the label rules look; add it")
        record = records.setdefault(file_key(row["file"]), {"annotations": [], "labels": None})
        for key in of_image:
            if row.get(key):
                value = _fact(key, row[key], where)
                if record.setdefault(key, value) != value:
                    raise ConverterError(f"{where}: {key} {value!r}, but {record[key]!r} in another row of the file")
        labelled = any(name in row for name in LABELS)
        given = {name: row.get(name, "") for name in LABELS}
        if any(given.values()):
            labels = record["labels"] = record["labels"] or dict.fromkeys(LABELS)
            for name, text in given.items():
                label = _label(text, where, name)
                if label is not None and labels[name] not in (None, label):
                    raise ConverterError(
                        f"{where}: {name} {label}, but {labels[name]} in another row of {row['file']!r:.80}; labels "
                        "are the image's: make its rows agree"
                    )
                labels[name] = labels[name] if label is None else label
        lesion = _lesion(row, where, rules)
        if lesion is not None:
            if lesion in record["annotations"]:
                raise ConverterError(f"{where}: the same lesion is in another row; remove one of them")
            record["annotations"].append(lesion)
    _check_labels(path, records)
    _apply_rules(path, records, rules, labelled)
    _fill_labels(records, labelled)
    return records


def _apply_rules(path: Path, records: Mapping[str, dict[str, Any]], rules: LabelRules, labelled: bool) -> None:
    """Labels by the tables of images, breasts and exams; and images that the rules leave out."""
    if labelled and any(level in rules.tables for level in IMAGE_LEVELS):
        raise ConverterError(
            f"{path}: it has labels (columns {', '.join(LABELS)}), and the label rules make other ones; drop the one "
            "or the other"
        )
    seen: dict[tuple, tuple[str, str]] = {}
    for name, record in records.items():
        facts = {level: {key: record.get(key, "") for key in rules.facts_of(level)} for level in IMAGE_LEVELS}
        exam = (record.get("patient_id"), record.get("exam_id"))
        for level, place in (("exam", exam), ("breast", (*exam, record.get("laterality")))):
            for key, value in facts[level].items() if place[-1] else ():
                first, other = seen.setdefault((level, key, *place), (name, value)) if value else (name, value)
                if other != value:
                    raise ConverterError(
                        f"{path}: {key} of {name!r:.80} is {value!r}, but {other!r} of {first!r:.80} of the same "
                        f"{level}; the label rules take it as the {level}'s: make them agree, or use it per image"
                    )
        findings = [lesion.category for lesion in record["annotations"]]
        if LEFT_OUT in findings or any(level in rules.tables for level in IMAGE_LEVELS):
            record["labels"] = rules.image_labels(facts, findings, f"{path}: {name!r:.80}", complete=False)
            record["left_out"] = record["labels"] is None


def _check_labels(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise if an image with a lesion is labelled as one without."""
    for name, record in records.items():
        for lesion in record["annotations"]:
            if (record["labels"] or {}).get(lesion.category) == 0:
                raise ConverterError(
                    f"{path}: {name!r:.80} has a {lesion.category} box, but its label {lesion.category} is 0; correct "
                    "the one or the other"
                )


def _fill_labels(records: Mapping[str, dict[str, Any]], labelled: bool) -> None:
    """Labels of images without labels in the truth: from their boxes, which show what is there, not what is absent.

    Images without boxes get none if nothing in the truth is ``labelled``.
    """
    for record in records.values():
        if not record["labels"] and (labelled or record["annotations"]):
            record["labels"] = labels_from((a.category for a in record["annotations"]), known=False)


def _lesion(row: Mapping[str, str], where: str, rules: LabelRules) -> SourceAnnotation | None:
    """The lesion of a row, None for a row about an image."""
    category = row.get("category", "").lower()
    corners = [row.get(name, "") for name in BOX]
    if not any(corners):
        if category:
            raise ConverterError(
                f"{where}: category {row['category']!r} without {', '.join(BOX)}, so that its image would count as one "
                "without a lesion; give the box, or leave the category empty and label the image (columns "
                f"{', '.join(LABELS)}: 0, 1 or empty)"
            )
        return None
    facts = {name: row[name] for name in rules.facts_of("finding")}
    if not category and facts:
        category = rules.verdict("finding", facts, where)
    elif category not in LABELS:
        raise ConverterError(f"{where}: category {row.get('category')!r} must be one of {', '.join(LABELS)}")
    try:
        x, y, w, h = (float(v) for v in corners)
    except ValueError:
        x = math.nan
    if not math.isfinite(x) or not all(math.isfinite(v) for v in (y, w, h)):
        raise ConverterError(f"{where}: x, y, width, height = {corners} must be four numbers")
    pathology = category if category in LABELS else None
    return SourceAnnotation(category, (x, y, w, h), None, pathology, row.get("lesion_id") or None)


def _fact(key: str, value: str, where: str) -> str:
    """One fact about an image, in the spelling of the format."""
    if key == "laterality":
        if value.lower() not in _SIDES:
            raise ConverterError(f"{where}: laterality {value!r} must be L or R, or empty where it is unknown")
        return _SIDES[value.lower()]
    if key == "view":
        if value.upper() not in VIEWS:
            raise ConverterError(f"{where}: view {value!r} must be one of {', '.join(VIEWS)}, or empty")
        return value.upper()
    if key == "kinds":
        wrong = [kind for kind in value.split() if kind not in SPECIAL_KINDS]
        if wrong:
            raise ConverterError(
                f"{where}: kinds {wrong[0]!r:.40} must be among {', '.join(SPECIAL_KINDS)}, several parted by "
                "blanks, or empty for an ordinary mammogram"
            )
    if key == "exam_date" and not _DATE.match(value):
        raise ConverterError(f"{where}: exam_date {value!r:.40} must read as 2019-05-31, 2019-05 or 2019")
    if key == "split":
        _check_split(value, where)
    return value


def _check_split(value: Any, where: str) -> None:
    if value is not None and value not in SPLITS:
        raise ConverterError(f"{where}: split {value!r} must be one of {', '.join(SPLITS)}, or empty")


def _label(value: str, where: str, name: str) -> int | None:
    if value not in ("", "0", "1"):
        raise ConverterError(f"{where}: {name} {value!r} must be 0, 1 or empty (unknown)")
    return int(value) if value else None
