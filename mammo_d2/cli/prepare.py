"""The command ``prepare``: its sub-commands, their arguments, and the call each makes."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from mammo_d2.cli.common import make_parser
from mammo_d2.cli.prepare_arguments import (
    add_prepare_arguments,
    add_read_arguments,
    add_source_argument,
    read_options,
    run_prepare,
)
from mammo_d2.data.converters.birads import MALIGNANT_FROM
from mammo_d2.data.converters.converter import Converter
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder
from mammo_d2.data.converters.folders.image_folder import ImageFolder
from mammo_d2.data.converters.folders.phantom import Phantom
from mammo_d2.data.converters.public.cbis_ddsm import CbisDdsm
from mammo_d2.data.converters.public.cmmd import Cmmd
from mammo_d2.data.converters.public.inbreast import Inbreast
from mammo_d2.data.converters.public.mini_mias import MiniMias
from mammo_d2.data.converters.public.rsna import Rsna
from mammo_d2.data.converters.public.vindr_mammo import VindrMammo
from mammo_d2.data.converters.truth_files import COLUMNS
from mammo_d2.data.format.annotations import check_splits, validate_coco
from mammo_d2.data.format.problems import Report
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.phantom import PhantomConfig

DESCRIPTION = """Prepare data sets: source files to 16-bit PNGs, COCO annotations per split, error table and manifest.

The result goes to OUT/annotations/{train,val,test}.json and OUT/images/. Put OUT under the folder named by the
environment variable MAMMO_D2_DATASETS (or DATASETS.ROOT of the configuration), and it is registered as NAME_train,
NAME_val, NAME_test, where NAME is OUT's last part. See datasets/README.md.
"""


@dataclass(frozen=True)
class Command:
    """One sub-command: a line of help, its description, its arguments, and what it does (returns the exit code)."""

    help: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


# --- commands ---------------------------------------------------------------------------------------------------------
def _mini_mias_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_argument(parser, "folder with Info.txt and the images mdb001.pgm (or .png) ...")
    parser.add_argument("--unlocated", choices=("drop", "keep"), default="drop",
                        help="images with a lesion whose place is not given")  # fmt: skip
    add_prepare_arguments(parser)


def _dicom_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_argument(parser, "folder of DICOM files, with sub-folders")
    parser.add_argument("--truth", type=Path, default=None, help="COCO JSON or CSV in pixels of the DICOM files")
    parser.add_argument("--keep-ids", action="store_true",
                        help="keep patient and exam identifiers and file names, rather than hash them")  # fmt: skip
    parser.add_argument("--id-salt", default="", help="secret text in the hashes, where identifiers can be guessed")
    parser.add_argument("--all-views", action="store_true", help="also spot, magnification and specimen images")
    add_read_arguments(parser)
    add_prepare_arguments(parser)


def _images_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_argument(parser, "folder of PNG, TIFF, PGM or JPEG files, with sub-folders")
    parser.add_argument("--truth", type=Path, default=None, help="COCO JSON or CSV in pixels of the files")
    parser.add_argument("--bits", type=int, default=0,
                        help="used bits of 16-bit files, e.g. 12 if pixels go up to 4095 (0: all)")  # fmt: skip
    add_prepare_arguments(parser)


def _run_images(args: argparse.Namespace) -> int:
    if args.bits and args.keep_files:
        raise ValueError("--bits scales the pixels, --keep-files leaves the files as they are; drop one of them")
    return run_prepare(ImageFolder(args.source, args.truth, ReadOptions(bits=args.bits), name=args.out.name), args)


def _phantom_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patients", type=int, default=40, help="number of patients, four views each")
    parser.add_argument("--seed", type=int, default=0, help="of the generator")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE",
                        help="other fields of PhantomConfig, e.g. rows=416 cols=320 contrast_scale=0.8")  # fmt: skip
    parser.add_argument("--raw", type=Path, default=None, help="folder for the DICOM files and truth.json [OUT/raw]")
    add_prepare_arguments(parser)


def _run_phantom(args: argparse.Namespace) -> int:
    settings = {"n_patients": args.patients, "seed": args.seed}
    for text in args.set:
        name, _, value = text.partition("=")
        if not value:
            raise ValueError(f"--set {text!r} must be FIELD=VALUE, e.g. rows=416")
        settings[name] = yaml.safe_load(value)
    config = PhantomConfig.from_dict(settings)
    if args.dry_run:
        print(f"{args.out}: dry run, would make {config.n_patients} patients: {config.to_dict()}")
        return 0
    raw = args.raw or args.out / "raw"
    return run_prepare(Phantom(config, raw, args.workers, not args.quiet, name=args.out.name), args)


def _run_dicom(args: argparse.Namespace) -> int:
    converter = DicomFolder(
        args.source,
        args.truth,
        read_options(args),
        keep_ids=args.keep_ids,
        id_salt=args.id_salt,
        all_views=args.all_views,
        name=args.out.name,
    )
    return run_prepare(converter, args)


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="+", help="prepared data set folder, or COCO JSON files")
    parser.add_argument("--image-root", type=Path, default=None,
                        help="folder that file_name is relative to [images/ beside annotations/]")  # fmt: skip
    parser.add_argument("--images", choices=("none", "exists", "size", "full"), default="size",
                        help="check of the image files: none, their presence, their size, decode all")  # fmt: skip
    parser.add_argument("--warnings-fail", action="store_true", help="exit code 1 for warnings too")
    parser.add_argument("--limit", type=int, default=20, help="lines per kind of problem")


def _run_validate(args: argparse.Namespace) -> int:
    report = Report()
    files: list[Path] = []
    for path in args.path:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; prepare the data set first")
        found = sorted((path / "annotations").glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path}: no annotations/*.json in it; give a prepared data set or a JSON file")
        files += found
    for file in files:
        root = args.image_root or file.parent.parent / "images"
        how = args.images
        if how != "none" and not root.is_dir():
            raise FileNotFoundError(f"{root}: no such image folder; give --image-root, or --images none")
        report.extend(validate_coco(file, root, check_images=how))
    if len(files) > 1:
        report.extend(check_splits(files))
    print(report.format(args.limit))
    failed = bool(report.errors) or (args.warnings_fail and bool(report.warnings))
    return 1 if failed else 0


def _birads_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--malignant-from", type=int, choices=(3, 4, 5, 6), default=MALIGNANT_FROM,
                        help="least BI-RADS that counts as malignant")  # fmt: skip


def _cbis_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="+", choices=("mass", "calc"), default=["mass", "calc"], help="lesions")
    parser.add_argument("--shared-patients", choices=("test", "train", "drop"), default="test",
                        help="where the patients go that are in both official sets")  # fmt: skip


def _rsna_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--implants", action="store_true", help="also breasts with an implant")


def _public(
    help: str,
    description: str,
    source: str,
    make: Callable[[argparse.Namespace], Converter],
    add_own: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> Command:
    """The command of a public DICOM data set: --source, its own arguments, then the common ones."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        add_source_argument(parser, source)
        add_own(parser)
        add_read_arguments(parser)
        add_prepare_arguments(parser)

    return Command(help, description, add_arguments, lambda args: run_prepare(make(args), args))


