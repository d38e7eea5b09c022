"""Pruning inside a user's own training loop.

The lines of a Pruner in such a loop, and the export that keeps its zeros:

    pruner = edgeprune.torch.Pruner(model, pattern="1x16", sparsity=0.75, schedule="gradual", steps=len(batches))
    for images, labels in batches:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
    pruner.finalize()
    torch.onnx.export(model.eval(), (images,), "pruned.onnx", dynamo=True)

To stop and go on, save `pruner.state_dict()` beside the model's and the optimizer's, and load the three into a new
model, optimizer and `Pruner(..., resume=True)`: training goes on bit for bit. Hugging Face accelerate does so itself
after `accelerator.register_for_checkpointing(pruner)`.

Mixed precision needs nothing: masks are chosen from the weights, and a step that GradScaler leaves out changes none.
Under DistributedDataParallel every process makes its own Pruner: weights and gradients are the same everywhere, hence
the masks; give "snip" and "grasp" the same batch in all of them, and every Pruner the same seed.
"""

from edgeprune.torch.acdc import ACDC
from edgeprune.torch.erk_random import ERKRandom
from edgeprune.torch.gradual import Gradual
from edgeprune.torch.grasp import GraSP
from edgeprune.torch.group_lasso import GroupLasso
from edgeprune.torch.one_shot import OneShot
from edgeprune.torch.pruner import Pruner
from edgeprune.torch.rigl import RigL
from edgeprune.torch.schedules import SCHEDULES
from edgeprune.torch.snip import SNIP
from edgeprune.torch.sr_ste import SRSTE
from edgeprune.torch.synflow import SynFlow

__all__ = [
    "ACDC",
    "SCHEDULES",
    "SNIP",
    "SRSTE",
    "ERKRandom",
    "GraSP",
    "Gradual",
    "GroupLasso",
    "OneShot",
    "Pruner",
    "RigL",
    "SynFlow",
]
