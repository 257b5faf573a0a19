"""One step of training: forward, backward, SGD, mask, sum of losses; also as one CUDA graph.

The training loop decides when a step is taken, and at which rate.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.sgd import sgd

from maskalign import distributed

# Steps before a graph is recorded. In the first ones cuDNN and the compiler set themselves up,
# which a recording does not allow.
WARM_UP = 3

Take = Callable[[Tensor, Tensor, float | Tensor], None]
Replay = Callable[[], None]


class Step:
    """Change the weights by one batch.

    Everything that a step changes is changed in place: weights, buffers, momentum and the sum of
    losses stay the tensors that they were, which a graph depends on.

    Args:
        network: called with images [B, C, H, W], returns logits [B, classes].
        weights: the parameters of the network.
        momentum: one buffer per parameter, or None without momentum.
        masked, masks: some of the parameters, and for each what it is multiplied by after the step.
        total: scalar, float64: the mean loss of the batch is added.
        momentum_factor, weight_decay: of SGD.
        bfloat16: whether forward and backward passes are in bfloat16.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        weights: Sequence[Tensor],
        momentum: Sequence[Tensor | None],
        masked: Sequence[Tensor],
        masks: Sequence[Tensor],
        total: Tensor,
        momentum_factor: float,
        weight_decay: float,
        bfloat16: bool = False,
    ):
        self.network, self.weights, self.momentum = network, list(weights), list(momentum)
        self.masked, self.masks, self.total = list(masked), list(masks), total
        self.momentum_factor, self.weight_decay = momentum_factor, weight_decay
        self.bfloat16 = bfloat16

    def __call__(self, x: Tensor, y: Tensor, rate: float | Tensor) -> None:
        """Take the step.

        Args:
            x: images, float32 [B, C, H, W].
            y: labels, int64 [B].
            rate: the learning rate; as a tensor, a scalar of float32 on the device.
        """
        for weight in self.weights:
            weight.grad = None
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = F.cross_entropy(self.network(x), y)
        loss.backward()
        # The functional form starts jobs a second faster: the class imports torch's compiler.
        sgd(
            self.weights,
            [w.grad for w in self.weights],
            self.momentum,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum_factor,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        multiply(self.masked, self.masks)
        self.total += distributed.mean(loss.detach())


def multiply(weights: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    """Zero masked weights in place: equal to masked gradients, as the mask is constant."""
    if weights:
        with torch.no_grad():
            torch._foreach_mul_(weights, masks)


class GraphedStep:
    """Take a step by replaying one recording of it, launched as a whole.

    A step of a thin network is hundreds of kernels, each shorter than its launch. The first
    ``WARM_UP`` steps are taken as they are; the recording of the next one serves all that follow.
    Batches are copied to one place, from which the recording reads. Where nothing can be recorded
    (on a CPU), every step is taken as it is, from the same place.
    """

    def __init__(self, take: Take, device: torch.device):
        self._take, self._device = take, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._x = self._y = self._rate = None
        self._replay: Replay | None = None
        self._warm_up = WARM_UP

    def __call__(self, x: Tensor, y: Tensor, rate: float) -> None:
        """Take a step; see ``Step``. ValueError if batches differ in shape."""
        if self._x is None:
            self._x, self._y = torch.empty_like(x), torch.empty_like(y)
            self._rate = torch.empty((), dtype=torch.float32, device=self._device)
        if x.shape != self._x.shape:
            raise ValueError(f"a graph of {list(self._x.shape)} got a batch of {list(x.shape)}")
        self._x.copy_(x)
        self._y.copy_(y)
        self._rate.fill_(rate)
        if self._warm_up:
            self._warm_up -= 1
            self._aside()
            return
        if self._replay is None:
            self._replay = record(self._stream, self._once)
        self._replay()

    def _once(self) -> None:
        self._take(self._x, self._y, self._rate)

    def _aside(self) -> None:
        """Take a step on the stream that will record, as torch asks for."""
        if self._stream is None:
            self._once()
            return
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._once()
        current.wait_stream(self._stream)


def record(stream: "torch.cuda.Stream | None", call: Callable[[], None]) -> Replay:
    """Return what repeats ``call`` on the same tensors: a graph, or without a stream ``call``.

    Recording runs no kernel.
    """
    if stream is None:
        return call
    graph = torch.cuda.CUDAGraph()
    current = torch.cuda.current_stream(stream.device)
    try:
        # Threads that load images pin memory at any time, which must not end the recording.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            call()
    except BaseException:
        torch.cuda.set_stream(current)  # torch 2.11 leaves that of the recording in its place
        raise
    return graph.replay
