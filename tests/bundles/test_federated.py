"""Bundles train under MONAI's ``MonaiAlgo``, and by NVFlare's simulator: two sites whose weights are averaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from torch import Tensor

from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.training import choose_cases, plan_training, prepare_bundle

DEPLOY = Path(__file__).parents[2] / "deploy" / "nvflare"
ROUNDS, STEPS = 2, 2


@pytest.fixture
def sites(tmp_path: Path) -> dict[str, Path]:
    """Two data sets, of which two and four cases are for training."""
    for name, subjects, seed in (("one", 3, 0), ("two", 5, 100)):
        write_phantoms(tmp_path / name, modality="ct", subjects=subjects, seed=seed, size=0.3)
    return {name: tmp_path / name for name in ("one", "two")}


@pytest.fixture
def bundle(sites: dict[str, Path], tmp_path: Path) -> Path:
    """A bundle of ``train`` on the first, with weights to begin with."""
    split = choose_cases(sites["one"])
    plan = plan_training(split, device="cpu", spacing=(16.0, 16.0, 16.0), steps=STEPS, seed=0, precision="float32")
    prepared = prepare_bundle(split, plan, tmp_path / "bundle")
    config = prepared.root / "configs" / "train.json"
    # undeformed: by rounding a voxel's label may fall to either side
    config.write_text(json.dumps({**json.loads(config.read_text()), "deformation": 0.0}))
    prepared.run("train", device=plan.device)
    return prepared.root


@pytest.mark.slow
def test_two_sites_train_one_network(sites: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    first, *rounds = _averages(sites, bundle, tmp_path)
    assert len(rounds) == ROUNDS
    for before, after in zip([first, *rounds], rounds, strict=False):
        assert any(not torch.equal(before[name], after[name]) for name in before)
        assert all(bool(tensor.isfinite().all()) for tensor in after.values())


@pytest.mark.slow
def test_nvflares_simulator_averages_by_the_number_of_cases(
    sites: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("nvflare")
    workspace = tmp_path / "simulated"
    named = [word for name, data in sites.items() for word in ("--site", f"{name}={data}")]
    command = [sys.executable, str(DEPLOY / "job.py"), "--bundle", str(bundle), *named, "--workspace", str(workspace)]
    numbers = ["--rounds", str(ROUNDS), "--steps", str(STEPS)]
    done = subprocess.run([*command, *numbers], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (file,) = workspace.rglob("FL_global_model.pt")
    simulated = torch.load(file, weights_only=True)["model"]
    expected = _averages(sites, bundle, tmp_path)[-1]
    assert simulated.keys() == expected.keys()
    for name, tensor in expected.items():
        # normalisation takes a convolution's bias away: its gradient is rounding, of which Adam makes whole steps
        least = 5e-3 if name.endswith("conv.bias") else 1e-6
        torch.testing.assert_close(simulated[name], tensor, rtol=1e-4, atol=least)


def _averages(sites: dict[str, Path], bundle: Path, folder: Path) -> list[dict[str, Tensor]]:
    """The weights before and after each round, averaged here: two thirds are those of the site with four cases."""
    clients = {}
    for name, data in sites.items():
        root = str(shutil.copytree(bundle, folder / f"bundle_{name}"))
        changes = {"bundle_root": root, "steps_per_epoch": STEPS, "lr_schedule#t_total": ROUNDS * STEPS}
        changes |= {"dataset_dir": str(data), "train_cases": [], "validation_cases": []}
        clients[name] = MonaiAlgo(root, send_weight_diff=False, config_evaluate_filename=None, train_kwargs=changes)
        clients[name].initialize({ExtraItems.CLIENT_NAME: name})
    averages = [dict(torch.load(bundle / "models" / "model.pt", weights_only=True))]
    for _ in range(ROUNDS):
        sent = {name: _trained(client, averages[-1]) for name, client in clients.items()}
        averages.append({name: (sent["one"][name] + 2 * sent["two"][name]) / 3 for name in averages[-1]})
    for client in clients.values():
        client.finalize()
    return averages


def _trained(client: MonaiAlgo, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    client.train(ExchangeObject(weights={name: tensor.clone() for name, tensor in weights.items()}))
    return {name: tensor.clone() for name, tensor in dict(client.get_weights().weights or {}).items()}
