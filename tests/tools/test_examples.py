"""Commands in the help, the documents and the heads of configs: they parse, and what they name is there."""

import argparse
import itertools
import re
import shlex
from pathlib import Path

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import PREFIX, find_config
from mammo_d2.jobs.job import build_job
from tests.conftest import ROOT

PLACES = [
    *ROOT.glob("tools/*.py"),
    *ROOT.glob("mammo_d2/cli/**/*.py"),
    *ROOT.glob("*.md"),
    *(path for path in ROOT.glob("docs/**/*.md") if not path.name.startswith("add_a_")),  # tests/docs carries them out
    *ROOT.glob("datasets/*.md"),
    *ROOT.glob("configs/**/*.yaml"),
]
CONSOLE = r"^[ #$]*mammo-d2 ([a-z][a-z-]*)([^`;\n]*)"
# Tools that are not called like their command.
TOOLS = {"prepare": "prepare_data", "train": "train_net"}
TRAINING = ("train_net", "ablation", "cross_validate", "search")


class Parsed(Exception):
    """The arguments are right."""


def commands_of(path: Path) -> list[list[str]]:
    """Tool and arguments of each command in a file; descriptions with "..." are none.

    ``python tools/X.py`` counts everywhere, ``mammo-d2 X`` where a line begins with it.
    """
    text = path.read_text(encoding="utf-8").replace("\\\\\n", "\\\n")
    text = re.sub(r"\\\n\s*#?\s*", "", text)
    found = re.findall(r"python tools/(\w+)\.py([^`;\n]*)", text)
    found += [(TOOLS.get(name, name.replace("-", "_")), rest) for name, rest in re.findall(CONSOLE, text, re.MULTILINE)]
    found = [(tool, re.sub(r"\$[A-Z]+_[A-Z_]+", "1", rest)) for tool, rest in found]  # a number that a scheduler gives
    return [[tool, *shlex.split(rest.split("   #")[0].split(" # ")[0])] for tool, rest in found if "..." not in rest]


COMMANDS = [(path.relative_to(ROOT).as_posix(), command) for path in PLACES for command in commands_of(path)]
LABELS = [f"{place}: {' '.join(command[:4])}" for place, command in COMMANDS]


def value_of(command: list[str], option: str, default: str = "") -> str:
    return command[command.index(option) + 1] if option in command else default


def overrides_of(command: list[str]) -> list[str]:
    """KEY VALUE pairs of a command."""
    return [
        word
        for key, value in itertools.pairwise(command)
        if re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*", key)
        for word in (key, value.replace("$seed", "1"))
    ]


def made_data_sets() -> set[str]:
    """Names that the commands with tools/prepare_data.py register."""
    names = set()
    for _, command in COMMANDS:
        if command[0] == "prepare_data" and "--out" in command:
            splits = ["train", "val", "test"]
            if "--split" in command:
                start = command.index("--split") + 1
                splits = [s for s, part in zip(splits, command[start : start + 3], strict=True) if float(part)]
            names |= {f"{Path(value_of(command, '--out')).name}_{split}" for split in splits}
    return names


def made_folders() -> set[str]:
    """Output folders of the configs and of the commands."""
    folders = {value_of(command, "OUTPUT_DIR") for _, command in COMMANDS}
    folders |= {value_of(command, "--output") for _, command in COMMANDS}
    for path in ROOT.glob("configs/**/*.yaml"):
        found = re.search(r'^OUTPUT_DIR: "\./(.*)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        folders |= {found[1]} if found else set()
    return {re.sub(r"\$\w+", "1", folder).strip("/") for folder in folders if folder.startswith("output/")}


def test_there_are_examples_of_every_tool_but_the_demo():
    tools = {path.stem for path in ROOT.glob("tools/*.py")}
    assert {command[0] for _, command in COMMANDS} | {"demo"} == tools


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=LABELS)
def test_arguments(load_tool, monkeypatch, capsys, place, command):
    tool = load_tool(command[0])

    def stop(*arguments, **options):
        raise Parsed

    def stop_after(parse):
        def parse_and_stop(self, *arguments, **options):
            parse(self, *arguments, **options)
            raise Parsed

        return parse_and_stop

    monkeypatch.chdir(ROOT)
    if command[0] == "search" and "--help" not in command:
        monkeypatch.setattr("mammo_d2.cli.training.search.search", stop)  # what is wrong with a search is found before
    else:
        for name in ("parse_args", "parse_intermixed_args"):
            monkeypatch.setattr(argparse.ArgumentParser, name, stop_after(getattr(argparse.ArgumentParser, name)))
    with pytest.raises((Parsed, SystemExit)) as end:
        tool.run(command[1:])
    assert isinstance(end.value, Parsed) or end.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=LABELS)
def test_names(place, command):
    for word in command:
        if word.startswith("configs/"):
            assert (ROOT / word).exists(), word
        if word.startswith(PREFIX):
            assert find_config(word)
        if word.startswith("output/"):
            whole = re.sub(r"\$\w+|\{seed\}", "1", word)
            assert any(whole == folder or whole.startswith(f"{folder}/") for folder in made_folders()), word
        for name in re.findall(r"\b[a-z]\w*_(?:train|val|test)\b", word.split("/")[-1]):
            assert name in made_data_sets(), name
    config = value_of(command, "--config-file")
    if command[0] not in TRAINING or not config.startswith(("configs/", PREFIX)):
        return
    cfg = load_config(config if config.startswith(PREFIX) else str(ROOT / config), overrides_of(command))
    build_job(cfg)
    if command[0] == "cross_validate":  # all of --dataset
        assert Path(value_of(command, "--dataset")).name + "_train" in made_data_sets()
        return
    used = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.MODEL.LESION.FINAL_TEST}
    assert cfg.DATASETS.TRAIN or cfg.JOB == "UntrainedJob"
    assert used <= made_data_sets()
