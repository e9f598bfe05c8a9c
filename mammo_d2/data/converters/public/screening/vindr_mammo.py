"""VinDr-Mammo: 5,000 four-view exams with BI-RADS and boxes (https://doi.org/10.13026/br2v-7517).

Layout: ``images/<study_id>/<image_id>.dicom``, ``breast-level_annotations.csv``, ``finding_annotations.csv``. Things to
know about it:

* There is no patient id; an exam stands for its patient.
* There is no pathology: findings and breasts of BI-RADS 4 and 5 count as malignant, below as benign.
* Boxes of skin, nipple and lymph nodes often have no assessment (125 of 2,254 boxes). They are neither benign nor
  malignant: the image lists them under ``unassessed_boxes``, with their kinds under ``unassessed_findings``.
* Benign findings (BI-RADS 2) are not boxed: an image without box is not an image without lesion.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mammo_d2.data.converters.birads import (
    GRADE_FACT,
    AssessedConverter,
    birads_breasts,
    birads_findings,
    parse_birads,
)
from mammo_d2.data.converters.converter import ConverterError, SourceAnnotation, SourceImage, read_table
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import UNKNOWN, Facts, LabelRule

_BREAST = ("study_id", "image_id", "laterality", "view_position", "breast_birads", "breast_density", "split")
_FINDING = ("image_id", "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax")
# What stands in ``finding_categories`` where there is no box.
_NOTHING = ("", "['No Finding']", '["No Finding"]', "No Finding")
_SPLITS = {"training": "train", "test": "test"}


@register_converter
class VindrMammo(AssessedConverter):
    """Converter of VinDr-Mammo.

    Args:
        source: folder with ``images`` and the two tables.
        malignant_from: least BI-RADS that counts as malignant.
        read_options: how DICOM files become pixels.
    """

    name = "vindr_mammo"
    command = "vindr-mammo"
    summary = "VinDr-Mammo: boxes, BI-RADS"
    description = (
        "Prepare VinDr-Mammo. The official training and test sets are kept; use --val-from-train for a validation set."
    )
    source_help = "folder with images/, breast-level_annotations.csv and finding_annotations.csv"
    label_facts: ClassVar[Facts] = {
        "finding": GRADE_FACT,
        "breast": {**GRADE_FACT, "density": ("", "A", "B", "C", "D")},
    }

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class; a box of BI-RADS 0 (incomplete) is unknown."""
        return {"finding": birads_findings(self.malignant_from), "breast": birads_breasts(self.malignant_from)}

    def images(self) -> Iterator[SourceImage]:
        """See the base class; the data set's own training and test sets are kept."""
        findings = self._findings()
        path = self.source / "breast-level_annotations.csv"
        rows = read_table(path, _BREAST, unique=("image_id",))
        self._check_images(findings, rows, path)
        for row in rows:
            where = f"{path}, line {row['#']}"
            if row["split"] not in _SPLITS:
                raise ConverterError(f"{where}: split {row['split']!r} must be training or test")
            grade = _grade(row["breast_birads"], where)
            density = row["breast_density"].upper().removeprefix("DENSITY").strip()
            relative = f"images/{row['study_id']}/{row['image_id']}.dicom"
            facts = {"birads": grade[1] if grade else "", "density": density}
            lesions = findings.get(row["image_id"], [])
            labels = self.image_labels(relative, {"breast": facts}, (a.category for a in lesions), where)
            if labels is None:
                continue
            yield SourceImage(
                path=self.source / relative,
                key=f"{row['study_id']}/{row['image_id']}",
                source_name=relative,
                annotations=tuple(lesions),
                patient_id=row["study_id"],
                exam_id=row["study_id"],
                laterality=row["laterality"] or None,
                view=row["view_position"] or None,
                labels=labels,
                birads=grade[1] if grade else None,
                density=density or None,
                split=_SPLITS[row["split"]],
            )

    def _findings(self) -> dict[str, list[SourceAnnotation]]:
        """Image id -> boxed findings; those without an assessment are unknown."""
        path = self.source / "finding_annotations.csv"
        findings: dict[str, list[SourceAnnotation]] = {}
        seen: dict[tuple, str] = {}
        for row in read_table(path, _FINDING):
            where = f"{path}, line {row['#']}"
            corners = [row[c] for c in ("xmin", "ymin", "xmax", "ymax")]
            if not any(corners):
                if row["finding_categories"] not in _NOTHING:
                    raise ConverterError(
                        f"{where}: {row['finding_categories']!r:.80} without a box, so that its image would count as "
                        "one without; give xmin, ymin, xmax and ymax, or write ['No Finding']"
                    )
                continue
            try:
                x1, y1, x2, y2 = (float(v) for v in corners)
                kinds = list(ast.literal_eval(row["finding_categories"]))
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise ConverterError(
                    f"{where}: box {corners} or categories {row['finding_categories']!r}: {error}"
                ) from None
            box = (x1, y1, x2 - x1, y2 - y1)
            if not all(math.isfinite(v) for v in box) or min(box[2:]) <= 0:
                raise ConverterError(f"{where}: box {corners} must be left, top, right and bottom, and have an area")
            if row["finding_categories"] in _NOTHING:
                raise ConverterError(f"{where}: a box, but {row['finding_categories']!r}; name what it is around")
            facts = (row["image_id"], box, *map(str, kinds))
            if facts in seen:
                self.skip(path.name, f"line {row['#']}: the finding of line {seen[facts]} again")
                continue
            seen[facts] = row["#"]
            grade = _grade(row["finding_birads"], where)
            short = grade[1] if grade else ""
            category = self.rules.verdict("finding", {"birads": short}, where)
            here = findings.setdefault(row["image_id"], [])
            if category == UNKNOWN:
                why = f"line {row['#']}: {', '.join(map(str, kinds))} without an assessment; listed as unassessed"
                self.skip(path.name, why)
            number = sum(lesion.category != UNKNOWN for lesion in here) + 1
            extra = {"finding": kinds, "birads": short}
            here.append(SourceAnnotation(category, box, None, None, f"{row['image_id']}_{number}", extra))
        return findings

    @staticmethod
    def _check_images(findings: Mapping, rows: Sequence[Mapping[str, str]], path: Path) -> None:
        """Raise if a finding is of an image that the other table does not have: it would be lost without a word."""
        unknown = sorted(set(findings) - {row["image_id"] for row in rows})
        if unknown:
            raise ConverterError(
                f"{path}: finding_annotations.csv has findings of {len(unknown)} image(s) that are not in this table, "
                f"e.g. image_id {unknown[0]!r:.80}; correct the one or the other"
            )


def _grade(text: str, where: str) -> tuple[int, str] | None:
    try:
        return parse_birads(text)
    except ValueError as error:
        raise ConverterError(f"{where}: {error}") from error
