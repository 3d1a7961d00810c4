"""``python -m monai_transfer`` is the ``monai-transfer`` command."""

from monai_transfer.cli.app import main

if __name__ == "__main__":
    main()
