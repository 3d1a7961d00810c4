"""What the commands print: brackets in paths stay, and no line is broken."""

import pytest

from monai_transfer.cli import console

PATH = "/data/study [ct]/[/b]/" + "long/" * 40 + "report.html"


@pytest.mark.parametrize(
    "tell", [console.tell, lambda path: console.emit_result({}, [path], as_json=False)], ids=["tell", "emit_result"]
)
def test_results_go_to_standard_output_as_they_are(tell, capsys):
    tell(PATH)
    printed = capsys.readouterr()
    assert printed.out == PATH + "\n"
    assert printed.err == ""


@pytest.mark.parametrize(
    ("speak", "head"),
    [(console.error, "error: "), (console.note, "note: "), (console.say, ""), (console.say_section, "")],
    ids=["error", "note", "say", "say_section"],
)
def test_all_else_goes_to_standard_error_as_it_is(speak, head, capsys):
    speak(PATH)
    printed = capsys.readouterr()
    assert printed.err == f"{head}{PATH}\n"
    assert printed.out == ""
