"""From a converter's images to a prepared data set: image files, one COCO file per split, error table and manifest.

```
<out>/annotations/{train,val,test}.json    COCO, file_name relative to <out>/images
<out>/annotations/<split>.records          of large annotation files: their records, see format/store_files.py
<out>/images/<key>.png (or .tif)           8 or 16 bits, the whole range used
<out>/manifest.json                        versions, parameters, counts, duplicates
<out>/errors.csv                           files left out, and warnings
<out>/records/                             what resuming needs; may be deleted
<out>/shards/                              of a run in parts, what the merge needs; may be deleted after it
<out>/id_salt.txt                          of DICOM folders: the secret in hashed identifiers; not to be given away
```
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.data.converters.converter import Converter, SourceImage, set_unknown_apart
from mammo_d2.data.converters.header_listing import HeaderListing
from mammo_d2.data.format.annotations import SPLITS
from mammo_d2.data.prepare.image import IMAGE_FOLDER, Issue, Outcome, check_key
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.shards.shard_files import Shard, listing_hash
from mammo_d2.data.prepare.special_images import of_visits, refused_kinds
from mammo_d2.data.prepare.workers import run_images
from mammo_d2.data.prepare.written.dataset_files import PrepareResult, write_dataset, write_issues
from mammo_d2.data.prepare.written.manifest import describe_origin


def prepare(
    converter: Converter,
    out: str | os.PathLike[str],
    options: PrepareOptions | None = None,
    show: Callable[[str], None] | None = None,
    cluster: str = "",
) -> PrepareResult:
    """Prepare a data set.

    Images that cannot be prepared are left out and listed in errors.csv (or stop the run, ``options.strict``). A
    repeated run reuses every image whose source file, facts and options are unchanged. With ``options.shard`` only a
    part of the images is prepared and no annotations are written (see ``merge_shards``).

    Args:
        converter: says which images there are and what is known about them.
        out: folder of the prepared data set, ``<root>/<dataset>``.
        options: see ``PrepareOptions``.
        show: called before the first image is prepared with the rules that the labels follow from, if there are any.
        cluster: scheduler of a Dask cluster whose workers prepare the images (see ``ClusterMap``), in place of
            ``options.workers`` processes; the files are the same.

    Returns:
        Counts and issues.

    Raises:
        PrepareError: no images, two images of one name, nothing could be prepared, or the first error with ``strict``.
    """
    options = options or PrepareOptions()
    out = Path(out)
    converter.listing = HeaderListing(options.workers, options.progress)
    listed = _list_sources(converter, options)
    skipped = list(converter.skipped)
    if show is not None and converter.rules.tables:
        show(_labels_text(converter, listed))
    start, step = (options.shard[0] - 1, options.shard[1]) if options.shard else (0, 1)
    sources = listed[start::step]
    result = PrepareResult(out, skipped=skipped)
    if options.dry_run:
        _look_only(sources, result)
        return result
    origin = describe_origin(converter)
    outcomes: list[Outcome] = []
    left_out: list[list[tuple[str, str]]] = []
    # Closing the generator ends the workers when a strict run stops early.
    with closing(run_images(converter, sources, options, out, cluster)) as running:
        for outcome in running:
            _leave_out_special(outcome, converter, options, out)
            outcomes.append(outcome)
            left_out.append(converter.skipped[len(result.skipped) :])
            result.skipped += left_out[-1]
            result.issues += outcome.issues
            result.reused += outcome.reused
            if options.strict and outcome.image is None and outcome.issues:
                if options.shard is None:
                    write_issues(result)
                raise PrepareError(f"{outcome.issues[0].problem} (stopped at the first error: strict)")
    if options.shard is None:
        write_dataset(outcomes, options, origin, result)
        return result
    shard = Shard(options, origin, len(listed), listing_hash(listed), skipped, outcomes, left_out)
    shard.write(out)
    result.counts[f"{shard.number}/{shard.total}"] = _counts(
        [outcome.image["patient_id"] or outcome.key for outcome in outcomes if outcome.image is not None],
        [len(outcome.annotations) for outcome in outcomes if outcome.image is not None],
    )
    return result


def _look_only(sources: Sequence[SourceImage], result: PrepareResult) -> None:
    """What a dry run says: counts, and images that are not there."""
    for source in sources:
        try:
            check_key(source)
            problem = "" if source.path.is_file() else f"{source.path}: no such file; fetch it"
        except ValueError as error:
            problem = str(error)
        if problem:
            result.issues.append(Issue("error", source.key, str(source.path), problem))
    lesions = [len(set_unknown_apart(source).annotations) for source in sources]
    result.counts["all"] = _counts([source.patient_id or source.key for source in sources], lesions)


def _counts(patients: Sequence[str], lesions: Sequence[int]) -> dict[str, int]:
    """Counts of a list of images by the patient and the number of lesions of each."""
    return {
        "images": len(lesions), "patients": len(set(patients)), "positive": sum(map(bool, lesions)),
        "annotations": sum(lesions),
    }  # fmt: skip


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
    for source in sources:
        if source.split and source.split not in SPLITS:
            raise PrepareError(f"{source.path}: split {source.split!r} must be one of {', '.join(SPLITS)}, or empty")
    return sources[: options.limit] if options.limit else sources


def _labels_text(converter: Converter, sources: Sequence[SourceImage]) -> str:
    """The rules, and the labels of the images that follow from them."""
    lines = [f"label rules ({converter.rules.origin}), with the number of uses:", converter.rules.format()]
    for name in LABELS:
        values = [(source.labels or {}).get(name) for source in sources]
        lines.append(f"images {name}: {values.count(1)} yes, {values.count(0)} no, {values.count(None)} unknown")
    return "\n".join(lines)
