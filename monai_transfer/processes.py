"""Several processes that train one network together: one for each GPU, on one machine or more, started by ``torchrun``.

Every process has a copy of the network and draws a share of each step's cases. One step of two processes with ``k``
cases each is the step of one process with ``2 k`` cases:

- gradients are averaged before the optimizer's step (:func:`average_gradients`), so that the copies stay equal;
- whatever a loss counts over the whole batch, the voxels of a class for its Dice, is counted over the batches of all
  processes (:func:`sum_over_processes`, :func:`gather_over_processes`).

A loss may be asked outside of a training too, by one process alone, and would then wait for the others for ever. So the
second kind does something inside of :func:`common_step` only, which is the trainer's; elsewhere a sum is what it is.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from monai_transfer.errors import UserError
from monai_transfer.machine import launched

T = TypeVar("T")

_common_step = False
_groups = 0


def world_size() -> int:
    """How many processes train together at this moment."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them; the first one writes the files."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def join_processes() -> None:
    """Begin to train together, where a launcher started several processes; NCCL connects GPUs, gloo all others."""
    global _groups
    if launched() == 1 or dist.is_initialized():
        return
    _groups += 1
    store, number, size = meeting_place()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device("cuda"))
    # a name of its own for each training: what the processes of the one before left there would be taken for new
    dist.init_process_group(backend, store=PrefixStore(f"group/{_groups}", store), rank=number, world_size=size)
    idist.sync()


def leave_processes() -> None:
    """End to train together; what follows is done by each process for itself."""
    if dist.is_available() and dist.is_initialized():
        idist.finalize()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def wait_for_the_others() -> None:
    """Let all processes end together, for ``torchrun`` stops them all when one ends with a fault to report."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(days=7))
    dist.barrier()


@cache
def meeting_place() -> tuple[Any, int, int]:
    """The launcher's store, this process's number, and how many there are."""
    store, number, size = next(iter(rendezvous("env://")))
    return store, number, size


def own_device(kind: str = "") -> torch.device:
    """The device of this process: its own GPU among those of its machine, or the CPU.

    Args:
        kind: ``"cpu"`` or ``"cuda"``; a GPU where there is one by default.
    """
    if kind == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def own_share(items: list[T]) -> list[T]:
    """The cases that this process validates: one of every so many, or all where there are fewer cases than processes.

    Example:
        >>> own_share(["a", "b", "c"])
        ['a', 'b', 'c']
    """
    return items[rank() :: world_size()] if len(items) >= world_size() else items


@contextmanager
def common_step() -> Iterator[None]:
    """Inside, the losses count over the batches of all processes."""
    global _common_step
    before, _common_step = _common_step, world_size() > 1
    try:
        yield
    finally:
        _common_step = before


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of a tensor of the same shape over all processes, inside of :func:`common_step`; else the tensor.

    What is made of it has to be the same in every process; its gradient is then that of the mean loss of the processes.

    Example:
        >>> sum_over_processes(torch.ones(2))
        tensor([1., 1.])
    """
    return _Sum.apply(tensor) if _common_step else tensor  # type: ignore[no-any-return, no-untyped-call]


def mean_over_processes(tensor: Tensor) -> Tensor:
    """The mean in place of :func:`sum_over_processes`."""
    return sum_over_processes(tensor) / world_size() if _common_step else tensor