def _truth_text(file: str) -> str:
    """What a truth file must hold, for the help."""
    columns = textwrap.indent(textwrap.fill(", ".join(COLUMNS[1:]), 106), "    ")
    return (
        "Truth may come as a COCO file with the categories benign and malignant, or as a CSV table, both in pixels of\n"
        f"the files. The table has the column file ({file}) and any of\n{columns}\n"
        "One row per lesion (category benign or malignant and a box), or one row without category and box for an\n"
        "image. benign and malignant label the image: 1, 0, or empty where it is unknown."
    )


COMMANDS: dict[str, Command] = {
    "phantom": Command(
        "generate and prepare synthetic mammograms",
        "Generate synthetic four-view screening exams as DICOM with truth, and prepare them.",
        _phantom_arguments,
        _run_phantom,
    ),
    "dicom": Command(
        "a folder of DICOM mammograms",
        "Prepare a folder of DICOM mammograms.\n\n" + _truth_text("path relative to the folder, or SOP Instance UID"),
        _dicom_arguments,
        _run_dicom,
    ),
    "images": Command(
        "a folder of PNG, TIFF, PGM or JPEG mammograms",
        "Prepare a folder of grey PNG, TIFF, PGM or JPEG files. Laterality and view that the truth does not give are\n"
        "taken from file names such as 0_L-CC.png; names and identifiers are kept as they are.\n\n"
        + _truth_text("path relative to the folder"),
        _images_arguments,
        _run_images,
    ),
    "mini-mias": Command(
        "the mini-MIAS films",
        "Prepare mini-MIAS (http://peipa.essex.ac.uk/info/mias.html): 8-bit films, all MLO, circles become boxes.",
        _mini_mias_arguments,
        lambda args: run_prepare(MiniMias(args.source, args.unlocated), args),
    ),
    "inbreast": _public(
        "INbreast: contours, BI-RADS",
        "Prepare INbreast. It has no pathology: BI-RADS from --malignant-from on counts as malignant.",
        "folder with AllDICOMs, AllXML and INbreast.csv",
        lambda args: Inbreast(args.source, args.malignant_from, read_options(args)),
        _birads_argument,
    ),
    "cbis-ddsm": _public(
        "CBIS-DDSM: masks, pathology",
        "Prepare CBIS-DDSM. The official training and test sets are kept; use --val-from-train for a validation set.",
        "folder with the four *_case_description_*_set.csv and, anywhere below, the downloaded case folders",
        lambda args: CbisDdsm(args.source, args.kinds, args.shared_patients, read_options(args)),
        _cbis_arguments,
    ),
    "vindr-mammo": _public(
        "VinDr-Mammo: boxes, BI-RADS",
        "Prepare VinDr-Mammo. The official training and test sets are kept; use --val-from-train for a validation set.",
        "folder with images/, breast-level_annotations.csv and finding_annotations.csv",
        lambda args: VindrMammo(args.source, args.malignant_from, read_options(args)),
        _birads_argument,
    ),
    "rsna": _public(
        "RSNA 2022: labels without boxes",
        "Prepare the training set of RSNA Screening Mammography 2022. It has no boxes: for image-level methods.",
        "folder with train.csv and train_images/",
        lambda args: Rsna(args.source, args.implants, read_options(args)),
        _rsna_arguments,
    ),
    "cmmd": _public(
        "CMMD: labels without boxes",
        "Prepare CMMD. It has no boxes: for image-level methods.",
        "folder with the DICOM files and CMMD_clinicaldata_revision.csv (or .xlsx)",
        lambda args: Cmmd(args.source, read_options(args)),
    ),
    "validate": Command(
        "check a prepared data set",
        "Check every record of a prepared data set (or of COCO files), the image files, and that no patient is in two\n"
        "splits. Exit code 0: no errors, 1: errors, 2: the file cannot be read.",
        _validate_arguments,
        _run_validate,
    ),
}


def run(argv: list[str]) -> int:
    """Run one sub-command; see ``--help``."""
    parser = make_parser(DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.description)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    return args.run(args)
