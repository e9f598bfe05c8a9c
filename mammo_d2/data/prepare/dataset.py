"""From a converter's images to a prepared data set: PNGs, one COCO file per split, error table and manifest.

```
<out>/annotations/{train,val,test}.json    COCO, file_name relative to <out>/images
<out>/images/<key>.png                     8 or 16 bits, the whole range used
<out>/manifest.json                        versions, parameters, counts, duplicates
<out>/errors.csv                           files left out, and warnings
<out>/records/                             what resuming needs; may be deleted
```
"""

from __future__ import annotations

import csv
import io
import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
from tqdm import tqdm

from mammo_d2.core.files import sha256_file, write_bytes_atomic, write_json
from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.prepare.image import Issue, Outcome, prepare_image
from mammo_d2.data.prepare.manifest import make_manifest
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.splits import SPLITS, find_duplicates, find_leaks, group_images, split_groups, stratum_of

logger = logging.getLogger(__name__)


class PrepareError(ValueError):
    """A data set that cannot be prepared; the message says why."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a data set is prepared.

    Attributes:
        image: what is done to each image.
        fractions: split name -> part of the patients, where the data set has no split of its own.
        val_from_train: part of the training patients that become "val" where the data set's own split has none.
        seed: of the split.
        workers: processes.
        strict: stop at the first image that cannot be prepared, rather than leave it out.
        force: prepare everything anew instead of reusing what is there.
        dry_run: only look, write nothing.
        limit: take only the first images of the data set (0: all), for a try.
        progress: show a progress bar.
    """

    image: ImageOptions = field(default_factory=ImageOptions)
    fractions: tuple[tuple[str, float], ...] = (("train", 0.7), ("val", 0.1), ("test", 0.2))
    val_from_train: float = 0.0
    seed: int = 0
    workers: int = 1
    strict: bool = False
    force: bool = False
    dry_run: bool = False
    limit: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        names = [name for name, _ in self.fractions]
        if not set(names) <= set(SPLITS) or len(set(names)) != len(names):
            raise ValueError(f"splits {names} must be among {', '.join(SPLITS)}, each once")
        total = sum(part for _, part in self.fractions)
        if abs(total - 1) > 1e-6 or any(part < 0 for _, part in self.fractions):
            raise ValueError(f"split fractions {dict(self.fractions)} must sum to 1, not {total:g}, none negative")
        if self.workers < 1 or self.limit < 0 or not 0 <= self.val_from_train < 1:
            raise ValueError(
                f"workers {self.workers} must be at least 1, limit {self.limit} not negative, val_from_train "
                f"{self.val_from_train} in [0, 1)"
            )


