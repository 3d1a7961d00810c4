import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from monai_transfer.bundle.reading import WindowSettings
from monai_transfer.errors import UserError
from monai_transfer.inference import StreamingInferer
from monai_transfer.inference.cores import on_all_cores, one_core, one_core_each
from monai_transfer.inference.resampling import Taps, linear_matrix
from monai_transfer.inference.restoration import GridMap, Restorer
from monai_transfer.inference.sinks import ArgmaxSink
from monai_transfer.inference.windows import RollingSlab, plan_windows, stream


def network(spatial_dims: int = 3) -> UNet:
    torch.manual_seed(0)
    return UNet(spatial_dims=spatial_dims, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,)).eval()


@pytest.mark.parametrize("shape", [(20, 17, 23), (5, 30, 9), (16, 16, 16), (40, 8, 8)])
@pytest.mark.parametrize(("mode", "overlap"), [("gaussian", 0.5), ("constant", 0.25), ("constant", 0.8)])
def test_equal_to_sliding_window_inferer(shape: tuple[int, ...], mode: str, overlap: float) -> None:
    volume = torch.rand(2, 1, *shape)
    settings = {"roi_size": (12, 8, 16), "sw_batch_size": 3, "overlap": overlap, "mode": mode}
    with torch.no_grad():
        expected = SlidingWindowInferer(**settings)(volume, network())
        ours = StreamingInferer(**settings)(volume, network())
        labels = StreamingInferer(**settings, output="labels")(volume, network())
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    assert labels.dtype == torch.uint8
    assert (labels[:, 0] == expected.argmax(dim=1)).float().mean() > 0.999


def test_equal_to_sliding_window_inferer_in_2d() -> None:
    image = torch.rand(1, 1, 33, 21)
    with torch.no_grad():
        expected = SlidingWindowInferer(roi_size=16, overlap=0.5)(image, network(2))
        ours = StreamingInferer(roi_size=16, overlap=0.5)(image, network(2))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_inferer_names_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match="Output 'probabilities'"):
        StreamingInferer(roi_size=8, output="probabilities")
    with pytest.raises(UserError, match="Precision 'half'"):
        StreamingInferer(roi_size=8, precision="half")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_of_the_axes_gives_the_same_sums(order: tuple[int, int, int]) -> None:
    volume = torch.rand(1, 15, 13, 11)
    plan = plan_windows(volume.shape[1:], WindowSettings((6, 6, 6), 0.4, "gaussian"), order=order)
    parts = [m for _, m in stream(volume, plan, lambda w: torch.cat([w, -w], dim=1), channels=2)]
    means = torch.cat(parts).permute(1, *((0, 2, 3)[order.index(a)] for a in range(3)))
    torch.testing.assert_close(means[:1], volume)
    torch.testing.assert_close(means[1:], -volume)


def test_the_slab_is_as_thick_as_one_window() -> None:
    plan = plan_windows((400, 30, 20), WindowSettings((16, 16, 16), 0.5))
    assert RollingSlab(plan, 5, device="cpu").sums.shape == (16, 5, 30, 20)


def test_windows_that_are_not_wanted_count_as_background() -> None:
    volume = torch.rand(1, 24, 8, 8)
    plan = plan_windows((24, 8, 8), WindowSettings((8, 8, 8), 0.0), order=(0, 1, 2))
    seen = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        return torch.cat([-torch.ones_like(windows), torch.ones_like(windows)], dim=1)

    parts = stream(volume, plan, predict, channels=2, wanted=lambda start: start[0] == 8)
    labels = torch.cat([m.argmax(dim=1) for _, m in parts])
    assert sum(seen) == 1
    assert (labels[8:16] == 1).all()
    assert (labels[:8] == 0).all()
    assert (labels[16:] == 0).all()


def test_no_window_is_left_alone_in_a_batch() -> None:
    sizes = []

    def predict(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        return windows

    plan = plan_windows((8, 8, 16), WindowSettings((8, 8, 8), 0.5), order=(0, 1, 2))
    list(stream(torch.rand(1, 8, 8, 16), plan, predict, channels=1, batch=lambda: 2))
    assert sizes == [3]


def test_a_network_that_changes_its_input_leaves_the_volume() -> None:
    image = torch.rand(1, 8, 8, 8)
    before, plan = image.clone(), plan_windows((8, 8, 8), WindowSettings((8, 8, 8), 0.5))
    list(stream(image, plan, lambda windows: windows.relu_().sub_(0.5), channels=1))
    assert torch.equal(image, before)


def test_the_network_has_all_cores_and_the_rest_has_one() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_core(torch.device("cpu")):
            assert torch.get_num_threads() == 1
            assert on_all_cores(torch.get_num_threads) == 3
        assert torch.get_num_threads() == 3
        assert on_all_cores(torch.get_num_threads) == 3
        with one_core(torch.device("cuda")):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_leaving_out_what_cannot_matter_changes_nothing(chunk: int) -> None:
    """Labels by the floor of 1 / classes, against a dense interpolation and argmax."""
    generator = torch.Generator().manual_seed(chunk)
    logits = torch.randn(14, 6, 13, 12, generator=generator)
    logits[:, 0] += 3
    logits[5:8, 3, 4:7, 5:9] += 12
    probabilities = logits.softmax(dim=1)
    taps = tuple(
        Taps.from_matrix(linear_matrix(n, m, s, o, mode="bilinear", padding=p))
        for n, m, s, o, p in (
            (29, 14, 0.5, -0.3, "border"),
            (110, 13, -0.11, 11.9, "zeros"),
            (31, 12, 0.4, 0.1, "border"),
        )
    )
    sink = ArgmaxSink((29, 110, 31), 6)
    restorer = Restorer(GridMap((0, 1, 2), taps), order=(0, 1, 2), sink=sink, floor=1 / 6, wanted=range(1, 6))
    for first in range(0, 14, chunk):
        restorer.feed(first, probabilities[first : first + chunk])
    dense = torch.einsum("acrs,xa,yr,zs->cxyz", probabilities, *(t.dense() for t in taps))
    np.testing.assert_array_equal(sink.result.numpy(), dense.argmax(dim=0).numpy())


def test_inferer_in_a_bundle(make_bundle, ct: Path) -> None:  # type: ignore[no-untyped-def]
    import json

    from monai.bundle import ConfigParser

    root = make_bundle()
    config = json.loads((root / "configs" / "inference.json").read_text())
    config["inferer"]["_target_"] = "monai_transfer.inference.StreamingInferer"
    assert isinstance(ConfigParser(config).get_parsed_content("inferer"), StreamingInferer)


def test_parts_are_spread_over_threads_of_one_core_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meet = threading.Barrier(2, timeout=30)  # passed only where two calls run at once

    def look(part: int) -> tuple[int, int, bool]:
        meet.wait()
        return part, torch.get_num_threads(), torch.is_inference_mode_enabled()

    try:
        with one_core(torch.device("cpu")), torch.inference_mode():
            assert one_core_each(look, range(4)) == [(part, 1, True) for part in range(4)]
            assert one_core_each(lambda part: threading.current_thread(), [0]) == [threading.current_thread()]
            assert one_core_each(lambda part: one_core_each(lambda inner: part + inner, [10, 20]), [1, 2]) == [
                [11, 21],
                [12, 22],
            ]
        assert one_core_each(lambda part: threading.current_thread(), [0, 1]) == [threading.current_thread()] * 2
        with one_core(torch.device("cpu")), pytest.raises(ZeroDivisionError):
            one_core_each(lambda part: 1 // part, [1, 0, 2])
    finally:
        torch.set_num_threads(before)
