#!/usr/bin/env python3
"""Evaluate result files of any detector or classifier against a COCO ground truth; no model is needed.

Detections come as COCO results (a JSON list of image_id, category_id, bbox [x, y, width, height], score), image scores
as a run's image_scores.json or as CSV (image_id, and one column per class). With several systems, each is compared with
the first.

Examples:
    python tools/evaluate.py --ground-truth test.json output/inference/coco_instances_results.json
    python tools/evaluate.py --ground-truth test.json a.json b.json --names baseline ours --output output/compare
    python tools/evaluate.py --ground-truth test.json a.json --preset luna16 --classes malignant
    python tools/evaluate.py --ground-truth test.json --image-scores scores.csv --aggregate mean
"""

import sys

from mammo_d2.cli import run_tool
from mammo_d2.evaluation.command import run

if __name__ == "__main__":
    sys.exit(run_tool(run))
