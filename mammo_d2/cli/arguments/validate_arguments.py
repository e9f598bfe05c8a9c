"""The sub-command ``prepare validate``: its arguments and its run."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mammo_d2.core.files import make_folder, read_json, write_json
from mammo_d2.data.format.annotations import check_splits, validate_coco
from mammo_d2.data.format.problems import Report, SchemaError
from mammo_d2.data.review.pixel_review import PixelReview, ReviewedImage, images_of, review_pixels
from mammo_d2.data.review.split_facts import SplitFacts, facts_table, split_facts
from mammo_d2.pictures.split_overview import write_overview, write_pairs

FACTS_FILE, OVERVIEW_FILE, PAIRS_FILE = "validate.json", "overview.png", "near_duplicates.png"

VALIDATE_DESCRIPTION = f"""Check a prepared data set or COCO files, and say what they hold.

Prints a table with a column per split: patients, images, views, classes, densities, vendors, sizes of boxes. Looks at
every record, at the image files, and that no patient and no source file is in two splits.

With --images full every image is decoded and compared with all others: the same pixels in two splits, or of two
patients, and near-duplicates (another window, size, compression or crop, mirrored) across patients and splits; images
that seem to show no breast, or to be inverted or rotated.

With --out the table goes to FOLDER/{FACTS_FILE} with all problems, and as bar charts to FOLDER/{OVERVIEW_FILE};
near-duplicates are shown in FOLDER/{PAIRS_FILE}.

Exit code 0: no errors, 1: errors, 2: the file cannot be read.
"""


def add_validate_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``prepare validate``."""
    parser.add_argument("path", type=Path, nargs="+", help="prepared data set folder, or COCO JSON files")
    parser.add_argument("--image-root", type=Path, default=None,
                        help="folder that file_name is relative to [images/ beside annotations/]")  # fmt: skip
    parser.add_argument("--images", choices=("none", "exists", "size", "full"), default="size",
                        help="check of the image files: none, presence, size, or decode and compare all")  # fmt: skip
    parser.add_argument("--exact-only", action="store_true",
                        help="with --images full: look for equal images only, not for near-duplicates")  # fmt: skip
    parser.add_argument("--out", type=Path, default=None, metavar="FOLDER",
                        help="also write the table, the problems and pictures there")  # fmt: skip
    parser.add_argument("--workers", type=int, default=0, help="processes that decode images; 0: this one")
    parser.add_argument("--warnings-fail", action="store_true", help="exit code 1 for warnings too")
    parser.add_argument("--limit", type=int, default=20, help="lines per kind of problem")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run_validate(args: argparse.Namespace) -> int:
    """Check, print, write what was asked for; returns the exit code."""
    if args.workers < 0:
        raise ValueError(f"--workers {args.workers} must not be negative")
    if args.out is not None:
        make_folder(args.out, "--out")
    files = _annotation_files(args.path)
    report, splits, images = Report(), [], []
    for file in files:
        root = args.image_root or file.parent.parent / "images"
        if args.images != "none" and not root.is_dir():
            raise FileNotFoundError(f"{root}: no such image folder; give --image-root, or --images none")
        data = read_json(file, error=SchemaError)
        how = "exists" if args.images == "full" else args.images
        found = validate_coco(data if isinstance(data, dict) else file, root, check_images=how, name=str(file))
        report.extend(found)
        # What is missing on disk does not keep the records from being counted.
        if all(problem.code in ("missing-image", "unreadable-image", "wrong-size") for problem in found.errors):
            splits.append(split_facts(_split_name(file, files), data))
            images += images_of(str(file), data, root) if args.images == "full" else []
    if len(files) > 1:
        report.extend(check_splits(files))
    review = _review(images, args)
    report.extend(review.report)
    if splits:
        print(facts_table(splits))
    print(report.format(args.limit))
    if args.out is not None:
        _write(args.out, splits, report, review)
    failed = bool(report.errors) or (args.warnings_fail and bool(report.warnings))
    return 1 if failed else 0


def _annotation_files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; prepare the data set first")
        found = sorted((path / "annotations").glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path}: no annotations/*.json in it; give a prepared data set or a JSON file")
        files += found
    return files


def _split_name(file: Path, files: list[Path]) -> str:
    """The file's stem, or with its data set's name where several have it."""
    alone = sum(other.stem == file.stem for other in files) == 1
    return file.stem if alone else f"{file.parent.parent.name}/{file.stem}"


def _review(images: list[ReviewedImage], args: argparse.Namespace) -> PixelReview:
    if not images:
        return PixelReview()
    return review_pixels(images, workers=args.workers, near=not args.exact_only, progress=not args.quiet)


def _write(folder: Path, splits: list[SplitFacts], report: Report, review: PixelReview) -> None:
    pairs: list[dict[str, Any]] = [
        {
            "files": [pair.first.file, pair.second.file],
            "images": [pair.first.record["file_name"], pair.second.record["file_name"]],
            "shared_structures": pair.shared_structures,
        }
        for pair in review.pairs
    ]
    content = {
        "splits": [split.to_dict() for split in splits],
        "problems": [asdict(problem) for problem in report.problems],
        "near_duplicates": pairs,
        "images_decoded": review.read,
    }
    write_json(folder / FACTS_FILE, content, nan_as_null=True)
    if splits:
        write_overview(splits, folder / OVERVIEW_FILE)
    if review.pairs:
        write_pairs(review.pairs, folder / PAIRS_FILE)
    else:
        (folder / PAIRS_FILE).unlink(missing_ok=True)
