import math

import optuna
import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.experiments.search.search_ranges import Range, load_ranges, overrides_of, value_of
from tests.conftest import ROOT

LESION_CONFIG = str(ROOT / "configs" / "lesion_context" / "DenseNet161.yaml")


def read(tmp_path, text, config_file=""):
    path = tmp_path / "ranges.yaml"
    path.write_text(text)
    return load_ranges(str(path), config_file)


def test_numbers_in_every_form_of_writing(tmp_path):
    ranges = read(
        tmp_path,
        "SOLVER.BASE_LR: {float: [1e-6, 10^-4.5], log: true}\n"
        "MODEL.GMIC.SPARSITY_EXPONENT: {float: [e^-1.6, 2]}\n"
        "MODEL.GMIC.NUM_PATCHES: {int: [2, 8]}\n"
        "MODEL.GMIC.FUSION: {choice: [average, concat]}\n"
        "INPUT.SIZE: {choice: [[64, 48], [128, 96]]}\n",
    )
    assert ranges == [
        Range("SOLVER.BASE_LR", "float", (1e-6, pytest.approx(3.1622776601683795e-5)), True),
        Range("MODEL.GMIC.SPARSITY_EXPONENT", "float", (pytest.approx(math.exp(-1.6)), 2.0)),
        Range("MODEL.GMIC.NUM_PATCHES", "int", (2, 8)),
        Range("MODEL.GMIC.FUSION", "choice", ("average", "concat")),
        Range("INPUT.SIZE", "choice", ([64, 48], [128, 96])),
    ]
    trial = optuna.trial.FixedTrial({"INPUT.SIZE": "[128, 96]", "MODEL.GMIC.FUSION": "'concat'"})
    assert ranges[4].suggest(trial) == [128, 96]
    assert ranges[3].suggest(trial) == "concat"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a mapping of config key to range"),
        ("{", "not plain YAML"),
        ("SOLVER.BASE_LRR: {float: [1, 2]}", r"SOLVER.BASE_LRR: there is no config key .* did you mean SOLVER.BASE_LR"),
        ("SOLVER.BASE_LR: 0.1", r"SOLVER.BASE_LR: 0.1 is no range; write \{float"),
        ("SOLVER.BASE_LR: {float: [1, 2], int: [1, 2]}", "is no range"),
        ("SOLVER.BASE_LR: {float: [1, 2], steps: 3}", "is no range"),
        ("SOLVER.BASE_LR: {float: [0.1]}", r"float is \[0.1\]; write \[low, high\]"),
        ("SOLVER.BASE_LR: {float: [2, 1]}", r"\[2, 1\] must rise"),
        ("SOLVER.BASE_LR: {float: [0, 1], log: true}", r"must rise and begin above 0 \(log: true\)"),
        ("SOLVER.BASE_LR: {float: [low, 1]}", "'low' is no float"),
        ("SOLVER.BASE_LR: {float: [0.1, .inf]}", "inf is no float"),
        ("SOLVER.BASE_LR: {float: [0.1, 1], log: 1}", "log is 1; write true or false"),
        ("SOLVER.MAX_ITER: {int: [1.5, 3]}", "1.5 is no int"),
        ("SOLVER.MAX_ITER: {float: [1, 3]}", r"SOLVER.MAX_ITER: .*must be of type int"),
        ("SOLVER.OPTIMIZER: {choice: []}", r"choice is \[\]; write a list of different values"),
        ("SOLVER.OPTIMIZER: {choice: [Adam, 3]}", r"SOLVER.OPTIMIZER: .*must be of type str"),
        ("OUTPUT_DIR: {choice: [a, b]}", "decided by the search"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_value(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"(?s)ranges\.yaml.*{message}"):
        read(tmp_path, text)


def test_keys_of_a_stage_are_those_of_the_job(tmp_path):
    text = "MODEL.LESION.PATCH_STAGE.SOLVER.LR: {float: [1, 2]}"
    with pytest.raises(
        ValueError, match=r"ranges\.yaml: MODEL\.LESION\.PATCH_STAGE.*there is no config key SOLVER\.LR"
    ):
        read(tmp_path, text, LESION_CONFIG)
    with pytest.raises(ValueError, match=r"there is no config key MODEL\.LESION\.PATCH_STAGE\.SOLVER\.LR"):
        read(tmp_path, text)


def test_a_stages_key_is_added_to_the_stages_own_overrides():
    cfg = load_config(LESION_CONFIG)
    key = "MODEL.LESION.CONTEXT_STAGE"
    overrides = overrides_of(cfg, {f"{key}.SOLVER.BASE_LR": 3e-4, f"{key}.SOLVER.IMS_PER_BATCH": 50, "SEED": 4})
    merged = load_config(LESION_CONFIG, overrides)
    assert merged.SEED == 4
    stage = cfg.clone()
    stage.merge_from_list(value_of(merged, key))
    assert (stage.SOLVER.BASE_LR, stage.SOLVER.IMS_PER_BATCH, stage.SOLVER.MAX_ITER) == (3e-4, 50, 10000)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("deep_mil", "deep_mil/AlexNet_sparse"),
        ("dual_branch", "dual_branch/VGGM128_cls_det_rs"),
        ("gmic", "gmic/GMIC"),
        ("lesion_context", "lesion_context/DenseNet161"),
        ("top_likelihood", "top_likelihood/R101_FPN"),
    ],
)
def test_the_ranges_of_every_method_fit_its_config_and_hold_its_values(name, config):
    config_file = str(ROOT / "configs" / f"{config}.yaml")
    cfg = load_config(config_file)
    for one in load_ranges(str(ROOT / "configs" / "search" / f"{name}.yaml"), config_file):
        if "STAGE" not in one.key:
            assert one.values[0] < value_of(cfg, one.key) < one.values[1], one.key


def test_the_gmic_ranges_are_the_papers():
    """Section 3.1 of the paper."""
    ranges = load_ranges(str(ROOT / "configs" / "search" / "gmic.yaml"), str(ROOT / "configs" / "gmic" / "GMIC.yaml"))
    logs = {one.key.rsplit(".", 1)[-1]: [math.log(value) for value in one.values] for one in ranges if one.log}
    ten = math.log(10)
    assert logs["BASE_LR"] == pytest.approx([-5.5 * ten, -3.8 * ten])
    assert logs["SPARSITY_WEIGHT"] == pytest.approx([-5 * ten, -2.8 * ten])
    assert logs["SPARSITY_EXPONENT"] == pytest.approx([-1.6, 1.6])
    assert logs["TOP_FRACTION"] == pytest.approx([-5, -1.5])
