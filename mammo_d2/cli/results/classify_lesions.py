"""The command ``classify-lesions``: malignancy of given lesions, as COCO annotations."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import write_json
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.engine.setup import use_available_device
from mammo_d2.inference.detected_lesions import (
    PREPARED,
    SOURCE,
    pixels_by_name,
    records_with_results,
    transform_of,
)
from mammo_d2.inference.lesion_malignancy import (
    category_ids_of,
    classify_lesions,
    load_lesion_classifier,
    prepared_record,
    results_in_file,
)

DESCRIPTION = """Malignancy of given lesions with a trained lesion classifier, as COCO annotations.

Examples:
    mammo-d2 classify-lesions --config-file output/lesion_context/config.yaml --dataset mine_test \\
        --output lesions.json
    mammo-d2 classify-lesions --config-file output/lesion_context/config.yaml --dataset mine_test \\
        --results output/mine/inference/mine_test/coco_instances_results.json --min-score 0.1 \\
        --output second_reader.json
    mammo-d2 classify-lesions --config-file output/lesion_context/config.yaml --image view.dcm \\
        --box 310 420 60 55 --output lesion.json

An --image is prepared like the training images (INPUT.PREPARATION none: not at all); its boxes are in pixels of the
file. Annotations of a --dataset are in pixels of the prepared images. So are --results, unless --pixels source is given
or the file is called coco_instances_results_source.json: then they are in pixels of the source files. The output uses
the same pixels as the input.
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "classify-lesions")
    parser.add_argument(
        "--config-file", required=True, help="config of the trained classifier, e.g. config.yaml of its run"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--dataset", help="a registered data set; its annotations are the lesions")
    where.add_argument("--image", help="one image file, DICOM or other")
    parser.add_argument("--results", help="COCO results of a detector on --dataset; its boxes are the lesions")
    parser.add_argument("--min-score", type=float, default=0.0, help="skip boxes of --results below this score")
    parser.add_argument(
        "--pixels",
        choices=(PREPARED, SOURCE),
        help="coordinates of --results; default: by the file name, else prepared",
    )
    parser.add_argument(
        "--box",
        type=float,
        nargs=4,
        action="append",
        metavar=("X", "Y", "W", "H"),
        help="lesion in --image; repeatable",
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("opts", nargs="*", help="KEY VALUE overrides")
    args = parser.parse_args(argv)
    keep_freed_memory()
    if bool(args.image) != bool(args.box) or (args.results and not args.dataset) or (args.pixels and not args.results):
        parser.error("--box goes with --image, --results with --dataset, --pixels with --results")
    cfg = load_config(args.config_file, args.opts)
    use_available_device(cfg)
    register_datasets(cfg)
    stage, model = load_lesion_classifier(cfg)
    if args.image:
        with prepared_record(cfg, args.image, args.box) as (record, transform):
            entries = results_in_file(classify_lesions(stage, model, [record]), transform)
    else:
        records = load_records(cfg, args.dataset)
        if args.results:
            records = records_with_results(records, args.results, args.min_score, args.pixels or "")
        records = [record for record in records if record["annotations"]]
        entries = classify_lesions(stage, model, records, category_ids_of(args.dataset))
        if args.results and (args.pixels or pixels_by_name(args.results)) == SOURCE:
            transforms = {record["image_id"]: transform_of(record) for record in records}
            entries = [
                source_entry
                for entry in entries
                for source_entry in results_in_file([entry], transforms[entry["image_id"]])
            ]
    write_json(args.output, entries, indent=None, nan_as_null=True)
    print(f"{args.output}: {len(entries)} lesions")
    return 0
