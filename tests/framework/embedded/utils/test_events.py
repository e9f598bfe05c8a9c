"""Event storage and writers."""

import json
import logging
from pathlib import Path

import pytest
import torch

from mammo_d2.framework.embedded.utils.events import EventStorage, get_event_storage
from mammo_d2.framework.embedded.utils.writers import CommonMetricPrinter, JSONWriter, TensorboardXWriter


def test_storage_is_found_inside_its_context_only() -> None:
    with EventStorage() as outer:
        assert get_event_storage() is outer
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
    with pytest.raises(AssertionError, match="only inside 'with EventStorage"):
        get_event_storage()


def test_smoothing_is_the_median_of_the_last_iterations() -> None:
    storage = EventStorage(0)
    for iteration, value in enumerate([100.0, 1.0, 5.0, 3.0]):
        storage.iter = iteration
        storage.put_scalar("noisy", value)
        storage.put_scalar("exact", value, smoothing_hint=False)
    assert storage.latest_with_smoothing_hint(3) == {"noisy": (3.0, 3), "exact": (3.0, 3)}
    assert storage.latest_with_smoothing_hint(4)["noisy"] == (4.0, 3)
    assert storage.count_samples("noisy", 3) == 3


def test_scalar_of_a_sparse_series_is_counted_by_iterations() -> None:
    storage = EventStorage(0)
    for iteration in (0, 10, 25):
        storage.put_scalar("val", iteration, cur_iter=iteration)
    assert storage.count_samples("val", 20) == 2  # iterations 10 and 25; 5 is the edge and out


def test_two_smoothing_hints_for_one_name_are_refused() -> None:
    storage = EventStorage(0)
    storage.put_scalar("x", 1.0)
    with pytest.raises(AssertionError, match="'x' was put with smoothing_hint=True before"):
        storage.put_scalar("x", 1.0, smoothing_hint=False)


def test_unknown_scalar() -> None:
    with pytest.raises(KeyError, match="no scalar 'x' was put"):
        EventStorage(0).history("x")


def test_name_scope_ends_also_after_an_error() -> None:
    storage = EventStorage(0)
    with pytest.raises(ValueError), storage.name_scope("val"):
        storage.put_scalar("loss", "no number")  # type: ignore[arg-type]
    with storage.name_scope("val"):
        storage.put_scalar("loss", 1.0)
    storage.put_scalar("loss", 2.0)
    assert {name: value for name, (value, _) in storage.latest().items()} == {"val/loss": 1.0, "loss": 2.0}


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines_by_iteration_and_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with EventStorage(0) as storage:
        writer = JSONWriter(str(path))
        storage.put_scalar("loss", 3.0, cur_iter=4)
        storage.put_scalar("val", 1.0, cur_iter=2, smoothing_hint=False)
        writer.write()
        writer.write()
        storage.put_scalar("loss", 5.0, cur_iter=5)
        writer.write()
        writer.close()
    assert read_lines(path) == [
        {"iteration": 2, "val": 1.0},
        {"iteration": 4, "loss": 3.0},
        {"iteration": 5, "loss": 4.0},  # the median of 3 and 5
    ]


def test_json_goes_on_after_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0, "loss": 1.0}\n{"iteration": 1, "lo')
    with EventStorage(1) as storage:
        writer = JSONWriter(str(path))
        storage.put_scalar("loss", 2.0)
        writer.write()
        writer.close()
    assert read_lines(path) == [{"iteration": 0, "loss": 1.0}, {"iteration": 1, "loss": 2.0}]


def test_console_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with EventStorage(9) as storage:
        storage.put_scalars(total_loss=1.5, loss_cls=0.25, time=2.0, data_time=0.5)
        storage.put_scalar("[metric]acc", 0.75)
        storage.put_scalar("lr", 0.01, smoothing_hint=False)
        CommonMetricPrinter(max_iter=40).write()
        assert storage.latest()["eta_seconds"] == (60.0, 9)  # 30 iterations of 2 s
    message = caplog.records[-1].getMessage()
    for part in ("eta: 0:01:00", "iter: 9", "total_loss: 1.5", "loss_cls: 0.25", "[metric]acc: 0.75", "time: 2.0000",
                 "data_time: 0.5000", "lr: 0.01"):  # fmt: skip
        assert part in message


def test_console_is_quiet_after_training(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with EventStorage(40):
        CommonMetricPrinter(max_iter=40).write()
    assert caplog.records == []


def test_tensorboard_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventStorage(3) as storage:
        writer = TensorboardXWriter(str(tmp_path))
        storage.put_scalar("loss", 0.5)
        storage.put_image("picture", torch.zeros(3, 4, 4))
        writer.write()
        writer.write()  # images were taken
        writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 0.5)]
    assert [event.step for event in events.Images("picture")] == [3]


def test_tensorboard_file_is_not_made_for_nothing(tmp_path: Path) -> None:
    TensorboardXWriter(str(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []
