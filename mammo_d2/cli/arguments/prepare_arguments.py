"""The arguments that the sub-commands of ``prepare`` share, and the run that they end in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mammo_d2.cli.arguments.command_line import add_size_limit
from mammo_d2.data.converters.converter import Converter, DryRun
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import PIXEL_FORMATS, ImageOptions
from mammo_d2.data.prepare.shards.merge import merge_shards
from mammo_d2.data.prepare.special_images import USUAL_KINDS, VISITS
from mammo_d2.data.prepare.written.contact_sheet import write_contact_sheet
from mammo_d2.data.prepare.written.dataset_files import PrepareResult
from mammo_d2.data.reading.image_meta import SPECIAL_KINDS
from mammo_d2.data.reading.size_limits import allow_megapixels

CHECK_FILE = "check.png"


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that prepares a data set."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the prepared data set; its name is the data set's"
    )
    image = parser.add_argument_group("images")
    image.add_argument("--crop", action="store_true", help="cut out the breast")
    image.add_argument("--margin", type=float, default=0.02, help="around the breast, as a part of its longer side")
    image.add_argument(
        "--mask-method", choices=("auto", "otsu", "triangle"), default="auto", help="how the breast is found"
    )
    image.add_argument(
        "--flip-to", choices=("left", "right"), default="", help="mirror so that the chest wall is there"
    )
    image.add_argument("--clean-film", action="store_true",
                       help="labels, tape and white edges of films become background")  # fmt: skip
    image.add_argument("--blank-text", action="store_true", help="rows of characters beside the breast too")
    image.add_argument("--aspect", type=float, default=0.0, metavar="W/H",
                       help="width / height of the films, if the files were squashed, e.g. to squares")  # fmt: skip
    image.add_argument("--max-side", type=int, default=0, help="reduce to this longer side in pixels (0: no)")
    image.add_argument("--spacing", type=float, default=0.0, help="scale to this many mm per pixel (0: no)")
    image.add_argument("--keep-files", action="store_true", help="link to the source files instead of writing files")
    image.add_argument("--pixels", choices=tuple(PIXEL_FORMATS), default="png",
                       help="of the prepared files; tiff: tiles, several times faster, same values")  # fmt: skip
    image.add_argument("--png-level", type=int, default=1, help="compression of the PNGs, 0 (none) to 9")
    add_size_limit(image)
    taken = parser.add_argument_group("which images")
    kinds = "; ".join(f"{kind}: {text}" for kind, text in SPECIAL_KINDS.items())
    taken.add_argument("--take", nargs="*", choices=tuple(SPECIAL_KINDS), default=list(USUAL_KINDS), metavar="KIND",
                       help=f"special images to take besides ordinary mammograms ({kinds})")  # fmt: skip
    taken.add_argument("--visits", choices=VISITS, default="all", help="which exams of a patient, by their dates")
    split = parser.add_argument_group("splits (patient-wise, stratified by pathology)")
    split.add_argument("--split", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"), default=(0.7, 0.1, 0.2),
                       help="parts of the patients, where the data set has no split of its own")  # fmt: skip
    split.add_argument("--val-from-train", type=float, default=0.0,
                       help="part of the data set's own training patients that become val")  # fmt: skip
    split.add_argument("--split-seed", type=int, default=0, help="of the split")
    run = parser.add_argument_group("run")
    run.add_argument("--workers", type=int, default=os.cpu_count() or 1,
                     help="processes; 0: this one, which ends with an image whose decoder crashes")  # fmt: skip
    run.add_argument("--strict", action="store_true", help="stop at the first image that cannot be prepared")
    run.add_argument("--force", action="store_true", help="prepare everything anew, reuse nothing")
    run.add_argument("--check-hashes", action="store_true",
                     help="reuse what has the same hash, not the same size and time of change")  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="only look at the source, write nothing")
    run.add_argument("--limit", type=int, default=0, help="take only the first images, for a try (0: all)")
    run.add_argument("--shard", type=_shard, default=None, metavar="K/N",
                     help="prepare only the K-th of N parts; prepare merge OUT makes the data set of all")  # fmt: skip
    run.add_argument("--cluster", default="", metavar="ADDRESS",
                     help="prepare the images on a Dask cluster: its scheduler's address or file")  # fmt: skip
    add_check_argument(run)
    run.add_argument("--quiet", action="store_true", help="no progress bar")


def add_check_argument(parser: argparse._ActionsContainer) -> None:
    """The argument --check."""
    parser.add_argument("--check", type=int, default=16, metavar="N",
                        help=f"draw N prepared images with their boxes into OUT/{CHECK_FILE} (0: no)")  # fmt: skip


def _shard(text: str) -> tuple[int, int]:
    """K/N as two numbers; ``PrepareOptions`` checks them."""
    number, _, total = text.partition("/")
    try:
        return int(number), int(total)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be K/N, e.g. 3/8 for the third of eight parts") from None


def add_label_argument(parser: argparse.ArgumentParser, converter: type[Converter]) -> None:
    """The argument --labels, for data sets whose labels follow from rules."""
    if converter.label_facts:
        facts = "; ".join(f"{level}: {', '.join(names)}" for level, names in converter.label_facts.items())
        parser.add_argument(
            "--labels", type=Path, default=None, metavar="YAML",
            help=f"how the labels follow from what the data set says ({facts}); --dry-run shows the table in use",
        )  # fmt: skip


def prepare_options(args: argparse.Namespace) -> PrepareOptions:
    """The options that ``add_prepare_arguments`` describes; sets the limit on the size of images."""
    allow_megapixels(args.max_megapixels)
    image = ImageOptions(
        crop=args.crop,
        margin=args.margin,
        mask_method=args.mask_method,
        flip_to=args.flip_to,
        aspect=args.aspect,
        clean_film=args.clean_film,
        blank_text=args.blank_text,
        max_side=args.max_side,
        spacing=args.spacing,
        keep_files=args.keep_files,
        png_level=args.png_level,
        pixels=args.pixels,
    )
    return PrepareOptions(
        image=image,
        fractions=tuple(zip(("train", "val", "test"), args.split, strict=True)),
        val_from_train=args.val_from_train,
        seed=args.split_seed,
        workers=args.workers,
        strict=args.strict,
        force=args.force,
        check_hashes=args.check_hashes,
        dry_run=args.dry_run,
        limit=args.limit,
        progress=not args.quiet,
        kinds=(*args.take, *(("spot", "magnification", "specimen") if getattr(args, "all_views", False) else ())),
        visits=args.visits,
        shard=args.shard,
    )


def run_prepare(converter_class: type[Converter], args: argparse.Namespace) -> int:
    """Prepare, draw the contact sheet, print the summary; returns the exit code."""
    options = prepare_options(args)
    try:
        converter = converter_class.from_arguments(args)
    except DryRun as text:
        print(f"{args.out}: dry run, {text}")
        return 0
    if converter.label_facts and args.labels:
        converter.use_label_rules(args.labels)
    result = prepare(converter, args.out, options, show=print, cluster=args.cluster)
    _draw_check(result, 0 if options.dry_run else args.check)
    print(summary(result, options.dry_run, options.shard))
    return 0


def run_merge(args: argparse.Namespace) -> int:
    """Make the data set of its shards; returns the exit code."""
    result = merge_shards(args.out)
    _draw_check(result, args.check)
    print(summary(result))
    return 0


def _draw_check(result: PrepareResult, count: int) -> None:
    if count and result.files:
        write_contact_sheet(result.files, result.out / "images", result.out / CHECK_FILE, count)


def summary(result: PrepareResult, dry_run: bool = False, shard: tuple[int, int] | None = None) -> str:
    """What a run did, as text for the console."""
    done = f"prepared shard {shard[0]}/{shard[1]}" if shard else "prepared"
    lines = [f"{result.out}: dry run, nothing written" if dry_run else f"{result.out}: {done}"]
    for split, n in result.counts.items():
        lines.append(
            f"  {split:<6} {n['images']:>6} images  {n['patients']:>6} patients  {n['positive']:>6} with lesions  "
            f"{n['annotations']:>6} lesions"
        )
    warnings = len(result.issues) - len(result.errors)
    where = f"then: mammo-d2 prepare merge {result.out}" if shard else "see errors.csv and manifest.json"
    lines.append(
        f"  {result.reused} reused, {len(result.errors)} left out with an error, {len(result.skipped)} skipped, "
        f"{warnings} warnings" + ("" if dry_run else f"; {where}")
    )
    lines += [f"  error: {issue.problem}" for issue in result.errors[:5]]
    # Warnings about no single file concern the data set.
    about_all = [issue for issue in result.issues if issue.level == "warning" and not issue.file]
    lines += [f"  warning: {issue.key}{': ' if issue.key else ''}{issue.problem}" for issue in about_all[:5]]
    return "\n".join(lines)
