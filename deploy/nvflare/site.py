"""What a site runs in a federated training by NVFlare: MONAI's ``MonaiAlgo`` on a bundle of ``monai-transfer train``.

The network travels, and the number of training cases by which the server weights it; images, labels, optimizer and the
loss's class frequencies stay. NVFlare starts it; its arguments are those of the site in ``job.py``.
"""

import argparse
from pathlib import Path

import nvflare.client as flare
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject


def main() -> None:
    """Train in each round from the server's weights, and send what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="Bundle of this site, which it writes into.")
    parser.add_argument("--data", default="", help="Data set of this site; the bundle's own by default.")
    parser.add_argument("--steps", type=int, default=25, help="Optimizer steps per round.")
    arguments = parser.parse_args()
    flare.init()
    site = None
    while flare.is_running():
        received = flare.receive()
        if site is None:
            site = _site(arguments, rounds=received.total_rounds)
        site.train(ExchangeObject(weights=received.params))
        cases = len(site.train_workflow.train_dataset_data)
        # by this name NVFlare's server weights its average
        flare.send(flare.FLModel(params=site.get_weights().weights, meta={"NUM_STEPS_CURRENT_ROUND": cases}))
    if site is not None:
        site.finalize()


def _site(arguments: argparse.Namespace, *, rounds: int) -> MonaiAlgo:
    bundle = str(arguments.bundle)
    changes = {"bundle_root": bundle, "steps_per_epoch": arguments.steps}
    changes["lr_schedule#t_total"] = rounds * arguments.steps  # else it would end with the first round
    if arguments.data:  # the names of the cases in the bundle are those of its own data
        changes |= {"dataset_dir": arguments.data, "train_cases": [], "validation_cases": []}
    site = MonaiAlgo(bundle, send_weight_diff=False, config_evaluate_filename=None, train_kwargs=changes)
    site.initialize({ExtraItems.CLIENT_NAME: flare.get_site_name()})
    return site


if __name__ == "__main__":
    main()
