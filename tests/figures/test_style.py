"""Colours and embedding."""

import base64
import sys
from pathlib import Path

from monai_transfer.figures.style import (
    arm_colours,
    data_uri,
    label_colours,
    new_figure,
    png_bytes,
    save_figure,
    svg_bytes,
)


def test_label_colours_are_distinct_and_skip_background() -> None:
    colours = label_colours({0: "background", 1: "a", 3: "b", 7: "c"})
    assert list(colours) == [1, 3, 7]
    assert len(set(colours.values())) == 3


def test_a_label_keeps_its_colour_in_every_order_of_names() -> None:
    assert label_colours({3: "b", 1: "a"}) == label_colours({1: "a", 3: "b"})


def test_arms_have_their_own_colours() -> None:
    colours = arm_colours(["source-only", "adapted", "oracle", "dann", "coral"])
    assert len(set(colours.values())) == 5


def test_equal_figures_give_equal_bytes() -> None:
    figures = [new_figure(2, 1) for _ in range(2)]
    for figure in figures:
        figure.add_subplot().plot([1, 2])
    assert png_bytes(figures[0]) == png_bytes(figures[1])
    assert svg_bytes(figures[0]) == svg_bytes(figures[1])


def test_data_addresses_hold_the_picture() -> None:
    kind, _, content = data_uri(new_figure(1, 1), vector=False).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    kind, _, content = data_uri(new_figure(1, 1), vector=True).partition(",")
    assert b"<svg" in base64.b64decode(content)


def test_saved_by_the_name_of_the_file(tmp_path: Path) -> None:
    for name, start in {"a.png": b"\x89PNG", "b.svg": b"<?xml"}.items():
        save_figure(new_figure(1, 1), tmp_path / "figures" / name)
        assert (tmp_path / "figures" / name).read_bytes().startswith(start)


def test_no_global_figure_state() -> None:
    new_figure(1, 1)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
