"""A network's permutation symmetry (paper, section 3; SPEC, method 3).

Hidden channels can be reordered without changing the function if every axis that carries them is
reordered alike. Axes that must be reordered alike are one group with one permutation; inputs and
outputs are never permuted. ``maskalign.graph`` derives the groups of a network.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from maskalign.entries import Shapes, check_entries, check_same, nearest
from maskalign.wrapped import refuse_wrapped

Permutations = dict[str, Tensor]
Visit = Callable[[tuple[int, int], Tensor, Tensor], None]
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
# Which measuring points of a group.
POINTS = {"first": slice(0, 1), "last": slice(-1, None), "all": slice(None)}


@dataclass(frozen=True)
class Place:
    """An axis of a state_dict entry; channel c owns entries c * repeat to (c + 1) * repeat - 1."""

    parameter: str
    axis: int
    repeat: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that share one permutation.

    Attributes:
        name: first module that produces the channels.
        size: number of channels.
        places: axes to reorder.
        taps: graph nodes at which the channels' activations are measured, in order, each with the
            dimension of its output that holds the channels.
    """

    name: str
    size: int
    places: tuple[Place, ...]
    taps: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Symmetry:
    """The permutable groups of an architecture.

    Attributes:
        groups: in the order of the graph.
        hidden_layers: convolution and linear modules whose outputs are permutable.
        entries: names and shapes of the network's state_dict.
        input_ndim: dimensions of a batch of inputs, that of images included.
    """

    groups: tuple[Group, ...]
    hidden_layers: tuple[str, ...]
    graph: fx.Graph = field(repr=False)
    entries: Shapes = field(repr=False, hash=False)
    input_ndim: int

    def check_network(self, model: nn.Module, name: str) -> None:
        """Raise ValueError, one line, unless ``model`` has this architecture and its widths."""
        refuse_wrapped(model, name)
        self.check_state(model.state_dict(), name)

    def check_state(self, state: dict[str, Tensor], name: str, without: Sequence[str] = ()) -> None:
        """Raise ValueError, one line, unless ``state`` has the entries of this architecture.

        Args:
            state: a state_dict.
            name: of its network, for the message.
            without: endings of the names that are not compared.
        """
        found, known = (
            {k: v for k, v in entries.items() if not k.endswith(tuple(without))}
            for entries in (state, self.entries)
        )
        check_same(found, known, name, "the network the symmetry was derived from")

    def tapped(self, model: nn.Module, which: str = "last") -> fx.GraphModule:
        """Return ``model`` as a network that returns its activations.

        Args:
            model: a network of this architecture; its parameters are shared, not copied.
            which: the ``first``, the ``last`` or ``all`` measuring points of each group.

        Returns:
            A module: input batch -> for each group a list of [N, C, ...] activations.

        Raises:
            ValueError: one line, if ``model`` has another architecture or width.
        """
        self.check_network(model, "model")
        graph, copies = fx.Graph(), {}
        graph.graph_copy(self.graph, copies)
        nodes = {node.name: copy for node, copy in copies.items()}
        outputs = []
        for group in self.groups:
            outputs.append([])
            for name, dim in group.taps[POINTS[which]]:
                with graph.inserting_after(nodes[name]):
                    # A copy, because a later in-place operation may overwrite the activation.
                    tap = graph.call_method("clone", (nodes[name],))
                with graph.inserting_after(tap):
                    moved = graph.call_method("movedim", (tap, dim, 1)) if dim != 1 else tap
                outputs[-1].append(moved)
        graph.output(outputs)
        network = fx.GraphModule(model, graph)
        network.graph.eliminate_dead_code()
        network.recompile()
        return network


