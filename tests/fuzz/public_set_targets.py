"""The tables of EMBED, CSAW-CC, OPTIMAM, BCDR, CDD-CESM, DMID and KAU-BCMD, on miniatures of these sets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

try:
    import openpyxl
except ImportError:  # an extra of the package
    openpyxl = None

from mammo_d2.cli.data import prepare
from tests.data.dicom_files import write_dicom
from tests.fuzz.miniatures import SIZE, pixels, prepare_arguments, records, same_or_said, table_of, workbook
from tests.fuzz.mistakes import Mistake, file_mistakes, json_mistakes
from tests.fuzz.targets import Target

EMBED_CLINICAL = (
    ",empi_anon,acc_anon,cohort_num,study_date_anon,desc,numfind,side,asses,tissueden,path_severity,bside\n"
    "0,11,22,1,2015-01-01,MG Screening Bilateral,1,L,S,2,0.0,L\n1,11,22,1,2015-01-01,MG Screening Bilateral,2,R,N,2,,\n"
    "2,12,31,1,2015-01-01,MG Screening Bilateral,1,,N,4,,\n"
)
EMBED_CLINICAL_TYPES = {
    "empi_anon": "text", "acc_anon": "text", "numfind": "text", "side": "side", "asses": "category",
    "tissueden": "text", "path_severity": "number", "bside": "side",
}  # fmt: skip
EMBED_METADATA = (
    ",empi_anon,acc_anon,study_date_anon,anon_dicom_path,png_filename,StudyDescription,FinalImageType,"
    "ImageLateralityFinal,ViewPosition,spot_mag,num_roi,ROI_coords,match_level,Rows,Columns,BreastImplantPresent\n"
    '0,11,22,2015-01-01,/mnt/anon_dicom/cohort_1/11/1.22/a1.dcm,a1.png,MG Screening,2D,L,CC,,1,"[[10, 5, 25, 15]]",'
    '"[1]",60,50,\n'
    "1,11,22,2015-01-01,/mnt/anon_dicom/cohort_1/11/1.22/a2.dcm,a2.png,MG Screening,2D,R,MLO,,0,[],,60,50,\n"
    "2,12,31,2015-01-01,/mnt/anon_dicom/cohort_1/12/1.31/c1.dcm,c1.png,MG Screening,2D,L,MLO,,0,[],,60,50,\n"
)
EMBED_METADATA_TYPES = {
    "empi_anon": "text", "acc_anon": "text", "anon_dicom_path": "id", "FinalImageType": "text",
    "ImageLateralityFinal": "text", "ViewPosition": "text", "ROI_coords": "number", "num_roi": "text",
}  # fmt: skip
CSAW = (
    "anon_patientid,exam_year,x_age,x_case,x_cancer_laterality,x_type,x_lymphnode_met,rad_timing,rad_r1,rad_r2,"
    "rad_recall,rad_recall_type_right,rad_recall_type_left,libra_breastarea,libra_densearea,libra_percentdensity,"
    "imagelaterality,viewposition,anon_filename\n"
    "00001,2012,1,1,Left,,,1.0,0,0,0,,,120.5,30.5,25.3,Left,CC,00001_20990909_L_CC_3.dcm\n"
    "00001,2012,1,1,Left,,,1.0,0,0,0,,,120.5,30.5,25.3,Right,CC,00001_20990909_R_CC_4.dcm\n"
    "00003,2011,1,0,,,,,0,0,0,,,120.5,30.5,25.3,Left,MLO,00003_20990909_L_MLO_1.dcm\n"
)
CSAW_TYPES = {
    "anon_patientid": "id", "exam_year": "text", "x_case": "label", "x_cancer_laterality": "text",
    "rad_timing": "text", "imagelaterality": "text", "viewposition": "text", "anon_filename": "id",
}  # fmt: skip
BCDR_IMAGES = (
    "patient_id,study_id,series,image_filename,image_type_name,image_type_id,age,density\n"
    "3, 5, 1, patient_3/study_5/img_3_5_1_LCC.tif, LCC, 1, 60, 2\n"
    "4, 6, 1, patient_4/study_6/img_4_6_1_RCC.tif, RCC, 0, 51, NaN\n"
    "4, 6, 1, patient_4/study_6/img_4_6_1_RO.tif, RO, 2, 51, 3\n"
)
BCDR_IMAGE_TYPES = {"patient_id": "text", "study_id": "text", "image_filename": "id", "image_type_name": "text",
                    "density": "text"}  # fmt: skip
BCDR_OUTLINES = (
    "patient_id,study_id,series,lesion_id,segmentation_id,image_view,image_filename,lw_x_points,lw_y_points,"
    "mammography_type,mammography_nodule,mammography_calcification,mammography_microcalcification,"
    "mammography_axillary_adenopathy,mammography_architectural_distortion,mammography_stroma_distortion,age,density,"
    "classification\n"
    "3,5,1,7,9,1, patient_3/study_5/img_3_5_1_LCC.tif, 6 18 18 6, 10 10 30 30,1,1,0,0,0,0,0,60, 2, Malign\n"
    "4,6,1,8,10,1, patient_4/study_6/img_4_6_1_RCC.tif, 5 15 15, 20 20 32,1,0,0,1,0,0,0,51, 2, Benign\n"
)
BCDR_OUTLINE_TYPES = {"patient_id": "text", "study_id": "text", "image_filename": "id", "lw_x_points": "number",
                      "lw_y_points": "number", "classification": "category"}  # fmt: skip
CESM = [
    ["Image_name", "Patient_ID", "Side", "Type", "Age", "Breast density (ACR)", "BIRADS", "Findings", "View", "Tags",
     "Machine", "Pathology Classification/ Follow up"],
    ["P1_L_DM_CC", "1", "L", "DM", "50", "C", "4", "mass", "CC", "", "1", "Malignant"],
    ["P2_R_DM_MLO", "2", "R", "DM", "61", "B", "2$1", "mass", "MLO", "", "2", "Benign"],
    ["P3_L_DM_CC", "3", "L", "DM", "44", "A", "_", "", "CC", "", "2", "Normal"],
]  # fmt: skip
CESM_TYPES = {"Image_name": "id", "Side": "side", "Type": "category", "View": "view",
              "Pathology Classification/ Follow up": "category"}  # fmt: skip
CESM_REGIONS = [
    ["#filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
     "region_attributes"],
    ["P1_L_DM_CC.jpg", "1", "{}", "1", "0", '{"name": "circle", "cx": 20, "cy": 30, "r": 8}', "{}"],
    ["P2_R_DM_MLO.jpg", "1", "{}", "1", "0",
     '{"name": "polygon", "all_points_x": [5, 20, 20], "all_points_y": [10, 10, 40]}', "{}"],
]  # fmt: skip
CESM_REGION_TYPES = {"#filename": "id", "region_shape_attributes": "number"}
DMID = [
    ["IMG001", "CCLT", "G", "CIRC", "B", 20, 30, 6], ["IMG002", "MLORT", "F", "NORM", "N", None, None, None],
    ["IMG003", "MLORT", "D", "MISC+CALC", "M", 15, 20, 7],
]  # fmt: skip
KAU = ("Birad1/b1/2018_BC001_CC_L.jpg", "Birad3/b3/2018_BC002_CC_R.jpg", "Birad5/b5/2018_BC004_MLO_L.jpg")
KAU_TABLE = [["Image path", "Percentage of\n grandular tissue(density)"], [KAU[0], "25%-50%"], [KAU[2], "<25%"]]
EPISODE = {
    "EpisodeOpenedDate": "2011-03-01", "EpisodeType": "R",
    "SCREENING": {"L": {"DateTaken": "2011-04-01", "Opinion": "RN"}, "R": {"DateTaken": "2011-04-01", "Opinion": "RM"}},
    "SURGERY": {"R": {"1": {"Opinion": "H5", "DatePerformed": "2011-05-13"}}, "left_opinion": None,
                "right_opinion": "Malignant", "dateperformed": "2011-05-13"},
}  # fmt: skip
NBSS = {"ClientID": "optm1", "E2": EPISODE}
MARKS = {"7": {"Mass": 1, "MarkID": 10241, "LinkedNBSSLesionNumber": "1", "Conspicuity": "Subtle", "X1": "5",
               "X2": "20", "Y1": "10", "Y2": "33"}}  # fmt: skip
IMAGEDB = {"ClientID": "optm1", "Site": "stge", "STUDIES": {"1.2.20": {
    "StudyDate": "20110401", "EpisodeID": "E2", "1.2.20.1": {"1.2.20.1.1": MARKS, "1.2.20.1.2": None}}}}  # fmt: skip


def picture(path: Path, number: int) -> None:
    """A film of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (pixels(number) / 16 + number).astype(np.uint8))


