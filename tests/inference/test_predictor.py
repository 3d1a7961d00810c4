import pytest
import torch
from torch import nn

from monai_transfer.inference.predictor import Predictor, first_tensor, is_out_of_memory
from monai_transfer.inference.segmenter import Segmenter, SegmentOptions

CPU = torch.device("cpu")


class Limited(nn.Module):
    """Has memory for so many windows only."""

    def __init__(self, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.sizes: list[int] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(windows))
        if len(windows) > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory")
        return windows * 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_batch(error: type[Exception]) -> None:
    network = Limited(2, error)
    predictor = Predictor([network], device=CPU, batch=8)
    windows = torch.rand(8, 1, 4, 4, 4)
    torch.testing.assert_close(predictor(windows), windows * 2)
    assert predictor.batch == 2
    assert network.sizes[:3] == [8, 4, 2]


def test_not_even_one_window_fits() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Predictor([Limited(0)], device=CPU)(torch.rand(4, 1, 4, 4, 4))


def test_other_errors_are_passed_on() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="channels"):
        Predictor([nn.Conv3d(2, 1, 1)], device=CPU)(torch.rand(4, 1, 4, 4, 4))


def test_mirroring_is_the_mean_over_all_flips() -> None:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 3, padding=1).eval()
    windows = torch.rand(2, 1, 5, 6, 7)
    with torch.no_grad():
        expected = torch.stack(
            [network(windows.flip(d) if d else windows).flip(d) for d in ([], [2], [4], [2, 4])]
        ).mean(dim=0)
    ours = Predictor([network], device=CPU, mirror_axes=(0, 2))(windows)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_members_follow_one_another_along_the_channels() -> None:
    windows = torch.rand(1, 1, 4, 4, 4)
    ours = Predictor([Limited(9), nn.Identity()], device=CPU)(windows)
    torch.testing.assert_close(ours, torch.cat([windows * 2, windows], dim=1))


def test_compiled_networks_see_full_batches() -> None:
    network = Limited(9)
    predictor = Predictor([network], device=CPU, batch=4)
    predictor.full_batches = True
    windows = torch.rand(3, 1, 4, 4, 4)
    torch.testing.assert_close(predictor(windows), windows * 2)
    assert network.sizes == [4]


def test_first_tensor() -> None:
    tensor = torch.zeros(1)
    assert first_tensor(tensor) is tensor
    assert first_tensor([tensor, None]) is tensor
    assert first_tensor({"out": tensor}) is tensor


def test_a_case_survives_running_out_of_memory(bundle, ct) -> None:  # type: ignore[no-untyped-def]
    options = SegmentOptions(skip_empty=False, batch=6)
    segmenter = Segmenter.from_bundle(bundle, device="cpu", options=options)
    expected = segmenter.segment(ct).labels
    original, inner = segmenter.predictor.networks[0], Limited(2)
    segmenter.predictor.networks[0] = nn.Sequential(inner, original)
    inner.forward = lambda w: w if len(w) <= 2 else Limited(2)(w)  # type: ignore[method-assign]
    assert (segmenter.segment(ct).labels == expected).all()
    assert segmenter.predictor.batch <= 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(bundle, ct) -> None:  # type: ignore[no-untyped-def]
    exact = SegmentOptions(skip_empty=False)
    expected = Segmenter.from_bundle(bundle, device="cpu", options=exact).segment(ct).labels
    # convolutions in float32 run in TF32 on newer cards unless told otherwise: an H200 gave 0.99986
    for precision, least in (("float32", 0.9995), ("float16", 0.99), ("bfloat16", 0.99)):
        options = SegmentOptions(skip_empty=False, precision=precision)
        ours = Segmenter.from_bundle(bundle, device="cuda", options=options).segment(ct).labels
        assert (ours == expected).mean() >= least
