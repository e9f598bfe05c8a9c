"""Which of a data set's images are taken: special kinds of image, and which of a patient's exams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mammo_d2.data.converters.converter import SourceImage
from mammo_d2.data.prepare.options import PrepareError
from mammo_d2.data.reading.image_meta import SPECIAL_KINDS

VISITS = ("all", "first", "last")
#: Kinds that ``mammo-d2 prepare`` takes without being asked.
USUAL_KINDS = ("implant", "synthetic", "low-energy", "secondary-capture")


def refused_kinds(kinds: Iterable[str], taken: Sequence[str] | None) -> str | None:
    """Why an image of these special kinds is left out; None if it is taken.

    Args:
        kinds: of the image. A volume of tomosynthesis is refused by the reader, unless one frame is chosen.
        taken: those asked for; None takes all.
    """
    refused = [kind for kind in kinds if taken is not None and kind not in taken]
    if not refused:
        return None
    remedy = f"--take {refused[0]} takes such images"
    if refused[0] == "tomosynthesis":
        remedy = (
            "use the 2D or synthetic 2D image of the same view, or one frame of a volume (--frame); "
            "--take tomosynthesis takes files of single slices"
        )
    return f"{refused[0]} image ({SPECIAL_KINDS.get(refused[0], 'unknown')}); {remedy}"


def of_visits(images: Sequence[SourceImage], visits: str) -> tuple[list[SourceImage], list[tuple[str, str]]]:
    """The images of each patient's first or last exam.

    Exams of the same time (a screening and its additional views) are taken together. Images without a patient are all
    taken.

    Args:
        images: of a data set.
        visits: "all", "first" or "last".

    Returns:
        the images in their order, and (key, why) of the others.

    Raises:
        PrepareError: a patient has several exams, and the time of one is unknown.
    """
    if visits == "all":
        return list(images), []
    exams: dict[str, dict[str | None, str | None]] = defaultdict(dict)
    for image in images:
        if image.patient_id is not None:
            known = exams[image.patient_id]
            known[image.exam_id] = known.get(image.exam_id) or image.exam_time
    chosen: dict[str, str | None] = {}
    for patient, times in exams.items():
        unknown = [exam for exam, time in times.items() if not time]
        if len(times) > 1 and unknown:
            raise PrepareError(
                f"patient {patient!r} has {len(times)} exams, and the time of {unknown[0]!r} is unknown; take all "
                "(--visits all)"
            )
        ordered = sorted(time for time in times.values() if time)
        chosen[patient] = ordered[0 if visits == "first" else -1] if ordered else None
    kept, left = [], []
    for image in images:
        if image.patient_id is None or exams[image.patient_id][image.exam_id] == chosen[image.patient_id]:
            kept.append(image)
        else:
            left.append((image.key, f"not of the patient's {visits} exam (--visits {visits})"))
    return kept, left
