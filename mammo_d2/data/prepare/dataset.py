"""From a converter's images to a prepared data set: PNGs, one COCO file per split, error table and manifest.

```
<out>/annotations/{train,val,test}.json    COCO, file_name relative to <out>/images
<out>/images/<key>.png                     8 or 16 bits, the whole range used
<out>/manifest.json                        versions, parameters, counts, duplicates
<out>/errors.csv                           files left out, and warnings
<out>/records/                             what resuming needs; may be deleted
<out>/id_salt.txt                          of DICOM folders: the secret in hashed identifiers; not to be given away
```
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mammo_d2.core.files import sha256_file, write_bytes_atomic, write_json
from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.data.converters.converter import Converter, SourceImage, set_unknown_apart
from mammo_d2.data.format.annotations import SPLITS
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.prepare.dataset_splits import assign_splits
from mammo_d2.data.prepare.image import IMAGE_FOLDER, Issue, Outcome, check_key
from mammo_d2.data.prepare.manifest import make_manifest
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.special_images import of_visits, refused_kinds
from mammo_d2.data.prepare.workers import run_images


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


def prepare(
    converter: Converter,
    out: str | os.PathLike[str],
    options: PrepareOptions | None = None,
    show: Callable[[str], None] | None = None,
) -> PrepareResult:
    """Prepare a data set.

    Images that cannot be prepared are left out and listed in errors.csv (or stop the run, ``options.strict``). A
    repeated run reuses every image whose source bytes, facts and options are unchanged.

    Args:
        converter: says which images there are and what is known about them.
        out: folder of the prepared data set, ``<root>/<dataset>``.
        options: see ``PrepareOptions``.
        show: called before the first image is prepared with the rules that the labels follow from, if there are any.

    Returns:
        Counts and issues.

    Raises:
        PrepareError: no images, two images of one name, nothing could be prepared, or the first error with ``strict``.
    """
    options = options or PrepareOptions()
    out = Path(out)
    sources = _list_sources(converter, options)
    if show is not None and converter.rules.tables:
        show(_labels_text(converter, sources))
    result = PrepareResult(out, skipped=list(converter.skipped))
    if options.dry_run:
        for source in sources:
            try:
                check_key(source)
                problem = "" if source.path.is_file() else f"{source.path}: no such file; fetch it"
            except ValueError as error:
                problem = str(error)
            if problem:
                result.issues.append(Issue("error", source.key, str(source.path), problem))
        known = [set_unknown_apart(source).annotations for source in sources]
        positive, total = sum(map(bool, known)), sum(map(len, known))
        patients = len({s.patient_id or s.key for s in sources})
        result.counts["all"] = {
            "images": len(sources), "patients": patients, "positive": positive, "annotations": total,
        }  # fmt: skip
        return result
    outcomes = []
    # Closing the generator ends the workers when a strict run stops early.
    with closing(run_images(converter, sources, options, out)) as running:
        for outcome in running:
            _leave_out_special(outcome, converter, options, out)
            outcomes.append(outcome)
            result.issues += outcome.issues
            result.reused += outcome.reused
            if options.strict and outcome.image is None and outcome.issues:
                _write_issues(out, result)
                raise PrepareError(f"{outcome.issues[0].problem} (stopped at the first error: strict)")
    result.skipped = list(converter.skipped)
    done = [(s, o) for s, o in zip(sources, outcomes, strict=True) if o.image is not None]
    _write_issues(out, result)
    if not done:
        first = result.errors[0].problem if result.errors else result.skipped[-1][1]
        raise PrepareError(f"none of {len(sources)} images could be prepared; the first: {first}; see {out}/errors.csv")
    _look_at_labels(done, result)
    assigned = assign_splits(done, options)
    result.duplicates = assigned.duplicates
    result.issues += assigned.warnings
    _write_annotations(converter, done, assigned.splits, out, result)
    _write_issues(out, result)
    counts = {"counts": result.counts, "errors": len(result.errors), "skipped": len(result.skipped)}
    hashes = {f"annotations/{p.name}": sha256_file(p) for p in result.files}
    results = {**counts, "duplicates": result.duplicates, "files": hashes}
    write_json(out / "manifest.json", make_manifest(converter, asdict(options), results))
    return result


def _leave_out_special(outcome: Outcome, converter: Converter, options: PrepareOptions, out: Path) -> None:
    """Take back an image whose file turned out to be of a special kind that is not taken."""
    image = outcome.image
    # Of a volume of tomosynthesis the reader was told which frame to take.
    kinds = [kind for kind in (image or {}).get("source", {}).get("kinds", ()) if kind != "tomosynthesis"]
    why = refused_kinds(kinds, options.kinds)
    if image is None or why is None:
        return
    converter.skip(outcome.key, why)
    (out / IMAGE_FOLDER / image["file_name"]).unlink(missing_ok=True)
    outcome.image, outcome.annotations, outcome.issues, outcome.reused = None, [], [], False


def _list_sources(converter: Converter, options: PrepareOptions) -> list[SourceImage]:
    listed = list(converter.images())
    sources = []
    for source in listed:
        frame_chosen = converter.read_options.frame is not None
        kinds = [kind for kind in source.kinds if kind != "tomosynthesis" or not frame_chosen]
        why = refused_kinds(kinds, options.kinds)
        if why is None:
            sources.append(source)
        else:
            converter.skip(source.path, why)
    sources, other_visits = of_visits(sources, options.visits)
    for key, why in other_visits:
        converter.skip(key, why)
    limit = options.limit
    if not sources:
        why = "; ".join(f"{what}: {why}" for what, why in converter.skipped[:1])
        raise PrepareError(
            f"{converter.source}: no images of the {converter.name} data set found; check the folder"
            + (f" ({len(converter.skipped)} files were skipped, the first: {why})" if why else "")
        )
    # "p1/./a" and "p1//a" are the file "p1/a".
    names = [posixpath.normpath(s.key) for s in sources]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        files = [str(s.path) for s, name in zip(sources, names, strict=True) if name == twice[0]]
        raise PrepareError(f"two images would be called {twice[0]!r}: {', '.join(files[:3])}; rename or remove one")
    return sources[:limit] if limit else sources


def _labels_text(converter: Converter, sources: Sequence[SourceImage]) -> str:
    """The rules, and the labels of the images that follow from them."""
    lines = [f"label rules ({converter.rules.origin}), with the number of uses:", converter.rules.format()]
    for name in LABELS:
        values = [(source.labels or {}).get(name) for source in sources]
        lines.append(f"images {name}: {values.count(1)} yes, {values.count(0)} no, {values.count(None)} unknown")
    return "\n".join(lines)


def _look_at_labels(done: Sequence[tuple[SourceImage, Outcome]], result: PrepareResult) -> None:
    """Warn of a class with positive images but no known negative one."""
    labels = [outcome.image.get("labels", {}) for _, outcome in done if outcome.image is not None]
    for name in LABELS:
        values = [image_labels.get(name) for image_labels in labels]
        if 1 in values and 0 not in values:
            problem = (
                f"{values.count(1)} images are labelled {name}, none has the label 0, "
                f"{values.count(None)} are unknown: a method that learns from image labels would learn that every "
                f"image is {name}, and patient metrics have no negatives; label the others in the truth (an image "
                "without a lesion is not yet known to be healthy)"
            )
            result.issues.append(Issue("warning", "", "", problem))


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
    # Files of an earlier run with other splits would leak patients.
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
