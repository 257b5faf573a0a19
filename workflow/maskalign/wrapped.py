"""Networks that torch has wrapped or rewritten: names and weights are no longer the module's own.

A mask, a permutation or a graph of such a network would name other tensors than those it computes
with, so it is refused with what to pass instead.
"""

import torch
from torch import nn
from torch.nn.utils.prune import BasePruningMethod

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def refuse_wrapped(
    model: nn.Module, name: str = "model", error: type[ValueError] = ValueError
) -> None:
    """Refuse a network that is pruned by torch's hooks, data-parallel, compiled or scripted.

    A network that one of these is part of is refused too.

    Args:
        model: any network.
        name: of the network, for the message.
        error: the kind of error.

    Raises:
        ValueError: one line that names the module and says what to do.
    """
    for path, module in model.named_modules():
        where = f"{name}.{path}" if path else name
        do = "put {} in its place" if path else "pass {}"
        if isinstance(module, PARALLEL):
            raise error(f"{where} is a {type(module).__name__}: {do.format(f'{where}.module')}")
        # torch._dynamo, which has the class of compiled modules, takes long to import.
        if "_orig_mod" in module._modules:
            raise error(f"{where} is compiled: {do.format(f'{where}._orig_mod')}")
        if isinstance(module, torch.jit.ScriptModule):
            raise error(f"{where} is scripted: {do.format('the module it was made from')}")
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, BasePruningMethod):
                weight = hook._tensor_name
                raise error(
                    f"{where} is pruned by torch.nn.utils.prune: call torch.nn.utils.prune.remove("
                    f"module, {weight!r}) first (the zeros stay; take the mask from "
                    f"{where}.{weight}_mask before)"
                )
