"""Deriving a network's permutation symmetry from its traced graph (paper, section 3).

Channels are followed through the graph: every axis that carries them gets a label, and additions,
norms, pooling and activations join labels (union-find). What is joined must be permuted alike.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from maskalign.entries import shapes
from maskalign.invariance import changed_by
from maskalign.measuring import read_values
from maskalign.symmetry import Group, Place, Symmetry
from maskalign.wrapped import refuse_wrapped

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ACTIVATIONS = {
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"),
    *("tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "softplus", "prelu"),
}
POINTWISE = ACTIVATIONS | {
    *("dropout", "dropout1d", "dropout2d", "identity", "contiguous", "clone", "detach", "float"),
    *("neg", "abs", "clamp", "square", "sqrt", "exp"),
}
BINARY = {"add", "add_", "iadd", "sub", "isub", "mul", "mul_", "imul", "truediv", "div"}
POOLS = {
    f"{prefix}{kind}_pool{d}d"
    for prefix in ("", "adaptive_")
    for kind in ("avg", "max")
    for d in "123"
}
RESHAPES = {"flatten", "view", "reshape", "squeeze", "unsqueeze"}


class UnsupportedModelError(ValueError):
    """A network whose symmetry cannot be derived; the message is one line that names the place."""


def derive(model: nn.Module, example: Tensor) -> Symmetry:
    """Derive the symmetry of ``model``.

    Args:
        model: a network. It is traced and run on ``example`` in eval mode, then run on a random
            input with random weights, as they are and permuted. It is not changed.
        example: an input batch, [N, ...], on the model's device.

    Raises:
        UnsupportedModelError: one line that names the module or operation that is not understood,
            or the first module whose output channels cannot be permuted.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> (group,) = derive(net, torch.zeros(1, 4)).groups
    >>> group.size, [(place.parameter, place.axis) for place in group.places]
    (3, [('0.weight', 0), ('0.bias', 0), ('2.weight', 1)])
    """
    refuse_wrapped(model, error=UnsupportedModelError)
    with _in_eval_mode(model):
        symmetry = _Derivation(model, example).symmetry()
        _refuse_layers_of_training(model, symmetry.graph)
        model.eval()
        group = changed_by(symmetry, model, example)
    if group:
        raise UnsupportedModelError(
            f"permuting the channels of module {group} changes the outputs of "
            f"{type(model).__name__}: an operation, a hook or a replaced forward mixes them, "
            "so its symmetry cannot be derived"
        )
    return symmetry


def _refuse_layers_of_training(model: nn.Module, graph: fx.Graph) -> None:
    """Refuse layers that are called in training alone: no permutation would reach them."""
    model.train()
    try:
        training = fx.Tracer().trace(model)
    except Exception:  # how a network trains is its own affair, as long as it can be evaluated
        return
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    for node in training.nodes:
        if node.op == "call_module" and node.target not in called:
            module = model.get_submodule(node.target)
            if any(True for _ in module.parameters()):
                raise UnsupportedModelError(
                    f"module {node.target} ({type(module).__name__}) is called in training alone, "
                    "so its symmetry cannot be derived"
                )


@contextlib.contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@dataclass(frozen=True)
class _Axis:
    """The channel axis of a node's output: a label of the union-find, repeated after flatten."""

    label: int
    dim: int
    repeat: int = 1


def _drops(node: fx.Node) -> bool:
    """Return whether a functional dropout that was traced in eval mode is active."""
    given = dict(zip(("input", "p", "training"), node.args, strict=False)) | node.kwargs
    return given.get("training", True) and given.get("p", 0.5) > 0


class _Values(fx.Interpreter):
    """Runs the graph and keeps every node's value."""

    def run_node(self, node: fx.Node):
        self.__dict__.setdefault("values", {})[node] = value = super().run_node(node)
        return value


