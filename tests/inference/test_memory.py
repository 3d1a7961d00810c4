"""What is let go of while a volume is segmented, and that the labels do not change by it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from monai_transfer.inference import Segmenter, SegmentOptions
from monai_transfer.inference.cores import OneDnnConvolutions
from monai_transfer.inference.mapped import let_pages_go, move_weights_to_disk
from monai_transfer.inference.predictor import Predictor, batch_for_cpu
from monai_transfer.volumes.reading import read_volume, write_volume

CPU = torch.device("cpu")


def _resident_mb(folder: Path) -> float:
    """Megabytes of the files of a folder that are in this process's memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counts = str(folder) in line
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total / 1024


def test_voxels_are_let_go_unless_they_are_kept(bundle, ct, tmp_path) -> None:  # type: ignore[no-untyped-def]
    segmenter = Segmenter.from_bundle(bundle, device="cpu", options=SegmentOptions(skip_empty=False))
    kept, gone = read_volume(ct), read_volume(ct)
    expected, found = segmenter.segment(kept), segmenter.segment(gone, keep_voxels=False)
    assert (found.labels == expected.labels).all()
    assert found.volumes_ml == expected.volumes_ml
    assert np.isfinite(kept.array).all()
    assert np.isnan(gone.array).all()
    assert gone.shape == kept.shape
    assert gone.array.strides == (0,) * 4  # one number that stands for all
    write_volume(found.labels, tmp_path / "labels.nii.gz", like=gone)
    written = read_volume(tmp_path / "labels.nii.gz")
    assert (written.array[0] == expected.labels).all()
    assert np.array_equal(written.affine, kept.affine)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_weights_on_the_disk_stay_what_they_were(tmp_path: Path, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 96, 3), nn.BatchNorm3d(96), nn.Conv3d(96, 160, 3), nn.Conv3d(160, 2, 1))
    network = network.to(memory_format=layout).eval()  # type: ignore[call-overload]
    window = torch.rand(1, 1, 9, 9, 9)
    before, strides = copy.deepcopy(network.state_dict()), network[2].weight.stride()
    with torch.inference_mode():
        expected = network(window)
        move_weights_to_disk([network, network], tmp_path)
        found = network(window)
    assert torch.equal(found, expected)
    assert network[2].weight.stride() == strides
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert list(tmp_path.iterdir()) == []  # the file has no name


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="tells what is resident on Linux")
def test_pages_are_let_go_and_come_back(tmp_path: Path) -> None:
    np.arange(1 << 20, dtype=np.float32).tofile(tmp_path / "weights.bin")
    mapped = np.memmap(tmp_path / "weights.bin", np.float32, "r")
    total = float(mapped.sum())
    assert _resident_mb(tmp_path) > 3.9
    let_pages_go(tmp_path)
    assert _resident_mb(tmp_path) < 0.1
    assert float(mapped.sum()) == total


def test_a_folder_that_cannot_be_written_leaves_weights_in_memory(tmp_path: Path) -> None:
    network = nn.Linear(512, 1024)
    place = network.weight.data_ptr()
    move_weights_to_disk([network], tmp_path / "absent")
    assert network.weight.data_ptr() == place


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "bias": False}, {"dilation": 2}, {"padding": "same"}])
def test_convolutions_of_one_window_are_those_of_two(groups: int, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 6, 3, groups=groups, **{"padding": 1, **options}).eval()  # type: ignore[arg-type]
    window = torch.rand(1, 4, 6, 7, 8)
    with torch.inference_mode():
        expected = layer(torch.cat([window, window]))[:1]
        with OneDnnConvolutions():
            found = layer(window)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_other_convolutions_are_left_alone() -> None:
    with OneDnnConvolutions(), torch.inference_mode():
        assert nn.Conv3d(1, 2, 1)(torch.rand(1, 1, 4, 4, 4)).shape == (1, 2, 4, 4, 4)
        assert nn.Conv3d(1, 2, 3).double()(torch.rand(1, 1, 4, 4, 4).double()).dtype == torch.float64
        assert nn.Conv2d(1, 2, 3)(torch.rand(1, 1, 4, 4)).shape == (1, 2, 2, 2)


def test_small_windows_go_by_two_and_large_ones_alone() -> None:
    chosen, low = Predictor([nn.Identity()], device=CPU), Predictor([nn.Identity()], device=CPU, precision="bfloat16")
    small, large = torch.zeros(1, 1, 64, 64, 64), torch.zeros(1, 1, 96, 96, 96)
    assert [batch_for_cpu(chosen, window, classes=5) for window in (small, large)] == [2, 1]
    assert batch_for_cpu(chosen, small, classes=200) == 1
    assert batch_for_cpu(low, small, classes=5) == 1
