"""Parts of the training loop that keep a GPU busy: batches that are moved ahead, and graphs of whole steps.

On a CPU they do nothing: batches are taken as they come, and steps run as they are written.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from modeling.network.convlstm import default_precision

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...]
Losses = dict[str, Tensor]

# Steps before a graph is recorded: libraries choose algorithms and kernels are compiled in the first.
WARM_UP = 3
READ_EVERY = 32


def runs_in_half(bf16: bool | Literal["auto"], device: torch.device) -> bool:
    """Whether to train in bfloat16; `auto` does so on GPUs with matrix units for it, and never on a CPU."""
    if bf16 == "auto":
        return device.type == "cuda" and default_precision(device) == torch.bfloat16
    if bf16 and device.type == "cpu" and default_precision(device) != torch.bfloat16:
        logger.warning("train.bf16: this processor has no matrix units for bfloat16; float32 is several times faster")
    return bf16


def steps_read_at_once(device: torch.device) -> int:
    """Steps whose losses are read at once: reading waits for the device, which then has nothing to do."""
    return READ_EVERY if device.type == "cuda" else 1


def ahead(batches: Iterator[tuple[Tensors, float]], device: torch.device) -> Iterator[tuple[Tensors, float]]:
    """The same batches; on a GPU each is copied and prepared on a stream of its own while the one before is in use.

    Args:
        batches: moves a batch to the device as it is asked for it: tensors and the weight of their mean loss.
        device: of the tensors.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    while True:
        # After the work of the step before has been given to the GPU, which runs beside this.
        with torch.cuda.stream(stream):
            batch = next(batches, None)
            done = stream.record_event()
        if batch is None:
            return
        current = torch.cuda.current_stream(device)
        current.wait_event(done)
        for tensor in batch[0]:
            tensor.record_stream(current)  # or its memory would be given to the next batch while this one is in use
        yield batch


class Step:
    """Forward and backward pass; on a GPU a graph of them for the largest batches: an epoch's last may be smaller.

    The learning rate changes from step to step, so the optimizer's step, which is one launch, stays outside.
    """

    def __init__(self, run: Callable[[Tensors], Losses], parameters: Sequence[nn.Parameter], *, graph: bool) -> None:
        """Makes the step; the first ones run as `run` does.

        Args:
            run: leaves new gradients in the parameters and returns losses [B], without waiting for the device.
            parameters: of the model.
            graph: whether to record a graph.
        """
        self.run = run
        self.parameters = parameters
        self.to_record = WARM_UP if graph else None
        self.largest = 0  # galaxies of a batch, up to now
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Tensors = ()
        self.losses: Losses = {}
        self.grads: list[Tensor | None] = []

    def __call__(self, tensors: Tensors) -> Losses:
        """Losses of a batch; gradients are left in the parameters."""
        if self._is_warm_for(tensors):
            self._record(tensors)
        if self.graph is None or not _alike(tensors, self.inputs):
            return self.run(tensors)
        for ours, theirs in zip(self.inputs, tensors, strict=True):
            ours.copy_(theirs)
        self.graph.replay()
        for parameter, grad in zip(self.parameters, self.grads, strict=True):
            parameter.grad = grad  # a step outside the graph may have put another in its place
        return {name: values.clone() for name, values in self.losses.items()}

    def _is_warm_for(self, tensors: Tensors) -> bool:
        """Whether to record a graph now: there is none, and `WARM_UP` batches as large as this one came before."""
        number = len(tensors[0])
        if self.to_record is None or number < self.largest:
            return False
        if number > self.largest:
            self.largest, self.to_record = number, WARM_UP
        self.to_record -= 1
        return self.to_record < 0

    def _record(self, tensors: Tensors) -> None:
        self.to_record = None
        inputs, graph = tuple(tensor.clone() for tensor in tensors), torch.cuda.CUDAGraph()
        try:
            # Other threads may go on: the loader's takes page-locked memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                losses = self.run(inputs)
        except RuntimeError as error:
            logger.info("steps run without a CUDA graph, which could not be recorded: %s", error)
            return
        self.graph, self.inputs, self.losses = graph, inputs, losses
        self.grads = [parameter.grad for parameter in self.parameters]


def _alike(these: Tensors, those: Tensors) -> bool:
    return len(these) == len(those) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(these, those, strict=True)
    )