def make_embed(folder: Path) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "EMBED_OpenData_clinical.csv").write_text(EMBED_CLINICAL)
    (folder / "tables" / "EMBED_OpenData_metadata.csv").write_text(EMBED_METADATA)
    for number, name in enumerate(("11/1.22/a1", "11/1.22/a2", "12/1.31/c1")):
        write_dicom(folder / "images" / "cohort_1" / f"{name}.dcm", pixels(number))


def make_csaw(folder: Path) -> None:
    (folder / "CSAW-CC_breast_cancer_screening_data.csv").write_text(CSAW)
    names = [line.rpartition(",")[2] for line in CSAW.splitlines()[1:]]
    for number, name in enumerate(names):
        write_dicom(folder / "images" / name, pixels(number), Manufacturer="HOLOGIC, Inc.")
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 5:18] = 255
    cv2.imwrite(str(folder / f"{Path(names[0]).stem}_mask.png"), mask)


def make_optimam(folder: Path) -> None:
    (folder / "data" / "optm1").mkdir(parents=True)
    (folder / "data" / "optm1" / "nbss_optm1.json").write_text(json.dumps(NBSS))
    (folder / "data" / "optm1" / "imagedb_optm1.json").write_text(json.dumps(IMAGEDB))
    for number, (side, view) in enumerate((("R", "CC"), ("L", "MLO")), start=1):
        write_dicom(folder / "images" / "optm1" / "1.2.20" / f"1.2.20.1.{number}.dcm", pixels(number),
                    ImageLaterality=side, ViewPosition=view)  # fmt: skip


