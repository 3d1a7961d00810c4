"""``monai-transfer info``: versions, devices, cache folders."""

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption


def info(as_json: JsonOption = False) -> None:
    """Print versions, devices and cache folders: what a bug report needs.

    Example: monai-transfer info
    """
    from monai_transfer.bundle.trust import templates
    from monai_transfer.machine import hardware, versions
    from monai_transfer.weights import cache_folder

    facts = {
        "versions": versions(),
        "hardware": hardware(),
        "folders": {"weights": str(cache_folder()), "bundles": str(next(iter(templates().values())).parent)},
    }
    if as_json:
        console.emit_json(facts)
        return
    for heading, rows in facts.items():
        console.out.print(heading, style="bold")
        for name, value in rows.items():
            console.tell(f"  {name}: {value}")
