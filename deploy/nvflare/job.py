"""A federated training by NVFlare: simulated on this machine, or written as a job to hand in.

Example: ``python job.py --bundle bundle --site one=/data/one --site two=/data/two --rounds 10 --workspace simulated``.
Every site has a copy of the bundle, ``bundle`` for the first and so on where only its data set is given; without
``--workspace`` the job is written to ``--export`` for ``nvflare job submit``.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import monai.networks.nets
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

SCRIPT = Path(__file__).with_name("site.py")


def main() -> None:
    """Simulate the job, or export it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="Bundle made by monai-transfer train.")
    parser.add_argument("--site", action="append", required=True, metavar="NAME=DATA", help="A site and its data set.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=25, help="Optimizer steps of each site per round.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workspace", type=Path, help="Simulate the job in this folder.")
    where.add_argument("--export", type=Path, help="Write the job into this folder; each site has BUNDLE at its path.")
    arguments = parser.parse_args()
    sites = dict(site.split("=", 1) for site in arguments.site)
    bundles = {name: arguments.bundle.resolve() for name in sites}
    if arguments.workspace:  # on one machine they must not write into one folder
        bundles = {name: arguments.workspace.resolve() / "bundles" / name for name in sites}
        for bundle in bundles.values():
            shutil.copytree(arguments.bundle, bundle)
    recipe = FedAvgRecipe(
        name="monai_transfer",
        model=_network(arguments.bundle),
        initial_ckpt=_weights(arguments.bundle),
        min_clients=len(sites),
        num_rounds=arguments.rounds,
        train_script=str(SCRIPT),
    )
    options = f"--steps {arguments.steps}"
    recipe.set_per_site_config(
        {name: {"train_args": f"--bundle {bundles[name]} --data {sites[name]} {options}"} for name in sites}
    )
    if arguments.workspace:
        recipe.execute(SimEnv(clients=list(sites), workspace_root=str(arguments.workspace.resolve())))
    else:
        recipe.export(str(arguments.export))


def _network(bundle: Path) -> dict[str, Any]:
    """The network of the bundle, as NVFlare asks for it."""
    definition = json.loads((bundle / "configs" / "inference.json").read_text())["network_def"]
    arguments = {name: value for name, value in definition.items() if name != "_target_"}
    target = definition["_target_"]
    return {"class_path": target if "." in target else f"{monai.networks.nets.__name__}.{target}", "args": arguments}


def _weights(bundle: Path) -> str | None:
    """What the rounds begin with, where the bundle is trained."""
    file = bundle.resolve() / "models" / "model.pt"
    return str(file) if file.is_file() else None


if __name__ == "__main__":
    main()
