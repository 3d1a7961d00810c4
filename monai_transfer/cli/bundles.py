"""``monai-transfer bundles``: the bundles that come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from monai_transfer.cli import console
from monai_transfer.cli.options import JsonOption, OverwriteOption

bundles = typer.Typer(help="The bundles that come with the package.", no_args_is_help=True)


@bundles.command("list")
def list_bundles(as_json: JsonOption = False) -> None:
    """List the bundles and where they lie.

    Example: monai-transfer bundles list
    """
    from monai_transfer.bundle.folder import BundleFolder
    from monai_transfer.bundle.trust import templates

    found = [
        {"name": name, "description": BundleFolder(folder).read("metadata")["description"], "folder": str(folder)}
        for name, folder in templates().items()
    ]
    if as_json:
        console.emit_json(found)
        return
    for bundle in found:
        console.tell(f"{bundle['name']}  {bundle['description']}", f"    {bundle['folder']}")


@bundles.command("copy")
def copy_bundle(
    name: Annotated[str, typer.Argument(help="Name of the bundle, or the folder of a trained one.")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Copy a bundle, to change it and run it with ``python -m monai.bundle``, or to hand it on.

    A trained bundle is copied with its weights and without the folders and the case names of its maker, which its
    training configurations hold.

    Example: monai-transfer bundles copy domain_adaptation my_bundle
    """
    from monai_transfer.bundle.folder import BundleFolder
    from monai_transfer.bundle.handing_on import hand_on

    trained = (Path(name).expanduser() / "configs").is_dir()
    copy = (
        hand_on(name, folder, overwrite=overwrite)
        if trained
        else BundleFolder.create(name, folder, overwrite=overwrite)
    )
    console.tell(str(copy.root))
