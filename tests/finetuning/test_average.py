from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_transfer.errors import UserError
from monai_transfer.finetuning import AverageWithStart


def test_what_was_loaded_goes_back_once_and_all_else_stays() -> None:
    average = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    start = {name: value.clone() for name, value in average.state_dict().items()}

    def learn(engine: Engine, batch: int) -> None:
        for value in average.state_dict().values():
            value.add_(1)

    trainer = Engine(learn)
    loaded = [name for name in start if not name.startswith("2.")]
    AverageWithStart(average, SimpleNamespace(loaded_names=loaded), share=0.25).attach(trainer)  # type: ignore[arg-type]
    trainer.run([0, 1], max_epochs=2)
    for name, value in average.state_dict().items():
        # a count of batches is no weight
        steps = 3 if name in loaded and value.is_floating_point() else 4
        torch.testing.assert_close(value, start[name] + steps)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="share"):
        AverageWithStart(nn.Linear(1, 1), SimpleNamespace(loaded_names=[]), share=1.5)  # type: ignore[arg-type]
