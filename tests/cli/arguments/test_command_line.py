import pytest

from mammo_d2.cli.arguments.command_line import make_parser, run_tool


def run(main, argv=()):
    with pytest.raises(SystemExit) as caught:
        run_tool(main, list(argv))
    return caught.value.code


def raising(error):
    def main(argv):
        raise error

    return main


def test_exit_codes_of_main():
    assert run(lambda argv: None) == 0
    assert run(lambda argv: 1) == 1


def test_arguments_without_the_traceback_flag():
    seen = []
    assert run(lambda argv: seen.extend(argv), ["a", "--traceback", "b"]) == 0
    assert seen == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("a.json: broken; repair it"), "error: a.json: broken; repair it\n"),
        (FileNotFoundError("x.png: no such image file"), "error: x.png: no such image file\n"),
        (FileNotFoundError(2, "No such file or directory", "y.png"), "error: y.png: No such file or directory\n"),
        (KeyError("Non-existent config key: MODEL.X"), "error: Non-existent config key: MODEL.X\n"),
        (KeyError("width"), "error: KeyError: 'width'\n"),
        (ValueError(), "error: ValueError\n"),
    ],
)
def test_bad_input_is_one_line_and_code_2(capsys, monkeypatch, error, message):
    monkeypatch.delenv("MAMMO_D2_TRACEBACK", raising=False)
    assert run(raising(error)) == 2
    assert capsys.readouterr().err == message


def test_traceback_on_request(capsys, monkeypatch):
    assert run(raising(ValueError("bad")), ["--traceback"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: bad\n")
    monkeypatch.setenv("MAMMO_D2_TRACEBACK", "1")
    run(raising(ValueError("bad")))
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_mistake_of_the_program_shows_where(capsys):
    assert run(raising(TypeError("oops"))) == 70
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: unexpected TypeError: oops (a bug in mammo_d2)\n")


def test_interrupt(capsys):
    assert run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_argument_errors_leave_with_code_2(capsys):
    parser = make_parser("What it does.", "tool")
    parser.add_argument("--number", type=int, default=3, help="a number")
    with pytest.raises(SystemExit) as caught:
        run_tool(lambda argv: print(parser.parse_args(argv)), ["--number", "x"])
    assert caught.value.code == 2
    assert "invalid int value" in capsys.readouterr().err
    assert "(default: 3)" in parser.format_help()
    assert "--traceback" in parser.format_help()
