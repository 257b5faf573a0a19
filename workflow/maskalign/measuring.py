"""Choosing where a network's activations are measured for matching: at what its layers read.

A layer is a convolution (a depthwise one too) or a linear layer. A gate only multiplies other
values, so no layer reads it. A linear residual stream is read after its sums.
"""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, fx


def read_values(
    layers: Collection[fx.Node],
    axes: Mapping[fx.Node, Any],
    values: Mapping[fx.Node, Tensor],
    merges: Callable[[fx.Node], bool],
) -> list[fx.Node]:
    """Return the values that layers read, in the order of the graph.

    A value that was pooled or flattened on its way to the layer has fewer positions. In its place
    the value before the first pooling or flattening is returned.

    Args:
        layers: nodes of convolutions and linear layers.
        axes: for each node, in the order of the graph, its channel axis; None if it has none.
        values: each node's output [N, ...] on an example.
        merges: whether a node pools positions, or moves them into the channel axis.
    """
    before: dict[fx.Node, list[fx.Node]] = {}  # the first pooling; empty without one
    overwritten: dict[fx.Node, fx.Node] = {}
    read = set()
    for node in (n for n, axis in axes.items() if axis):
        before[node] = []
        sources = [overwritten.get(n, n) for n in node.all_input_nodes if axes[n]]
        if node in layers:
            read.update(before[sources[0]] or sources)
        elif len(sources) == 1:
            before[node] = before[sources[0]] or (sources if merges(node) else [])
        else:
            # An operand that is broadcast, such as a gate, is not the value that is read.
            found = [before[n] for n in sources if values[n].shape == values[node].shape]
            one_position = values[node][0].numel() == values[node].shape[axes[node].dim]
            if all(found) or (one_position and any(found)):
                before[node] = list(itertools.chain(*found))
        elsewhere = node in layers or not sources or node.users
        if not elsewhere and values[node] is values[sources[0]]:
            overwritten[node.all_input_nodes[0]] = node  # in place, and its result is not used
    return [node for node in axes if node in read]