class _Derivation:
    """Labels every channel axis and joins the labels that must be permuted alike."""

    FIXED = 0  # label of inputs and outputs

    def __init__(self, model: nn.Module, example: Tensor):
        if not isinstance(example, Tensor):
            kind = type(example).__name__
            raise UnsupportedModelError(f"example is a {kind}, must be a tensor of images [N, ...]")
        self.modules, self.input_ndim = dict(model.named_modules()), example.ndim
        self.joined = [self.FIXED]
        self.sizes = [0]
        self.places: dict[tuple[str, int], _Axis] = {}
        self.producers: dict[str, _Axis] = {}
        self.nodes: list[tuple[fx.Node, _Axis, bool]] = []
        self.layers: set[fx.Node] = set()
        self._names_of(model)
        try:
            self.graph = fx.Tracer().trace(model)
        except Exception as error:
            line = " ".join(str(error).split())
            raise UnsupportedModelError(
                f"{type(model).__name__} cannot be traced: {line}"
            ) from None
        self.values = self._run(model, example)
        self.axes: dict[fx.Node, _Axis | None] = {}
        for node in self.graph.nodes:
            self.axes[node] = self._visit(node)
        self.read = read_values(self.layers, self.axes, self.values, self._merges_positions)

    def _run(self, model: nn.Module, example: Tensor) -> dict[fx.Node, object]:
        """Return every node's value."""
        interpreter = _Values(fx.GraphModule(model, self.graph))
        try:
            with torch.no_grad():
                interpreter.run(example)
        except (RuntimeError, ValueError) as error:
            raise UnsupportedModelError(
                f"{type(model).__name__} does not take an input {list(example.shape)}: "
                + str(error).splitlines()[0]
            ) from error
        return interpreter.values

    # -- union-find ------------------------------------------------------------------------------

    def _new(self, size: int) -> int:
        self.joined.append(len(self.joined))
        self.sizes.append(size)
        return len(self.joined) - 1

    def _root(self, label: int) -> int:
        while self.joined[label] != label:
            label = self.joined[label]
        return label

    def _join(self, node: fx.Node, a: _Axis, b: _Axis) -> None:
        x, y = self._root(a.label), self._root(b.label)
        if self.FIXED not in (x, y) and a.repeat != b.repeat:
            raise self._refusal(node, "joins channels of different block length")
        self.joined[max(x, y)] = min(x, y)

    def _put(self, node: fx.Node, module: str, entry: str, axis: int, channels: _Axis) -> None:
        """Note that an axis of a module's parameter or buffer carries ``channels``."""
        if getattr(self.modules[module], entry, None) is None:
            return
        if id(getattr(self.modules[module], entry)) not in self.names:
            raise self._refusal(node, f"has a {entry} that is computed from other parameters")
        for name in self.names[id(getattr(self.modules[module], entry))]:
            known = self.places.setdefault((name, axis), channels)
            if known is not channels:  # weights used twice: both uses permute them alike
                self._join(node, known, channels)

    def _names_of(self, model: nn.Module) -> None:
        self.names: dict[int, list[str]] = {}
        for kind in (model.named_parameters, model.named_buffers):
            for name, tensor in kind(remove_duplicate=False):
                self.names.setdefault(id(tensor), []).append(name)

    # -- one rule an operation -------------------------------------------------------------------

    def _visit(self, node: fx.Node) -> _Axis | None:
        if node.op == "placeholder":  # one that is no tensor is an argument left at its default
            return _Axis(self.FIXED, 1) if isinstance(self.values[node], Tensor) else None
        if node.op == "output":
            for source in node.all_input_nodes:
                if self.axes[source]:
                    self._join(node, self.axes[source], _Axis(self.FIXED, 1))
            return None
        if not isinstance(self.values[node], Tensor):
            if any(isinstance(self.values[n], Tensor) for n in node.all_input_nodes) and (
                self._kind(node) not in ("size", "getattr", "dim")
            ):
                raise self._refusal(node, "gives more than one tensor")
            return None
        if node.op == "get_attr":
            raise self._refusal(node, "reads a parameter outside a module")
        channels = [self.axes[n] for n in node.all_input_nodes if self.axes[n]]
        if not channels:
            raise self._refusal(node, "makes a tensor from no input")
        rule = self._module if node.op == "call_module" else self._function
        return rule(node, channels)

    def _module(self, node: fx.Node, channels: list[_Axis]) -> _Axis:
        name, module, x = node.target, self.modules[node.target], channels[0]
        if isinstance(module, CONVS) and self.values[node].ndim != module.weight.ndim:
            raise self._refusal(node, "reads its input as one image without a batch dimension")
        if isinstance(module, CONVS) and module.groups == 1:
            return self._producer(node, x, 1, module.out_channels)
        if isinstance(module, CONVS) and module.groups == module.in_channels == module.out_channels:
            for entry in ("weight", "bias"):
                self._put(node, name, entry, 0, x)
            self.producers.setdefault(name, x)
            self.layers.add(node)
            return x
        if isinstance(module, CONVS):
            raise self._refusal(node, f"is a convolution of {module.groups} groups")
        if isinstance(module, nn.Linear):
            last = self.values[node].ndim - 1
            if x.dim != last:
                raise self._refusal(node, "is linear along another dimension than the channels'")
            return self._producer(node, x, last, module.out_features)
        norm = (
            isinstance(module, NORMS)
            or (isinstance(module, nn.GroupNorm) and module.num_groups == 1)
            or (
                isinstance(module, nn.LayerNorm)
                and len(module.normalized_shape) == 1
                and x.dim == self.values[node].ndim - 1
            )
        )
        if norm or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
            for entry in ("weight", "bias", "running_mean", "running_var"):
                self._put(node, name, entry, 0, x)
            return self._pointwise(node, x)
        if any(True for _ in module.parameters()) and not isinstance(module, nn.PReLU):
            raise self._refusal(node, "has weights but no rule")
        return self._function(node, channels)

    def _producer(self, node: fx.Node, x: _Axis, dim: int, size: int) -> _Axis:
        """A convolution or linear layer: reads channels ``x``, makes new ones."""
        y = _Axis(self._new(size), dim)
        self._put(node, node.target, "weight", 1, x)
        known = self.places.get((self.names[id(self.modules[node.target].weight)][0], 0))
        self._put(node, node.target, "weight", 0, known or y)
        self._put(node, node.target, "bias", 0, known or y)
        self.producers.setdefault(node.target, known or y)
        self.nodes.append((node, known or y, False))
        self.layers.add(node)
        return known or y

    def _pointwise(self, node: fx.Node, x: _Axis) -> _Axis:
        if self._kind(node) in ACTIVATIONS:
            self.nodes.append((node, x, True))
        return x

    def _function(self, node: fx.Node, channels: list[_Axis]) -> _Axis:
        kind, x = self._kind(node), channels[0]
        before, after = self.values[node.all_input_nodes[0]].shape, self.values[node].shape
        if node.op == "call_function" and kind.startswith("dropout") and _drops(node):
            raise self._refusal(node, "also drops in eval mode (training=self.training is missing)")
        if kind in POINTWISE and len(channels) == 1:
            return self._pointwise(node, x)
        if kind in BINARY:
            return self._binary(node)
        # On [N, C] one-dimensional pooling would run over the channels.
        if kind in POOLS and x.dim == 1 and len(after) == int(kind[-2]) + 2:
            return x
        if kind == "mean" and x.dim == 1 and self._is_spatial(node, len(before)):
            return x
        if kind in RESHAPES and x.dim == 1 and after[0] == before[0]:
            if after[1:2] == before[1:2] and math.prod(after[2:]) == math.prod(before[2:]):
                return x
            if len(after) == 2:
                return _Axis(x.label, 1, x.repeat * math.prod(before[2:]))
        raise self._refusal(node, "is an operation without a rule")

    def _is_spatial(self, node: fx.Node, ndim: int) -> bool:
        """Return whether a mean runs over positions only, not over images or channels."""
        dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        dims = [dims] if isinstance(dims, int) else dims or [0]
        return all(isinstance(d, int) and d % ndim > 1 for d in dims)

    def _binary(self, node: fx.Node) -> _Axis:
        sources = [n for n in node.all_input_nodes if self.axes[n]]
        wide = max(sources, key=lambda n: self.values[n].shape[self.axes[n].dim])
        for n in sources:
            one = self.values[n].shape[self.axes[n].dim] == 1
            same = self.values[n].ndim == self.values[wide].ndim
            if not same or self.axes[n].dim != self.axes[wide].dim:
                raise self._refusal(node, "joins tensors whose channels are not aligned")
            if not (one and n is not wide):
                self._join(node, self.axes[n], self.axes[wide])
        return self.axes[wide]

    def _kind(self, node: fx.Node) -> str:
        """Return the name of an operation, the same for module, function and method."""
        if node.op == "call_module":
            names = {"maxpool": "max_pool", "avgpool": "avg_pool", "adaptive": "adaptive_"}
            kind = type(self.modules[node.target]).__name__.lower()
            for short, long in names.items():
                kind = kind.replace(short, long)
            return {"leakyrelu": "leaky_relu"}.get(kind, kind)
        if node.op == "call_method":
            return node.target
        return getattr(node.target, "__name__", str(node.target)).lstrip("_").rstrip("_")

    def _refusal(self, node: fx.Node, what: str) -> UnsupportedModelError:
        if node.op == "call_module":
            where = f"module {node.target} ({type(self.modules[node.target]).__name__})"
        else:
            stack = node.meta.get("nn_module_stack") or {}
            inside = [name for name, _ in stack.values() if name]
            where = f"operation {self._kind(node)}" + (f" in {inside[-1]}" if inside else "")
        return UnsupportedModelError(f"{where} {what}, so its symmetry cannot be derived")

    # -- the result ------------------------------------------------------------------------------

    def symmetry(self) -> Symmetry:
        """Return the groups that neither contain inputs nor outputs."""
        roots: dict[int, list[str]] = {}
        for name, axis in self.producers.items():
            roots.setdefault(self._root(axis.label), []).append(name)
        free = {root: names for root, names in roots.items() if root != self.FIXED}
        groups = [
            Group(names[0], self.sizes[root], self._places(root), self._taps(root))
            for root, names in free.items()
        ]
        hidden = tuple(name for name, a in self.producers.items() if self._root(a.label) in free)
        entries = shapes(self.modules[""].state_dict())
        return Symmetry(tuple(groups), hidden, self.graph, entries, self.input_ndim)

    def _places(self, root: int) -> tuple[Place, ...]:
        return tuple(
            Place(name, axis, channels.repeat)
            for (name, axis), channels in self.places.items()
            if self._root(channels.label) == root
        )

    def _merges_positions(self, node: fx.Node) -> bool:
        """Return whether an operation pools positions, or moves them into the channel axis."""
        (source,) = (n for n in node.all_input_nodes if self.axes[n])
        flattens = self.axes[node].repeat > self.axes[source].repeat
        return flattens or self._kind(node) in POOLS | {"mean"}

    def _taps(self, root: int) -> tuple[tuple[str, int], ...]:
        """Return what layers read of a group.

        A group that no layer reads has its activation functions, or else its producers.
        """
        read = [
            (node.name, axis.dim)
            for node in self.read
            if (axis := self.axes[node]).repeat == 1 and self._root(axis.label) == root
        ]
        here = [
            (node.name, axis.dim, activation)
            for node, axis, activation in self.nodes
            if self._root(axis.label) == root and axis.repeat == 1
        ]
        active = [(name, dim) for name, dim, activation in here if activation]
        return tuple(read or active or [(name, dim) for name, dim, _ in here])