def paired(
    symmetry: Symmetry, a: nn.Module, b: nn.Module, visit: Visit, which: str = "last"
) -> fx.GraphModule:
    """Return A and B as one network that runs both layer by layer and shows their activations.

    No activation is kept longer than the layers that follow need it.

    Args:
        symmetry: of the architecture of both.
        a, b: the networks; their parameters are shared, not copied.
        visit: called with (group, point), counted from 0, and the activations of B and A,
            [N, C, ...] each, which later operations may overwrite.
        which: the ``first``, the ``last`` or ``all`` measuring points of each group.

    Returns:
        A module: input batch -> None.

    Raises:
        ValueError: one line, if A or B has another architecture or width, or lies on another
            device.
    """
    for name, net in (("A", a), ("B", b)):
        symmetry.check_network(net, name)
    on_a, on_b = (next(net.parameters()).device for net in (a, b))
    if on_a != on_b:
        raise ValueError(f"A is on {on_a} and B on {on_b}: move both to one device")
    taps: dict[str, list[tuple[tuple[int, int], int]]] = {}
    for g, group in enumerate(symmetry.groups):
        for t, (name, dim) in enumerate(group.taps[POINTS[which]]):
            taps.setdefault(name, []).append(((g, t), dim))
    graph, copies = fx.Graph(), {"b": {}, "a": {}}
    for node in symmetry.graph.nodes:
        if node.op == "placeholder":
            shared = graph.node_copy(node)
            for known in copies.values():
                known[node] = shared
            continue
        for net, known in copies.items():
            known[node] = graph.node_copy(node, known.__getitem__)
            if node.op in ("call_module", "get_attr"):
                known[node].target = f"{net}.{node.target}"
        for point, dim in taps.pop(node.name, ()):
            pair = [graph.call_method("movedim", (k[node], dim, 1)) for k in copies.values()]
            graph.call_function(visit, (point, *pair))
        if not taps:
            break
    graph.output(None)
    return fx.GraphModule(nn.ModuleDict({"b": b, "a": a}), graph)


def permute(
    symmetry: Symmetry, permutations: Permutations, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Reorder the channels of weights, buffers or masks: entry i becomes what perm[i] was.

    With the permutation pi_l of layer l this is W' = pi_l W pi_{l-1}^T (paper, section 3).

    Args:
        symmetry: the architecture's groups.
        permutations: for each group's name an index vector [size] of integers.
        tensors: entries of a state_dict; entries that a group names but that are missing here
            (a mask has no biases) are skipped. Entries that no group reorders (the last bias) are
            returned as they are.

    Raises:
        ValueError: one line, if a group has no permutation, or what it has is not one, or there is
            no such group; or if the network has no entry of this name and shape.

    >>> from maskalign import graph
    >>> net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.ones(1, 4)
    >>> symmetry, before = graph.derive(net, x), net(x)
    >>> net.load_state_dict(permute(symmetry, {"0": torch.tensor([2, 0, 1])}, net.state_dict()))
    <All keys matched successfully>
    >>> torch.allclose(before, net(x))
    True
    """
    check_entries(tensors, symmetry.entries)
    indices = checked(permutations, {group.name: group.size for group in symmetry.groups})
    permuted = OrderedDict(tensors)
    if hasattr(tensors, "_metadata"):  # of a state_dict: versions of modules, which some ask for
        permuted._metadata = tensors._metadata
    for group in symmetry.groups:
        perm = indices[group.name]
        for place in group.places:
            if place.parameter in permuted:
                entry = permuted[place.parameter]
                block = torch.arange(place.repeat, device=perm.device)
                index = (perm[:, None] * place.repeat + block).flatten().to(entry.device)
                permuted[place.parameter] = entry.index_select(place.axis, index)
    return permuted


def checked(permutations: Permutations, sizes: dict[str, int]) -> Permutations:
    """Return permutations as int64, in the order of ``sizes``: the channels of every group.

    Raises:
        ValueError: one line, if a group has no permutation, or what it has is not one, or there is
            no such group.
    """
    for name in permutations:
        if name not in sizes:
            raise ValueError(f"permutation {name!r} is of no group{nearest(str(name), sizes)}")
    for name, size in sizes.items():
        perm = permutations.get(name)
        is_index = isinstance(perm, Tensor) and perm.dtype in INTEGERS
        if not is_index or perm.sort().values.tolist() != list(range(size)):
            raise ValueError(
                f"group {name} needs a permutation of {size} channels, as a tensor of integers"
            )
    return {name: permutations[name].long() for name in sizes}


def invert(permutations: Permutations) -> Permutations:
    """Return the permutations that undo ``permutations``; ValueError if one is none."""
    indices = checked(permutations, {name: len(perm) for name, perm in permutations.items()})
    return {name: perm.argsort() for name, perm in indices.items()}


def identity(symmetry: Symmetry) -> Permutations:
    """Return the permutations that leave every channel in its place."""
    return {g.name: torch.arange(g.size) for g in symmetry.groups}


def shuffled(symmetry: Symmetry, generator: torch.Generator) -> Permutations:
    """Return a random permutation of every group."""
    return {g.name: torch.randperm(g.size, generator=generator) for g in symmetry.groups}
