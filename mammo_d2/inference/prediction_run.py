"""A whole prediction of many files: results are written as they come, in bounded memory, by one or several processes.

The results of a file are a line of ``predictions.jsonl`` (``prediction_journal``) as soon as there are any. At the end
the other result files are made of these lines. A run that was ended at any moment and resumed gives the same files,
byte for byte, and so do several processes: files keep their numbers, and batches are of the same files.
"""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo_d2 import __version__
from mammo_d2.core.files import sha256_file
from mammo_d2.core.identifiers import SALT_FILE, hashed_identifier, new_salt, read_salt, write_salt
from mammo_d2.core.processes.stop_signals import StopSignals
from mammo_d2.framework import CfgNode, comm
from mammo_d2.inference.image_files import FoundFiles
from mammo_d2.inference.prediction_files import (
    FileProblem,
    Prediction,
    prediction_record,
    problem_record,
    writable_name,
    write_picture,
)
from mammo_d2.inference.prediction_journal import Journal, JournalWriter, journal_file, remove_journal, stat_of
from mammo_d2.inference.predictor import Predictor
from mammo_d2.inference.result_files import ResultCounts, write_result_files
from mammo_d2.pictures.saliency_maps import write_saliency

#: Batches of files, each with its number, and the arguments of ``Predictor.predict_batches``.
Predict = Callable[..., Iterator[list[Prediction | FileProblem]]]
# Keys that do not change a prediction.
_NO_MATTER = (
    "MODEL.WEIGHTS", "MODEL.DEVICE", "OUTPUT_DIR", "DATALOADER.NUM_WORKERS", "DATASETS.ROOT", "DATASETS.TRAIN",
    "DATASETS.TEST", "DATASETS.RECORD_STORE", "MODULES",
)  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """How a prediction is written.

    Attributes:
        folder: of the results; it exists.
        resume: keep the results that are there and predict what is missing, failed or changed since.
        batch_size: files that go through the model together.
        strict: fail at the first file that cannot be used.
        threshold: boxes with a lower score are left out.
        pictures: also write the files with their boxes drawn.
        regions: draw so many boxes of each class; 0: all.
        keep_ids: write identifiers as they are in the files.
        id_salt: secret text in their hashes; empty: that of the folder, or a new one.
        saliency: also write the saliency maps of methods that have them.
    """

    folder: Path
    resume: bool = False
    batch_size: int = 1
    strict: bool = False
    threshold: float = 0.0
    pictures: bool = False
    regions: int = 0
    keep_ids: bool = False
    id_salt: str = ""
    saliency: bool = False


def prediction_settings(predictors: Sequence[Predictor], options: RunOptions, **more: Any) -> dict[str, Any]:
    """What the results follow from, apart from the files; a resumed run must have the same.

    Args:
        predictors: the models.
        options: of the run.
        more: further settings, JSON-ready.
    """
    return {
        "version": __version__,
        "weights": [_weights_id(predictor.cfg.MODEL.WEIGHTS) for predictor in predictors],
        "config": [_digest(predictor.cfg) for predictor in predictors],
        "preparation": [predictor.preparation.to_dict() for predictor in predictors],
        "score_threshold": options.threshold,
        "batch_size": options.batch_size,
        "ids": "kept" if options.keep_ids else "hashed",
        "id_salt": hashed_identifier("salt", options.id_salt) if options.id_salt and not options.keep_ids else "",
        **({"saliency": True} if options.saliency else {}),
        **more,
    }