@dataclass
class PrepareResult:
    """What a run did.

    Attributes:
        out: the prepared data set's folder.
        counts: split -> {"images", "patients", "positive", "annotations"}; in a dry run one entry "all".
        issues: errors and warnings.
        skipped: (what, why) that the converter left out on purpose.
        reused: images taken from an earlier run.
        duplicates: keys of images with the same content.
        files: annotation files written.
    """

    out: Path
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    reused: int = 0
    duplicates: list[list[str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def errors(self) -> list[Issue]:
        """The images left out."""
        return [issue for issue in self.issues if issue.level == "error"]


def prepare(converter: Converter, out: str | os.PathLike[str], options: PrepareOptions | None = None) -> PrepareResult:
    """Prepare a data set.

    Images that cannot be prepared are left out and listed in errors.csv (or stop the run, ``options.strict``). A
    repeated run reuses every image whose source bytes, facts and options are unchanged.

    Args:
        converter: says which images there are and what is known about them.
        out: folder of the prepared data set, ``<root>/<dataset>``.
        options: see ``PrepareOptions``.

    Returns:
        Counts and issues.

    Raises:
        PrepareError: no images, two images of one name, nothing could be prepared, or the first error with ``strict``.
    """
    options = options or PrepareOptions()
    out = Path(out)
    sources = _list_sources(converter, options.limit)
    result = PrepareResult(out, skipped=list(converter.skipped))
    if options.dry_run:
        missing = [s for s in sources if not s.path.is_file()]
        result.issues = [Issue("error", s.key, str(s.path), "no such file; fetch it") for s in missing]
        positive = sum(bool(s.annotations) for s in sources)
        total = sum(len(s.annotations) for s in sources)
        patients = len({s.patient_id or s.key for s in sources})
        result.counts["all"] = {
            "images": len(sources), "patients": patients, "positive": positive, "annotations": total,
        }  # fmt: skip
        return result
    outcomes = []
    # Closing the generator ends the workers when a strict run stops early.
    with closing(_run(converter, sources, options, out)) as running:
        for outcome in running:
            outcomes.append(outcome)
            result.issues += outcome.issues
            result.reused += outcome.reused
            if options.strict and outcome.image is None:
                _write_issues(out, result)
                raise PrepareError(f"{outcome.issues[0].problem} (stopped at the first error: strict)")
    done = [(s, o) for s, o in zip(sources, outcomes, strict=True) if o.image is not None]
    _write_issues(out, result)
    if not done:
        first = result.errors[0].problem
        raise PrepareError(f"none of {len(sources)} images could be prepared; the first: {first}; see {out}/errors.csv")
    _look_at_labels(done, result)
    splits = _assign_splits(done, options, result)
    _write_annotations(converter, done, splits, out, result)
    _write_issues(out, result)
    counts = {"counts": result.counts, "errors": len(result.errors), "skipped": len(result.skipped)}
    hashes = {f"annotations/{p.name}": sha256_file(p) for p in result.files}
    results = {**counts, "duplicates": result.duplicates, "files": hashes}
    write_json(out / "manifest.json", make_manifest(converter, asdict(options), results))
    return result


def _list_sources(converter: Converter, limit: int) -> list[SourceImage]:
    sources = list(converter.images())
    if not sources:
        why = "; ".join(f"{what}: {why}" for what, why in converter.skipped[:1])
        raise PrepareError(
            f"{converter.source}: no images of the {converter.name} data set found; check the folder"
            + (f" ({len(converter.skipped)} files were skipped, the first: {why})" if why else "")
        )
    twice = [key for key, count in Counter(s.key for s in sources).items() if count > 1]
    if twice:
        files = [str(s.path) for s in sources if s.key == twice[0]]
        raise PrepareError(f"two images would be called {twice[0]!r}: {', '.join(files[:3])}; rename or remove one")
    return sources[:limit] if limit else sources


def _run(
    converter: Converter, sources: list[SourceImage], options: PrepareOptions, out: Path
) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the sources."""
    common = (options.image, out, options.force)
    # None: no bar where the output is not a terminal.
    hidden = None if options.progress else True
    bar = tqdm(total=len(sources), desc=f"prepare {converter.name}", unit="image", disable=hidden)
    with bar:
        if options.workers == 1:
            for source in sources:
                yield prepare_image(converter, source, *common)
                bar.update()
            return
        # Fresh interpreters: a fork of a process whose libraries have started threads can hang.
        pool = ProcessPoolExecutor(
            min(options.workers, len(sources)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(converter, *common),
        )
        try:
            for outcome in pool.map(_work, sources, chunksize=1):
                yield outcome
                bar.update()
        except BrokenProcessPool as error:
            raise PrepareError(
                "a worker process ended unexpectedly, most likely for lack of memory; use fewer workers (what was "
                "finished is reused)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# Set in each worker process, so that the converter's tables are sent once and not with every image.
_worker_arguments: tuple[Converter, ImageOptions, Path, bool] | None = None


def _start_worker(converter: Converter, options: ImageOptions, out: Path, force: bool) -> None:
    global _worker_arguments
    _worker_arguments = (converter, options, out, force)
    cv2.setNumThreads(1)


def _work(source: SourceImage) -> Outcome:
    assert _worker_arguments is not None
    converter, options, out, force = _worker_arguments
    return prepare_image(converter, source, options, out, force)


def _look_at_labels(done: Sequence[tuple[SourceImage, Outcome]], result: PrepareResult) -> None:
    """Warn of a class that images are known to show, and none is known not to show."""
    labels = [outcome.image.get("labels", {}) for _, outcome in done if outcome.image is not None]
    for name in LABELS:
        values = [each.get(name) for each in labels]
        if 1 in values and 0 not in values:
            problem = (
                f"{values.count(1)} images are labelled {name}, none is known not to be (label 0), "
                f"{values.count(None)} are unknown: what learns from image labels would learn that everything is "
                f"{name}, and metrics of patients have no negatives; label the others in the truth (an image without "
                "lesion is not yet one known to be healthy)"
            )
            result.issues.append(Issue("warning", "", "", problem))


def _assign_splits(
    done: Sequence[tuple[SourceImage, Outcome]], options: PrepareOptions, result: PrepareResult
) -> list[str]:
    """Split of each prepared image; duplicates and leaks become warnings."""
    images = [outcome.image or {} for _, outcome in done]
    # Images of an unknown patient stand for themselves.
    patients = [image["patient_id"] or f"image {source.key}" for (source, _), image in zip(done, images, strict=True)]
    nobody = sum(not image["patient_id"] for image in images)
    if nobody:
        problem = (
            f"{nobody} of {len(images)} images name no patient; each counts as a patient of its own, so that images of "
            "one person may come into different splits: give their patient_id"
        )
        result.issues.append(Issue("warning", "", "", problem))
    hashes = [image["source"]["prepared_sha256"] for image in images]
    result.duplicates = find_duplicates({s.key: h for (s, _), h in zip(done, hashes, strict=True)})
    for keys in result.duplicates:
        result.issues.append(Issue("warning", keys[0], "", f"same pixels as {', '.join(keys[1:])}"))
    groups = group_images(patients, hashes)
    # Names of the groups that do not depend on which images were found: the first patient in alphabetical order.
    name_of: dict[int, str] = {}
    for group, patient in zip(groups, patients, strict=True):
        name_of[group] = min(name_of.get(group, str(patient)), str(patient))
    names = [name_of[g] for g in groups]
    strata = [stratum_of(image.get("labels")) for image in images]
    own = [source.split for source, _ in done]
    for (source, _), split in zip(done, own, strict=True):
        if split and split not in SPLITS:
            raise PrepareError(f"{source.path}: split {split!r} must be one of {', '.join(SPLITS)}, or empty")
    if not any(own):
        return split_groups(names, strata, dict(options.fractions), options.seed)
    drawn = iter(_draw(names, strata, own, options))
    splits = [split or next(drawn) for split in own]
    if options.val_from_train and "val" not in splits:
        splits = _carve_val(names, strata, splits, options)
    for name, where in find_leaks(names, splits).items():
        result.issues.append(
            Issue("warning", str(name), "", f"patient in {' and '.join(where)} by the data set's own split")
        )
    return splits


def _draw(names: list[str], strata: list[str], own: list[str | None], options: PrepareOptions) -> list[str]:
    """Splits of the images that the data set assigns to none."""
    free = [i for i, split in enumerate(own) if not split]
    if not free:
        return []
    chosen = [names[i] for i in free], [strata[i] for i in free]
    return split_groups(*chosen, dict(options.fractions), options.seed)


def _carve_val(names: list[str], strata: list[str], splits: list[str], options: PrepareOptions) -> list[str]:
    """Move part of the training patients to "val"."""
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = {"train": 1 - options.val_from_train, "val": options.val_from_train}
    moved = split_groups([names[i] for i in train], [strata[i] for i in train], parts, options.seed)
    splits = list(splits)
    for index, split in zip(train, moved, strict=True):
        splits[index] = split
    return splits


def _write_annotations(
    converter: Converter,
    done: Sequence[tuple[SourceImage, Outcome]],
    splits: Sequence[str],
    out: Path,
    result: PrepareResult,
) -> None:
    folder = out / "annotations"
    builders: dict[Path, CocoBuilder] = {}
    for split in SPLITS:
        builder = CocoBuilder(info={"description": f"{converter.name}, prepared by mammo_d2", "split": split})
        patients, positive = set(), 0
        for (source, outcome), where in zip(done, splits, strict=True):
            if where != split or outcome.image is None:
                continue
            image_id = builder.add_image(**outcome.image)
            for annotation in outcome.annotations:
                builder.add_annotation(image_id, **annotation)
            patients.add(outcome.image["patient_id"] or source.key)
            positive += bool(outcome.annotations)
        if not builder.images:
            continue
        builders[folder / f"{split}.json"] = builder
        result.counts[split] = {
            "images": len(builder.images), "patients": len(patients), "positive": positive,
            "annotations": len(builder.annotations),
        }  # fmt: skip
    # An earlier run's files are replaced only when all of the new ones are right.
    for path, builder in builders.items():
        builder.check(path)
    for path, builder in builders.items():
        builder.write(path)
        result.files.append(path)
    # Of an earlier run with other splits; they would leak.
    for stale in set(folder.glob("*.json")) - set(builders):
        stale.unlink()


def _write_issues(out: Path, result: PrepareResult) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["level", "key", "file", "problem"])
    for issue in sorted(result.issues, key=lambda i: i.level):
        writer.writerow([issue.level, issue.key, issue.file, issue.problem])
    for what, why in result.skipped:
        writer.writerow(["skipped", "", what, why])
    write_bytes_atomic(out / "errors.csv", text.getvalue().encode("utf-8"))
