"""The command ``demo``: phantoms, preparation, training, evaluation and report in one run."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.core.files import read_json
from mammo_d2.data.format.catalog import ROOT_VARIABLE
from mammo_d2.engine.run_files.run_folder import FINAL_WEIGHTS, LAST_CHECKPOINT, METRICS_FILE, inference_folder

DESCRIPTION = """From phantom mammograms (DICOM) to an evaluated detector: preparation, training, evaluation, report.

Prints each command that it runs. Finished steps are not repeated.
"""

CONFIG = "mammo_d2://quickstart/phantom_top_likelihood.yaml"
PHANTOM = ["--patients", "240", "--seed", "7", "--set", "rows=640", "cols=512", "contrast_scale=1.5"]
PHANTOM += ["share_malignant=0.45", "share_benign=0.15", "share_calcification_malignant=0", "distractor_likeness=0.3"]
PHANTOM += ["distractor_rate_positive=0.8"]

#: Metrics printed at the end: label → task and key in metrics.json.
FIGURES = {
    "AP50 (IoU 0.5)": ("coco", "AP50"),
    "sensitivity at 0.25 false positives per image": ("froc", "malignant/sens@0.25"),
    "sensitivity at 0.5 false positives per image": ("froc", "malignant/sens@0.5"),
    "sensitivity at 1 false positive per image": ("froc", "malignant/sens@1"),
    "sensitivity at 2 false positives per image": ("froc", "malignant/sens@2"),
    "patient AUC": ("patient", "auc"),
    "patient sensitivity (score > 0.5)": ("patient", "sensitivity"),
    "patient specificity (score > 0.5)": ("patient", "specificity"),
}


def step(title: str, *arguments: str | Path) -> None:
    """Print and run one ``mammo-d2`` command; its failure ends the demo with its exit code."""
    words = [str(word) for word in arguments]
    print(f"\n=== {title}\n$ mammo-d2 {shlex.join(words)}", flush=True)
    start = time.perf_counter()
    # The demo sets DATASETS.ROOT, which the environment variable would override.
    environment = {name: value for name, value in os.environ.items() if name != ROOT_VARIABLE}
    process = subprocess.Popen([sys.executable, "-m", "mammo_d2", *words], env=environment)
    try:
        status = process.wait()
    except KeyboardInterrupt:  # the command got it, too: a training saves a checkpoint
        process.wait()
        raise
    if status != 0:
        raise SystemExit(status)
    print(f"--- {time.perf_counter() - start:.0f} s", flush=True)


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "demo")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for everything")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides for the training")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    output = args.output.resolve()
    datasets, run_dir = output / "datasets", output / "run"
    keys = ["DATASETS.ROOT", datasets, "OUTPUT_DIR", run_dir]

    prepare = ["prepare", "phantom", "--out", datasets / "phantom", *PHANTOM]
    step("Phantom mammograms as DICOM, cropped and split by patient", *prepare, "--crop", "--split", "0.7", "0", "0.3")
    resume = ["--resume"] if (run_dir / LAST_CHECKPOINT).is_file() else []
    step("Training and evaluation", "train", "--config-file", CONFIG, *resume, *keys, *args.opts)
    step("Report", "report", "--run", run_dir)

    inference = inference_folder(run_dir, "phantom_test")
    metrics = read_json(inference / METRICS_FILE)
    print(f"\nHeld-out phantom patients ({metrics['patient']['num_positive']:.0f} with cancer, "
          f"{metrics['patient']['num_negative']:.0f} without):")  # fmt: skip
    for label, (task, key) in FIGURES.items():
        value = metrics[task][key]
        print(f"  {label:48s} {'undefined' if value is None else f'{value:.3f}'}")
    print("\nFiles:")
    for label, path in {
        "predictions, COCO results, prepared pixels": inference / "coco_instances_results.json",
        "predictions in the DICOM files' pixels": inference / "coco_instances_results_source.json",
        "FROC and ROC curves": f"{inference / 'froc.png'}, {inference / 'roc.png'}",
        "checkpoint": run_dir / FINAL_WEIGHTS,
        "report": run_dir / "report.html",
    }.items():
        print(f"  {label:48s} {path}")
    print(f"\nFinished in {time.perf_counter() - start:.0f} s. Phantoms are no patients; this is research software.")
    return 0