def make_bcdr(folder: Path) -> None:
    root = folder / "BCDR-D01_dataset"
    root.mkdir()
    (root / "bcdr_d01_img.csv").write_text(BCDR_IMAGES)
    (root / "bcdr_d01_outlines.csv").write_text(BCDR_OUTLINES)
    for number, line in enumerate(BCDR_IMAGES.splitlines()[1:]):
        picture(root / line.split(",")[3].strip(), number)


def make_cesm(folder: Path) -> None:
    for name, rows in (("Radiology-manual-annotations.csv", CESM), ("Radiology_hand_drawn_segmentations_v2.csv",
                                                                    CESM_REGIONS)):  # fmt: skip
        (folder / name).write_text(_csv(rows))
    for number, (name, *_) in enumerate(CESM[1:]):
        picture(folder / "Low energy images of CDD-CESM" / f"{name}.jpg", number)


def make_dmid(folder: Path) -> None:
    (folder / "Metadata.xlsx").write_bytes(workbook([*[[f"text {n}"] for n in range(31)], *DMID]))
    for number in range(1, 4):
        grey = (pixels(number) / 16 + number).astype(np.uint8)
        (folder / "TIFF Images" / "TIFF Images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"TIFF Images/TIFF Images/IMG{number:03d}.tif"), grey)
    (folder / "ROI Masks" / "ROI Masks").mkdir(parents=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[20:35, 12:28] = 255
    cv2.imwrite(str(folder / "ROI Masks/ROI Masks/IMG001.tif"), mask)


def make_kau(folder: Path) -> None:
    for number, name in enumerate(KAU):
        picture(folder / name, number)
    (folder / "correctSheetlast.xlsx").write_bytes(workbook([["tabel"]], correctSheet=KAU_TABLE))


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def tolerant(mistakes: Callable[[Path], Iterable[Mistake]], *words: str) -> Callable[[Path], Iterator[Mistake]]:
    """Mistakes of which "nan", as these tables write what is missing, and those with one of the words are no error."""

    def changed(folder: Path) -> Iterator[Mistake]:
        for mistake in mistakes(folder):
            missing = "'nan'" in mistake.where.lower() or any(word in mistake.where for word in words)
            yield replace(mistake, bad=False) if missing else mistake

    return changed


def workbook_mistakes(make: Callable[[list[list[Any]]], bytes], rows: list[list[Any]]) -> Iterator[Mistake]:
    """Of an Excel table: damage of the file, every cell with other values, rows twice and gone.

    Args:
        make: the file's content for rows.
        rows: the valid ones.
    """
    yield from (m for m in file_mistakes(make(rows), text=False) if m.where != "no such file")
    for number in range(len(rows)):
        for column in range(len(rows[number])):
            for value in (None, "", "nan", "x", -1, 0, 1, 2.5, 1e9, True, "Müller", "=1/0", "../x", "x" * 300):
                row = [*rows[number][:column], value, *rows[number][column + 1 :]]
                yield Mistake("type", f"row {number + 1}, column {column + 1}: {value!r:.30}",
                              partial(make, [*rows[:number], row, *rows[number + 1 :]]))  # fmt: skip
        yield Mistake("missing", f"row {number + 1} gone", partial(make, [*rows[:number], *rows[number + 1 :]]))
        yield Mistake("duplicate", f"row {number + 1} twice", partial(make, [*rows, rows[number]]))
    yield Mistake("missing", "no cells", partial(make, []))


def _dmid_book(rows: list[list[Any]]) -> bytes:
    return workbook([*[[f"text {n}"] for n in range(31)], *rows])


def _kau_book(rows: list[list[Any]]) -> bytes:
    return workbook([["tabel"]], correctSheet=rows)


def targets() -> list[Target]:
    """All of them."""
    # Messages with images or clients, not the table.
    named = ("none of", "were skipped", "no images of", "no such folder", "two images would be called")
    prepared = partial(Target, run=prepare.run, result=records, plausible=same_or_said, named=named)

    def of(command: str, file: str, make: Callable[[Path], Any], mistakes: Any, *more: str) -> Target:
        arguments = prepare_arguments(command, "--source", "{}", *more)
        return prepared(f"prepare {command}", file, make, arguments=arguments, mistakes=mistakes)

    tables = "tables/EMBED_OpenData"
    bcdr = "BCDR-D01_dataset/bcdr_d01"
    found = [
        of("embed", f"{tables}_clinical.csv", make_embed,
           tolerant(table_of(f"{tables}_clinical.csv", EMBED_CLINICAL_TYPES, ()), "twice", "cut after", "asses: 'x'")),
        of("embed", f"{tables}_metadata.csv", make_embed,
           tolerant(table_of(f"{tables}_metadata.csv", EMBED_METADATA_TYPES, ()), "cut after")),
        of("csaw-cc", "CSAW-CC_breast_cancer_screening_data.csv", make_csaw,
           tolerant(table_of("CSAW-CC_breast_cancer_screening_data.csv", CSAW_TYPES, ("anon_filename",)))),
        of("optimam", "data/optm1/nbss_optm1.json", make_optimam, lambda folder: json_mistakes(NBSS)),
        of("optimam", "data/optm1/imagedb_optm1.json", make_optimam, lambda folder: json_mistakes(IMAGEDB)),
        of("bcdr", f"{bcdr}_img.csv", make_bcdr, tolerant(table_of(f"{bcdr}_img.csv", BCDR_IMAGE_TYPES, ()))),
        of("bcdr", f"{bcdr}_outlines.csv", make_bcdr,
           tolerant(table_of(f"{bcdr}_outlines.csv", BCDR_OUTLINE_TYPES, ()))),
        of("cdd-cesm", "Radiology-manual-annotations.csv", make_cesm,
           tolerant(table_of("Radiology-manual-annotations.csv", CESM_TYPES, ("Image_name",)))),
        of("cdd-cesm", "Radiology_hand_drawn_segmentations_v2.csv", make_cesm,
           tolerant(table_of("Radiology_hand_drawn_segmentations_v2.csv", CESM_REGION_TYPES, ()))),
        of("dmid", "Metadata.xlsx", make_dmid, lambda folder: workbook_mistakes(_dmid_book, DMID)),
        of("kau-bcmd", "correctSheetlast.xlsx", make_kau, lambda folder: workbook_mistakes(_kau_book, KAU_TABLE)),
    ]  # fmt: skip
    return [target for target in found if openpyxl or not target.file.endswith(".xlsx")]
