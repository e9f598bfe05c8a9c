"""The journal of a study after kills: repaired without loss, refused where it is something else."""

import json

import optuna
import pytest

from mammo_d2.experiments.search.journal import open_storage, together
from mammo_d2.experiments.search.trial import SearchError


def make_study(path, **options):
    return optuna.create_study(storage=open_storage(path), study_name="search", load_if_exists=True, **options)


def draw(study, number=None):
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    trial = study.ask() if number is None else optuna.Trial(study, study.trials[number]._trial_id)
    return [trial.suggest_float(name, 0, 1) for name in ("a", "b", "c")]


@pytest.fixture
def journal(tmp_path):
    study = make_study(tmp_path / "study.log")
    with together(study):
        draw(study)
    return tmp_path / "study.log"


def test_an_incomplete_last_line_is_removed(journal):
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:-7])
    open_storage(journal)
    assert journal.read_bytes() == whole
    assert len(make_study(journal).trials) == 1


def test_a_complete_last_line_without_its_end_is_kept(journal):
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    open_storage(journal)
    assert journal.read_bytes() == whole
    assert make_study(journal).trials[0].params.keys() == {"a", "b", "c"}


@pytest.mark.parametrize("part", [b"{", b'{"op_co', b'{"op_code":0,"worker'])
def test_a_first_line_that_was_begun_is_removed(part, tmp_path):
    (tmp_path / "study.log").write_bytes(part)
    assert make_study(tmp_path / "study.log").trials == []


@pytest.mark.parametrize("content", [b"notes on my study", b"[1, 2]", b'{"study": 1}', b'{"study": 1}\n', b"a,b\n1,2"])
def test_another_file_is_refused_and_left_as_it_is(content, tmp_path):
    path = tmp_path / "study.log"
    path.write_bytes(content)
    with pytest.raises(SearchError, match=r"study\.log, line 1: damaged, or not the journal of a search"):
        open_storage(path)
    assert path.read_bytes() == content


def test_a_foreign_last_line_is_refused(journal):
    content = journal.read_bytes() + b"notes"
    journal.write_bytes(content)
    with pytest.raises(SearchError, match="line 6: damaged"):
        open_storage(journal)
    assert journal.read_bytes() == content


def test_what_is_logged_together_is_seen_at_once_and_written_at_the_end(tmp_path):
    path = tmp_path / "study.log"
    study = make_study(path)
    before = path.read_bytes()
    with together(study):
        values = draw(study)
        assert path.read_bytes() == before
        assert list(study.trials[0].params.values()) == values
    lines = path.read_bytes()[len(before) :].splitlines()
    assert [json.loads(line)["op_code"] for line in lines] == [4, 5, 5, 5]  # a trial and three parameters
    assert list(make_study(path).trials[0].params.values()) == values
    study.tell(0, 1.0)
    assert make_study(path).best_value == 1.0


def test_after_an_exception_what_was_logged_is_written(tmp_path):
    study = make_study(tmp_path / "study.log")
    with pytest.raises(AttributeError), together(study):
        study.ask().suggest_nothing()
    assert len(make_study(tmp_path / "study.log").trials) == 1


def test_a_trial_drawn_in_part_would_be_continued_with_other_values(tmp_path):
    """Why parameters are drawn together."""
    values = draw(make_study(tmp_path / "whole.log"))
    study = make_study(tmp_path / "study.log")
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    study.ask().suggest_float("a", 0, 1)
    assert draw(study, 0)[1] != values[1]
