"""DDSM: 2,620 cases of four digitised films each, with outlines and pathology (University of South Florida).

Layout: a folder per case, anywhere below the source, with ``A-1141-1.ics``, ``A_1141_1.LEFT_CC.LJPEG`` (and the other
three views) and ``A_1141_1.LEFT_CC.OVERLAY`` where something was found. The folders ``normals/normal_01`` ...,
``cancers/...`` and ``benigns/...`` are those of the download. Things to know about it:

* The LJPEG files are no standard JPEG (see ``pvrg_jpeg``). Copies as PNG or TIFF with the same names are read, too.
* Grey values depend on the scanner. ``calibration`` makes optical densities of them, with the formulas that DDSM's
  page of each scanner gives: density 4 becomes black, density 0 white. One of the scanners (DBA) is linear in
  transmitted light, so that its films look black without it. Copies may hold anything and are left as they are.
* The pixel size is the scanner's: 42 (DBA), 43.5 (Howtek) or 50 micrometres (Lumisys).
* An abnormality has an outline, and may have cores inside it. Its film lists the boxes of cores under ``core_boxes``.
* UNPROVEN abnormalities are neither benign nor malignant, their breast's labels are unknown.
* A film without an outline in a breast with one, and a case outside of ``normals`` without any, has unknown labels.
* CBIS-DDSM are films of DDSM in another preparation: never train on one of the two and test on the other.

From the set's description and public readers; not checked against its files.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mammo_d2.data.converters.birads import GRADE_FACT
from mammo_d2.data.converters.converter import Converter, ConverterError, SourceAnnotation, SourceImage
from mammo_d2.data.converters.converter_registry import register_converter
from mammo_d2.data.converters.label_rules import LEFT_OUT, UNKNOWN, Facts, LabelRule, rule
from mammo_d2.data.converters.public.film.ddsm_overlay import (
    PATHOLOGIES,
    VIEW_NAMES,
    Abnormality,
    DdsmCase,
    Film,
    read_case,
    read_overlay,
)
from mammo_d2.data.converters.source_arguments import add_source_argument
from mammo_d2.data.converters.source_outlines import fit_to_file, pixel_outline
from mammo_d2.data.reading.image_meta import FULL_SCALE_8_BIT, FULL_SCALE_16_BIT, ImageMeta, ReadOptions
from mammo_d2.data.reading.pvrg_jpeg import read_pvrg_jpeg
from mammo_d2.data.reading.reader import IMAGE_SUFFIXES, read_image

CALIBRATIONS = ("auto", "density", "none")
# Optical density that becomes black.
BLACKEST = 4.0
# First letter of the case's name: A is Massachusetts General Hospital, B and C Wake Forest, D the third site (ISMD).
_CASE = re.compile(r"^([A-Z])[-_](\d+)[-_](\d+)$", re.IGNORECASE)


@register_converter
class Ddsm(Converter):
    """Converter of DDSM.

    Args:
        source: folder with the case folders, at any depth.
        calibration: "auto" (LJPEG files become optical densities, copies stay as they are), "density" (copies, too:
            they hold the scanner's values) or "none".
        read_options: ``bits`` of copies that hold fewer than 16.

    Raises:
        ConverterError: a bad ``calibration``.
    """

    name = "ddsm"
    command = "ddsm"
    summary = "DDSM films: outlines, pathology"
    description = (
        "Prepare DDSM. Its LJPEG files are read, or copies of them as PNG or TIFF with the same names. CBIS-DDSM has\n"
        "the same films: do not train on one and test on the other."
    )
    source_help = "folder with the case folders (.ics, .LJPEG, .OVERLAY), at any depth"
    label_facts: ClassVar[Facts] = {"finding": {"pathology": PATHOLOGIES, **GRADE_FACT, "kind": None}}

    def __init__(
        self,
        source: str | os.PathLike[str],
        calibration: str = "auto",
        read_options: ReadOptions | None = None,
    ) -> None:
        super().__init__(source, read_options)
        if calibration not in CALIBRATIONS:
            raise ConverterError(f"calibration {calibration!r} must be one of {', '.join(CALIBRATIONS)}")
        self.calibration = calibration

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """See the base class."""
        add_source_argument(parser, cls.source_help)
        parser.add_argument("--calibration", choices=CALIBRATIONS, default="auto",
                            help="optical densities instead of the scanner's values; auto: of LJPEG files")  # fmt: skip
        parser.add_argument("--bits", type=int, default=0,
                            help="used bits of 16-bit copies, e.g. 12 if pixels go up to 4095 (0: all)")  # fmt: skip

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Ddsm:
        """See the base class."""
        if args.keep_files:
            raise ValueError("--keep-files: DDSM's films are decoded and calibrated; drop it")
        return cls(args.source, args.calibration, ReadOptions(bits=args.bits))

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        return {**super().parameters(), "calibration": self.calibration}

    def built_in_rules(self) -> Mapping[str, Sequence[LabelRule]]:
        """See the base class."""
        malignant, *benign, unproven = PATHOLOGIES
        return {
            "finding": [
                rule("malignant", pathology=(malignant,)),
                rule("benign", pathology=benign),
                rule(UNKNOWN, pathology=(unproven,)),
            ]
        }

    def images(self) -> Iterator[SourceImage]:
        """See the base class; up to four images per case."""
        for path in sorted(self.source.rglob("*.ics")):
            match = _CASE.match(path.stem)
            if match is None:
                self.skip(path.relative_to(self.source), "not the name of a case, e.g. A-1141-1.ics")
                continue
            try:
                case = read_case(path)
            except ConverterError as error:
                self.skip(path.relative_to(self.source), str(error))
                continue
            yield from self._case(path, case, f"{match[1].upper()}_{match[2]}", match[3])

    def _case(self, path: Path, case: DdsmCase, patient: str, exam: str) -> Iterator[SourceImage]:
        name = f"{patient}_{exam}"
        files = sorted(p for p in path.parent.rglob("*") if p.is_file())
        lesions: dict[str, list[Abnormality]] = {}
        verdicts: dict[str, list[str]] = {}
        problems: dict[str, str] = {}
        for view, film in case.films.items():
            overlay = _file_of(files, name, view, (".overlay",))
            if overlay is not None:
                try:
                    lesions[view] = read_overlay(overlay)
                except ConverterError as error:
                    problems[view] = str(error)
                verdicts[view] = [self._verdict(lesion, f"{overlay}") for lesion in lesions.get(view, ())]
            elif film.has_overlay:
                problems[view] = f"{path}: {view} has an OVERLAY, but there is no {name}.{view}.OVERLAY: fetch it"
        normal = any(part.lower().startswith("normal") for part in path.relative_to(self.source).parts[:-1])
        # What an outline that cannot be read would have said of the breast is unknown.
        nothing_found = not lesions and not problems
        for view, film in case.films.items():
            file = _file_of(files, name, view, (".ljpeg", *IMAGE_SUFFIXES))
            if file is None:
                packed = _file_of(files, name, view, (".ljpeg.gz", ".ljpeg.1"))
                remedy = f"unpack {packed.name}" if packed else "fetch it, or put its PNG or TIFF copy there"
                self.skip(f"{name}.{view}.LJPEG", f"no such file in {path.parent.name}; {remedy}")
                continue
            both = [v for v in case.films if VIEW_NAMES[v][0] == VIEW_NAMES[view][0]]
            known = (normal or not nothing_found) and not any(v in problems for v in both)
            labels = self.image_labels(f"{name}.{view}", {}, verdicts.get(view, ()), str(path), complete=known)
            if labels is None:
                continue
            # What is outlined in the other view may be here, too.
            in_breast = {verdict for v in both for verdict in verdicts.get(v, ())}
            for category in labels:
                if labels[category] == 0 and in_breast & {category, UNKNOWN, LEFT_OUT}:
                    labels[category] = None
            found = list(zip(lesions.get(view, ()), verdicts.get(view, ()), strict=True))
            yield self._image(file, name, patient, film, case, found, labels, problems.get(view))

    def _verdict(self, lesion: Abnormality, where: str) -> str:
        kinds = sorted({kind.split()[0].lower() for kind in lesion.kinds})
        facts = {"pathology": lesion.pathology, "birads": lesion.assessment, "kind": " ".join(kinds)}
        return self.rules.verdict("finding", facts, where)

    def _image(
        self,
        path: Path,
        name: str,
        patient: str,
        film: Film,
        case: DdsmCase,
        found: list[tuple[Abnormality, str]],
        labels: dict[str, int | None],
        problem: str | None,
    ) -> SourceImage:
        annotations, cores = [], []
        laterality, view = VIEW_NAMES[film.view]
        for number, (abnormality, category) in enumerate(found, start=1):
            box, polygons = pixel_outline(_corners(abnormality.outlines[0]))
            cores += [list(pixel_outline(outline)[0]) for outline in abnormality.outlines[1:]]
            extra = {
                "finding": [kind.split()[0].lower() for kind in abnormality.kinds],
                "descriptors": list(abnormality.kinds),
                "birads": abnormality.assessment or None,
                "subtlety": abnormality.subtlety or None,
            }
            lesion_id = f"{name}_{film.view}_{number}"
            annotations.append(
                SourceAnnotation(category, box, polygons or None, abnormality.pathology, lesion_id, extra)
            )
        grades = [lesion.assessment for lesion, _ in found if lesion.assessment]
        size = film.resolution / 1000 if film.resolution else None
        relative = path.relative_to(self.source).as_posix()
        return SourceImage(
            path=path,
            key=f"{name}/{film.view}",
            source_name=relative,
            annotations=tuple(annotations),
            patient_id=patient,
            exam_id=name,
            laterality=laterality,
            view=view,
            labels=labels,
            birads=max(grades, default=None),
            density=case.density or None,
            pixel_spacing=(size, size) if size else None,
            pixel_spacing_source="DDSM .ics RESOLUTION" if size else None,
            boxes={"core_boxes": cores} if cores else {},
            extra={"digitizer": case.digitizer},
            data={
                "size": (film.height, film.width),
                "bits": film.bits,
                "scanner": scanner_of(name, case.digitizer),
                "calibration": self.calibration,
            },
            problem=problem,
        )

    def read(self, image: SourceImage) -> tuple[np.ndarray, ImageMeta]:
        """See the base class; LJPEG files are decoded here."""
        facts = image.data
        if image.path.suffix.lower() == ".ljpeg":
            stored = read_pvrg_jpeg(image.path, image.path.read_bytes(), facts["size"])
            full_scale = float(2 ** facts["bits"] - 1)
            pixels = np.minimum(stored.astype(np.float32), full_scale)
            height, width = pixels.shape
            meta = ImageMeta(str(image.path), "ljpeg", height, width, facts["bits"], full_scale)
            calibrate = facts["calibration"] != "none"
        else:
            pixels, meta = read_image(image.path, self.read_options)
            calibrate = facts["calibration"] == "density"
        if not calibrate:
            return pixels, meta
        if meta.max_value == FULL_SCALE_8_BIT:
            raise ValueError(f"{image.path}: 8 bits are no scanner's values; use --calibration auto or none")
        density = optical_density(pixels, facts["scanner"])
        bright = (1 - density.clip(0, BLACKEST) / BLACKEST) * FULL_SCALE_16_BIT
        return bright.astype(np.float32), replace(meta, bits_stored=16, max_value=FULL_SCALE_16_BIT)

    def complete(self, image: SourceImage, pixels: np.ndarray, meta: ImageMeta) -> SourceImage:
        """See the base class; outlines are scaled to copies of another size."""
        image = super().complete(image, pixels, meta)
        return fit_to_file(image, image.data["size"], (pixels.shape[0], pixels.shape[1]))


def scanner_of(case_name: str, digitizer: str) -> str:
    """The scanner whose calibration holds: "dba", "lumisys", "howtek-mgh", "howtek-ismd", or "" if it is not known.

    Args:
        case_name: its first letter is the site.
        digitizer: the .ics file's DIGITIZER.
    """
    text, site = digitizer.upper(), case_name[:1].upper()
    if "DBA" in text:
        return "dba"
    if "LUMI" in text or "LUMY" in text:
        return "lumisys"
    if "HOWTEK" in text:
        return {"A": "howtek-mgh", "D": "howtek-ismd"}.get(site, "")
    return ""


def optical_density(values: np.ndarray, scanner: str) -> np.ndarray:
    """Optical density of a scanner's grey values, by the formulas on DDSM's calibration pages; float64 (H, W).

    Raises:
        ValueError: no formula for this scanner.
    """
    grey = np.asarray(values, dtype=np.float64)
    if scanner == "dba":
        # Linear in the transmitted light; 0 is no light at all.
        return (np.log10(np.maximum(grey, 1)) - 4.80662) / -1.07553
    slope, offset = {
        "howtek-mgh": (-0.00094568, 3.789),
        "howtek-ismd": (-0.00099055807612, 3.96604095240593),
        "lumisys": (-1 / 1009.01, 4096.99 / 1009.01),
    }.get(scanner, (math.nan, math.nan))
    if math.isnan(slope):
        raise ValueError(f"no calibration for this scanner ({scanner or 'unknown'}); use --calibration none")
    return offset + slope * grey


def _corners(points: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """An outline without the pixels at which it runs straight on."""
    kept = [points[0]]
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        if (point[0] - before[0], point[1] - before[1]) != (after[0] - point[0], after[1] - point[1]):
            kept.append(point)
    return [*kept, points[-1]] if len(points) > 1 else kept


def _file_of(files: Iterable[Path], name: str, view: str, suffixes: tuple[str, ...]) -> Path | None:
    """The file NAME.VIEW, perhaps with more between it and one of the suffixes; earlier suffixes first."""
    start = f"{name}.{view}.".lower()
    here = [path for path in files if path.name.lower().replace("-", "_").startswith(start)]
    for suffix in suffixes:
        for path in here:
            # Not a picture of a mask or an overlay.
            rest = path.name.lower()[len(start) :].removesuffix(suffix.lstrip("."))
            if path.name.lower().endswith(suffix) and "mask" not in rest and "overlay" not in rest:
                return path
    return None
