"""Reader studies of RJafroc's example data sets; the numbers expected of them are RJafroc's and OR-DBM MRMC's own."""

import json
from pathlib import Path

import numpy as np

from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderMarks, equal_weights, roc_marks

FOLDER = Path(__file__).parent / "published"


def names(letter, count):
    return tuple(f"{letter}{n}" for n in range(count))


def van_dyke():
    content = json.loads((FOLDER / "van_dyke.json").read_text())
    ratings = np.array([[[int(c) for c in row] for row in rows] for rows in content["ratings"]], float)
    truth = np.array([c == "1" for c in content["truth"]])
    return roc_marks(names("t", 2), names("r", 5), names("c", len(truth)), truth, ratings)


def tomosynthesis():
    content = json.loads((FOLDER / "tomosynthesis.json").read_text())
    lesion_case = np.array(content["lesion_case"])
    false = np.full((2, 5, content["cases"]), -np.inf)
    hits = np.full((2, 5, len(lesion_case)), -np.inf)
    for table, entries in ((false, content["false"]), (hits, content["hits"])):
        for t, r, place, rating in entries:
            table[t, r, place] = rating
    return ReaderMarks(
        names("t", 2), names("r", 5), names("c", content["cases"]), false, hits, lesion_case, equal_weights(lesion_case)
    )


def standalone():
    content = json.loads((FOLDER / "standalone.json").read_text())
    false, hits = (
        np.array([[-np.inf if v is None else v for v in row] for row in content[key]], float)[None]
        for key in ("false", "hits")
    )
    lesion_case = np.arange(120, 200)
    return ReaderMarks(("t",), names("r", 10), names("c", 200), false, hits, lesion_case, np.ones(80))
