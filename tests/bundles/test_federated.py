"""A bundle trains under MONAI's ``MonaiAlgo``: two sites with data of their own, whose weights are averaged."""

from pathlib import Path

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from monai_transfer.phantoms import write_phantoms
from monai_transfer.workflows.training import choose_cases, plan_training, prepare_bundle


@pytest.mark.slow
def test_two_sites_train_one_network(tmp_path: Path) -> None:
    sites = {}
    for name, seed in (("one", 0), ("two", 100)):
        write_phantoms(tmp_path / name, modality="ct", subjects=3, seed=seed, size=0.3)
        split = choose_cases(tmp_path / name)
        plan = plan_training(split, device="cpu", spacing=(16.0, 16.0, 16.0), steps=4, seed=0)
        root = prepare_bundle(split, plan, tmp_path / f"bundle_{name}").root
        sites[name] = MonaiAlgo(
            str(root),
            local_epochs=1,
            send_weight_diff=False,
            config_evaluate_filename=None,
            train_kwargs={"bundle_root": str(root), "steps_per_epoch": 2},
        )
        sites[name].initialize({ExtraItems.CLIENT_NAME: name})
    shared = {key: torch.as_tensor(value) for key, value in _weights(sites["one"]).items()}
    for number in range(2):
        trained = []
        for site in sites.values():
            site.train(ExchangeObject(weights={key: value.numpy() for key, value in shared.items()}))
            assert site.trainer is not None
            assert site.trainer.state.epoch == number + 1
            trained.append(_weights(site))
        # each learnt from its own cases
        assert any(
            not torch.equal(torch.as_tensor(trained[0][key]), torch.as_tensor(trained[1][key])) for key in shared
        )
        before = shared
        shared = {key: sum(torch.as_tensor(each[key]).float() for each in trained) / 2 for key in shared}
        assert any(not torch.equal(before[key].float(), shared[key]) for key in shared)
        assert all(bool(tensor.isfinite().all()) for tensor in shared.values())
    for site in sites.values():
        site.finalize()


def _weights(site: MonaiAlgo) -> dict[str, torch.Tensor]:
    weights = site.get_weights().weights
    assert weights
    return dict(weights)