def gather_over_processes(tensor: Tensor) -> Tensor:
    """The rows ``(n, ...)`` of all processes, which have equally many, one below the other; gradients as for the sum.

    Example:
        >>> gather_over_processes(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    return _Gather.apply(tensor) if _common_step else tensor  # type: ignore[no-any-return, no-untyped-call]


def any_process(answer: bool) -> bool:
    """Whether the answer is yes in one of the processes that train together; the same in all of them."""
    if world_size() == 1:
        return answer
    flag = torch.tensor(float(answer))
    _together(lambda: dist.all_reduce(flag, dist.ReduceOp.MAX))
    return bool(flag)


def states_of_processes(state: Any) -> list[Any]:
    """The state of each process, by rank: tensors, numbers, texts, and lists and dictionaries of them."""
    if world_size() == 1:
        return [state]
    file = io.BytesIO()
    torch.save(state, file)
    mine = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    lengths = _of_all(torch.tensor([len(mine)]))
    # all send equally much: what is too short is filled up
    longest = max(int(length) for length in lengths)
    sent = _of_all(torch.cat([mine, mine.new_zeros(longest - len(mine))]))
    files = [io.BytesIO(part[: int(length)].numpy().tobytes()) for part, length in zip(sent, lengths, strict=True)]
    return [torch.load(each, weights_only=True) for each in files]


def average_figures(figures: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by name, averaged over the processes."""
    if world_size() == 1 or not figures:
        return figures
    names = sorted(figures)
    values = torch.stack([figures[name].cpu().float() for name in names])
    _together(lambda: dist.all_reduce(values))
    return dict(zip(names, values / world_size(), strict=True))


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], buffers: Iterable[Tensor] = ()) -> None:
    """Give every process the mean of all gradients, and of running statistics of normalisation layers.

    Args:
        parameters: of the optimizer; one that has a gradient in some process gets one in all.
        buffers: of the network; those of whole numbers stay.
    """
    size = world_size()
    if size == 1:
        return
    known = [parameter for parameter in parameters if parameter.requires_grad]
    has = torch.tensor([float(parameter.grad is not None) for parameter in known])
    _together(lambda: dist.all_reduce(has, dist.ReduceOp.MAX))
    for parameter, some in zip(known, has.tolist(), strict=True):
        if some and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    tensors = [parameter.grad for parameter in known if parameter.grad is not None]
    tensors += [buffer for buffer in buffers if buffer.is_floating_point()]
    # one message in place of hundreds: each has a delay of its own
    for same in _by_type(tensors):
        flat = torch.cat([tensor.flatten() for tensor in same])
        _together(lambda flat=flat: dist.all_reduce(flat))  # type: ignore[misc]
        parts = torch.split(flat / size, [tensor.numel() for tensor in same])
        for tensor, part in zip(same, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def require_joined() -> None:
    """See that processes that were started together also train together.

    Raises:
        UserError: they would each train the whole network and write over each other.
    """
    if launched() > world_size():
        raise UserError(
            f"{launched()} processes were started, and this training is not distributed: add "
            "configs/multi_gpu_train.json as the last of --config_file, or start it without torchrun."
        )


@torch.no_grad()
def require_alike(modules: Iterable[nn.Module]) -> None:
    """See that the modules have the same weights in every process.

    Raises:
        UserError: they have not; averaged gradients would then train neither.
    """
    if world_size() == 1:
        return
    tensors = [tensor for module in modules for tensor in module.state_dict().values() if tensor.is_floating_point()]
    sums = torch.stack([tensor.double().abs().sum() for tensor in tensors]).nan_to_num().cpu()
    least, most = sums.clone(), sums.clone()
    _together(lambda: dist.all_reduce(least, dist.ReduceOp.MIN))
    _together(lambda: dist.all_reduce(most, dist.ReduceOp.MAX))
    if not torch.equal(least, most):
        raise UserError("The processes began with different weights: give all of them the same files and seed.")


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        _together(lambda: dist.all_reduce(total))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # every process makes the same of the sum, and the mean of the gradients takes this factor back
        return gradient * world_size()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        return torch.cat(_of_all(tensor.detach().contiguous()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[rank() * ctx.rows : (rank() + 1) * ctx.rows] * world_size()


def _of_all(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    _together(lambda: dist.all_gather(parts, tensor))
    return parts


def _together(exchange: Callable[[], Any]) -> None:
    """Exchange something with the other processes.

    Raises:
        UserError: one of them has ended.
    """
    try:
        exchange()
    except RuntimeError as error:
        raise UserError(
            "Another process of this training ended: its own message says why; start all of them again with --resume."
        ) from error


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(kinds.values())