class PredictionRun:
    """One run, in each process of the job."""

    def __init__(
        self,
        predict: Predict,
        found: FoundFiles,
        classes: Sequence[str],
        options: RunOptions,
        settings: Mapping[str, Any],
        info: Mapping[str, Any],
    ):
        """Look at what is there; rank 0 clears or merges it.

        Args:
            predict: as ``Predictor.predict_batches``.
            found: the files.
            classes: class names by class number.
            options: of the run.
            settings: see ``prediction_settings``.
            info: goes to the COCO file.

        Raises:
            SettingsDifferError: to be resumed, but with other settings.
            ValueError: the folder's secret text is empty.
        """
        self._predict, self._found, self._classes = predict, found, classes
        self._options, self._settings, self._info = options, settings, info
        self._rank, self._ranks = comm.get_rank(), comm.get_world_size()
        folder = options.folder
        read_salt(folder)  # an error now, not after hours of predictions
        if self._rank:
            comm.synchronize()
        elif not options.resume:
            remove_journal(folder)
        journal = Journal(folder, settings)
        if self._rank == 0:
            comm.synchronize()
        comm.synchronize()  # parts are written only when everybody has looked
        self._salt = self._choose_salt()
        self._numbers = numbered(found.files, journal.ids)
        self.batches = self._missing(journal)[self._rank :: self._ranks]
        self.kept = len(journal.ids) - len(journal.failed)

    def __call__(self, progress: Callable[[Iterator[Any]], Iterator[Any]] = iter) -> ResultCounts | None:
        """Predict what is missing, and write the result files.

        Ctrl-C and SIGTERM stop the run after the image that is worked on; a single process then writes the result files
        of what there is.

        Args:
            progress: wraps the iterator over files, of which ``files_to_do`` are predicted.

        Returns:
            What the result files hold; None in processes that do not write them.

        Raises:
            KeyboardInterrupt, SystemExit: stopped by a signal.
            OSError: results cannot be written, e.g. on a full disk.
            ValueError: with ``strict``, a file that cannot be used.
        """
        stop = StopSignals(lambda text: print(text, file=sys.stderr), "image")
        try:
            with stop, JournalWriter(journal_file(self._options.folder, self._rank), self._settings) as journal:
                for record in self._records(_until(stop, progress(self._outcomes()))):
                    journal.append(record)
                if stop.number:
                    stop.stop(stop.number)
        except BaseException:  # an interruption, too
            if self._ranks == 1:
                self._write_what_there_is()
            raise
        comm.synchronize()
        counts = self._write() if self._rank == 0 else None
        comm.synchronize()
        return counts

    @property
    def files_to_do(self) -> int:
        """Files that this process predicts."""
        return sum(map(len, self.batches))

    def _outcomes(self) -> Iterator[tuple[int, Prediction | FileProblem]]:
        options = self._options
        outcomes = self._predict(self.batches, strict=options.strict, pictures=options.pictures)
        for batch, found in zip(self.batches, outcomes, strict=True):
            for (number, _), outcome in zip(batch, found, strict=True):
                yield number, outcome

    def _records(self, outcomes: Iterator[tuple[int, Prediction | FileProblem]]) -> Iterator[dict[str, Any]]:
        """The lines of files in order. Pictures and maps are written while the model works on the next batch."""
        if not (self._options.pictures or self._options.saliency):
            yield from (self._record(number, outcome) for number, outcome in outcomes)
            return
        waiting: deque[Future[dict[str, Any]]] = deque()
        with ThreadPoolExecutor(1, "pictures") as beside:
            try:
                for number, outcome in outcomes:
                    waiting.append(beside.submit(self._record, number, outcome))
                    while len(waiting) > self._options.batch_size:
                        yield waiting.popleft().result()
            except Exception:  # of the model or a file: what came before it is kept
                yield from (line.result() for line in waiting)
                raise
            yield from (line.result() for line in waiting)

    def _record(self, number: int, outcome: Prediction | FileProblem) -> dict[str, Any]:
        """The line of a file; its picture is written first."""
        options, stat = self._options, {"stat": stat_of(outcome.file)}
        if isinstance(outcome, FileProblem):
            return problem_record(outcome, number) | stat
        outcome = outcome.at_least(options.threshold)
        if options.pictures:
            write_picture(options.folder, number, outcome, self._classes, options.regions)
        if options.saliency and outcome.saliency is not None:
            maps, transform = outcome.saliency, outcome.transform
            write_saliency(options.folder, number, writable_name(outcome.file), maps, self._classes, transform)
        meta = outcome.meta
        if self._salt and not options.id_salt and (meta.patient_id or meta.exam_id or meta.sop_instance_uid):
            self._keep_salt()
        record = prediction_record(outcome, number, self._classes, keep_ids=options.keep_ids, id_salt=self._salt)
        return record | stat

    def _missing(self, journal: Journal) -> list[list[tuple[int, str]]]:
        """Batches in which a file has no prediction. A batch is predicted whole: its images may share their padding."""
        size = self._options.batch_size
        batches: dict[int, list[tuple[int, str]]] = {}
        incomplete = set()
        for number, file in self._numbers:
            batches.setdefault((number - 1) // size, []).append((number, file))
            if not journal.is_current(writable_name(file), stat_of(file)):
                incomplete.add((number - 1) // size)
        return [batches[index] for index in sorted(incomplete)]

    def _choose_salt(self) -> str:
        """The secret text in hashes, the same in all processes; one process writes a new one when it is needed."""
        options = self._options
        if options.keep_ids:
            return ""
        if options.id_salt:
            return options.id_salt
        salt = comm.all_gather(read_salt(options.folder) or new_salt())[0]
        if self._ranks > 1 and self._rank == 0 and read_salt(options.folder) is None:
            write_salt(options.folder, salt)
        return salt

    def _keep_salt(self) -> None:
        if self._ranks == 1 and not (self._options.folder / SALT_FILE).is_file():
            write_salt(self._options.folder, self._salt)

    def _write(self) -> ResultCounts:
        folder = self._options.folder
        journal = Journal(folder, self._settings)
        return write_result_files(folder, journal.records, self._classes, self._info, self._found.links)

    def _write_what_there_is(self) -> None:
        # The error that stopped the run is the one to show.
        with suppress(OSError, ValueError):
            counts = self._write()
            done, whole = counts.images + counts.problems, len(self._numbers)
            print(
                f"stopped; {self._options.folder} has the results of {done} of {whole} files, and --resume goes on",
                file=sys.stderr,
            )


def _until(
    stop: StopSignals, outcomes: Iterator[tuple[int, Prediction | FileProblem]]
) -> Iterator[tuple[int, Prediction | FileProblem]]:
    """Outcomes up to the one during which a signal came."""
    for outcome in outcomes:
        yield outcome
        if stop.number:
            return


def numbered(files: Sequence[str], known: Mapping[str, int]) -> list[tuple[int, str]]:
    """Files with their numbers, by number: files with results keep theirs, the others take the free ones in order.

    Args:
        files: names.
        known: numbers by name (``writable_name``) of files with results, also of files that are not there any more.
    """
    taken = set(known.values())
    free = (number for number in range(1, len(files) + len(taken) + 1) if number not in taken)
    pairs = []
    for file in files:
        number = known.get(writable_name(file))
        pairs.append((next(free) if number is None else number, file))
    return sorted(pairs)


def _weights_id(weights: str) -> str:
    """What the weights are: the content of a file; an address is taken at its word."""
    return sha256_file(weights)[:16] if Path(weights).is_file() else weights


def _digest(cfg: CfgNode) -> str:
    """Of all keys that may change a prediction."""
    cfg = cfg.clone()
    cfg.defrost()
    for key in _NO_MATTER:
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        node[name] = ""
    return hashlib.sha256(cfg.dump().encode()).hexdigest()[:16]
