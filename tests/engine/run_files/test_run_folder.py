"""Where the files of a run lie, and which weights are its result."""

from pathlib import Path

import pytest

from mammo_d2.engine.run_files.run_folder import (
    config_file,
    config_of_weights,
    evaluation_metrics,
    forget_evaluation,
    forget_training,
    inference_folder,
    inference_folders,
    is_finished,
    remove_checkpoints,
    result_weights,
)


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_result_is_the_best_weights_else_the_average_else_the_last_ones(tmp_path):
    touch(tmp_path, "model_best.pth", "model_ema.pth")  # best so far
    assert not is_finished(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"model_final\.pth: no such file; .*mammo-d2 train --resume"):
        result_weights(tmp_path)
    touch(tmp_path, "model_final.pth")
    assert is_finished(tmp_path)
    for name in ("model_best.pth", "model_ema.pth", "model_final.pth"):
        assert result_weights(tmp_path) == tmp_path / name
        (tmp_path / name).unlink()


def test_folder_without_config_is_not_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.yaml: no such file; name the OUTPUT_DIR of a run"):
        config_file(tmp_path)
    touch(tmp_path, "config.yaml")
    assert config_file(tmp_path) == str(tmp_path / "config.yaml")


def test_the_config_of_weights_is_beside_them_or_one_folder_above(tmp_path):
    weights = tmp_path / "run" / "patch" / "model_best.pth"
    touch(tmp_path, "config.yaml")
    assert config_of_weights(weights) is None
    touch(tmp_path / "run", "config.yaml")
    assert config_of_weights(weights) == tmp_path / "run" / "config.yaml"
    touch(weights.parent, "config.yaml")
    assert config_of_weights(weights) == weights.parent / "config.yaml"


def test_evaluations_of_a_run(tmp_path):
    assert inference_folders(tmp_path) == []
    assert evaluation_metrics(tmp_path) is None
    second, third = (inference_folder(tmp_path, name) for name in ("b_test", "c_test"))
    assert second == tmp_path / "inference" / "b_test"
    touch(tmp_path / "inference" / "a_test")  # begun
    touch(third, "metrics.json")
    touch(second, "metrics.json")
    assert [path.name for path in inference_folders(tmp_path)] == ["a_test", "b_test", "c_test"]
    assert evaluation_metrics(tmp_path) == second / "metrics.json"


def test_a_training_begun_anew_forgets_where_the_former_one_was(tmp_path):
    touch(tmp_path, "last_checkpoint", "model_0000009.pth", "model_final.pth", "model_best.pth", "metrics.json")
    forget_training(tmp_path)
    assert names_in(tmp_path) == ["metrics.json", "model_0000009.pth"]


def test_an_evaluation_forgets_the_former_one_of_its_data_set_and_nothing_else(tmp_path):
    place = tmp_path / "inference" / "a"
    touch(place, "top_regions.json", "lesion_scores.json", "response_maps.npz", "coco_instances_results.json",
          "image_scores.json", "regions.json", "roc.png", "notes.json", "instances_predictions.pth")  # fmt: skip
    (place / "metrics.json").write_text('{"regions": {}, "../../notes": {}}')
    touch(tmp_path / "inference" / "b", "metrics.json", "top_regions.json")
    touch(tmp_path, "notes.json")
    forget_evaluation(tmp_path, "a")
    forget_evaluation(tmp_path, "never")
    assert names_in(place) == ["instances_predictions.pth"]
    assert names_in(tmp_path / "inference" / "b") == ["metrics.json", "top_regions.json"]
    assert names_in(tmp_path) == ["inference", "notes.json"]


def test_checkpoints_of_finished_trainings_are_removed_with_the_pointer_to_them(tmp_path):
    for stage, newest in (("patch", "model_0000019.pth"), ("context", "model_final.pth")):
        touch(tmp_path / stage, "model_0000009.pth", "model_0000019.pth", "model_final.pth", "model_best.pth")
        (tmp_path / stage / "last_checkpoint").write_text(newest)
    remove_checkpoints(tmp_path)
    assert names_in(tmp_path / "patch") == ["model_best.pth", "model_final.pth"]
    assert names_in(tmp_path / "context") == ["last_checkpoint", "model_best.pth", "model_final.pth"]


def test_the_pointer_is_removed_before_the_checkpoint_that_it_is_found_by(tmp_path, monkeypatch):
    touch(tmp_path, "model_0000009.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    removed = []
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: (removed.append(path.name), unlink(path, **options)))
    remove_checkpoints(tmp_path)
    assert removed == ["last_checkpoint", "model_0000009.pth"]
