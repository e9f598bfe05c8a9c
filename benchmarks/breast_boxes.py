"""Boxes beside the breast left out: lesions by their share of breast, FROC with and without.

Ground truth and results are in pixels of the images.
"""

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.cli.results import evaluate
from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.files import read_json, write_json
from mammo_d2.data.reading.reader import read_image
from mammo_d2.inference.boxes.breast_filter import MIN_SHARE, breast_share, reduced_breast_mask


def main(argv: list[str] | None = None) -> dict[str, int]:
    """Print the tables; the number of lesions, and of those that the filter would leave out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.breast_boxes", description=__doc__)
    parser.add_argument("--ground-truth", type=Path, required=True, help="COCO JSON")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--results", type=Path, help="COCO results: also write them without boxes beside the breast")
    parser.add_argument("--output", type=Path, help="for that file; FROC of both is printed")
    parser.add_argument("--classes", nargs="+", default=[], help="of the FROC")
    args = parser.parse_args(argv)
    truth = read_json(args.ground_truth)
    masks = {}
    for image in truth["images"]:
        masks[image["id"]] = reduced_breast_mask(read_image(args.images / image["file_name"])[0])
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    unseen = sum(mask is None for mask in masks.values())

    def shares(entries: list[dict]) -> np.ndarray:
        found = []
        for entry in entries:
            mask, box = masks[entry["image_id"]], np.array([xywh_to_xyxy(entry["bbox"])])
            found.append(1.0 if mask is None else breast_share(box, mask, sizes[entry["image_id"]])[0])
        return np.array(found)

    lesions = shares(truth["annotations"])
    rows = [[limit, (lesions < limit).sum(), (lesions < limit).mean()] for limit in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9)]
    print(f"{len(masks)} images ({unseen} without a breast that is seen), {len(lesions)} lesions")
    print(tabulate(rows, ["share of breast below", "lesions", "part"], floatfmt=".4f"))
    if args.results is not None:
        entries = read_json(args.results)
        keep = shares(entries) >= MIN_SHARE
        print(f"{args.results}: {(~keep).sum()} of {len(keep)} boxes have a share below {MIN_SHARE}")
        filtered = args.output or args.results.with_name("in_breast.json")
        write_json(filtered, [entry for entry, kept in zip(entries, keep, strict=True) if kept])
        classes = ["--classes", *args.classes] if args.classes else []
        truth_file = ["--ground-truth", str(args.ground_truth)]
        evaluate.run([str(args.results), str(filtered), "--names", "all", "in_breast", *truth_file, *classes])
    return {"lesions": len(lesions), "left_out": int((lesions < MIN_SHARE).sum())}


if __name__ == "__main__":
    main()
