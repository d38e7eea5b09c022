"""What a Pruner refuses, in which words."""

import copy

import pytest
import torch
from pruner_networks import batches, convnet, loss_of, sgd, train
from torch import nn

from edgeprune.errors import EdgepruneError
from edgeprune.torch import Pruner


def refused(*parts: str, call) -> EdgepruneError:
    with pytest.raises(EdgepruneError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)
    return caught.value


ASKED = {
    "schedule": ({"schedule": "gradal"}, "'gradal' is not a schedule [schedule-unknown]", "did you mean gradual"),
    "far": ({"schedule": "xyz"}, "schedule-unknown", "known names: acdc, erk-random, gradual, grasp, group-lasso"),
    "high": ({"sparsity": 1.0}, "1 is out of range [option-range]", "0 <= F < 1"),
    "low": ({"sparsity": -0.1}, "-0.1 is out of range [option-range]", "where: sparsity"),
    "nan": ({"sparsity": float("nan")}, "nan is out of range [option-range]", "0 <= F < 1"),
    "open": ({"sparsity": None}, "pattern 1x1 leaves open how much goes [sparsity-missing]", "sparsity=0.75"),
    "balance": (
        {"pattern": "2:4", "sparsity": 0.75},
        "pattern 2:4 removes 0.5 of the weights, sparsity asks for 0.75 [option-conflict]",
        "leave it out: 2:4 fixes the level",
    ),
    "pattern": ({"pattern": "4by4"}, "'4by4' is not a pruning pattern [pattern-unknown]", "write 1x1"),
    "heads": ({"pattern": "head"}, "pattern 'head' removes what several modules share", "prune --pattern head"),
    "steps": ({"steps": None}, "schedule 'gradual' needs the number of training steps [steps-missing]", "steps=epochs"),
    "none": ({"steps": 0}, "0 is out of range [option-range]", "where: steps"),
    "rule": ({"levels": "unifrom"}, "'unifrom' is not a rule for levels [option-unknown]", "did you mean uniform"),
    "layer": (
        {"levels": {"33": 0.5}, "sparsity": None},
        "the model has no layer '33' that can be pruned [layer-unknown]",
        "did you mean 3?",
    ),
    "share": ({"levels": {"3": 1.5}, "sparsity": None}, "1.5 is out of range", "levels['3']"),
    "both": ({"levels": {"3": 0.5}}, "levels names a sparsity for each layer, and sparsity one for all", "drop one"),
    "empty": ({"levels": {}, "sparsity": None}, "levels names no layer [layer-missing]", "known names"),
    "balances": ({"levels": {"3": 0.75}, "sparsity": None, "pattern": "2:4"}, "levels['3'] asks for 0.75", "leave"),
    "snip": ({"schedule": "snip"}, "schedule 'snip' needs the loss of a batch [loss-missing]", "loss=lambda model"),
    "grasp": ({"schedule": "grasp"}, "schedule 'grasp' needs the loss of a batch [loss-missing]", "with a batch"),
    "synflow": ({"schedule": "synflow"}, "needs the shape of the model's inputs [example-missing]", "example=images"),
    "sr-ste": ({"schedule": "sr-ste"}, "and was given none [optimizer-missing]", "Pruner(model, optimizer=optimizer"),
    "rigl": (
        {"schedule": "rigl", "pattern": "2:4", "sparsity": None},
        "schedule 'rigl' does not keep the balance of 2:4 [option-conflict]",
        "schedule='sr-ste'",
    ),
    "loss": (
        {"schedule": "snip", "loss": lambda model: model(torch.zeros(2, 1, 8, 8))},
        "the loss is a tensor of shape (2, 5), not a finite scalar tensor [loss-unusable]",
        "mean loss",
    ),
    "number": ({"schedule": "snip", "loss": lambda model: 1.0}, "the loss is a float, not a finite", "loss-unusable"),
    "infinite": ({"schedule": "snip", "loss": lambda model: torch.tensor(torch.inf)}, "the loss is inf", "finite"),
    "detached": ({"schedule": "snip", "loss": lambda model: torch.tensor(1.0)}, "does not depend on the weight", "'3'"),
    "partial": (
        {"schedule": "snip", "loss": lambda model: model[6].weight.sum()},
        "the loss does not depend on the weight of '3' [loss-unusable]",
        "model(inputs)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_what_is_asked_is_checked(case):
    choices, what, hint = ASKED[case]
    given = {"pattern": "1x1", "sparsity": 0.5, "schedule": "gradual", "steps": 10, **choices}
    refused(what, hint, call=lambda: Pruner(convnet(), **given))


def test_models_without_a_layer_to_prune():
    for model in (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), nn.LSTM(3, 3)):
        refused(
            "the model has no layer that can be pruned [layer-missing]",
            "Conv1d, Conv2d, Conv3d (not depthwise) or Linear",
            call=lambda model=model: Pruner(model, pattern="1x1", sparsity=0.5, schedule="one-shot"),
        )


def test_weights_that_are_not_finite():
    model = convnet()
    with torch.no_grad():
        model[6].weight[0, 0, 0, 0] = torch.nan
    refused(
        "the weight of '6' holds NaN or infinite values [weights-not-finite]",
        "where: layer 6",
        call=lambda: Pruner(model, pattern="1x1", sparsity=0.5, steps=3),
    )


def test_a_training_that_diverges_stops_at_the_next_masks():
    model = convnet()
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, steps=30)
    with torch.no_grad():
        model[3].weight.mul_(torch.nan)
    refused("weights-not-finite", "lower the learning rate", call=pruner.step)


def test_lazy_layers_without_a_shape():
    refused(
        "the weight of '0' has no shape yet [model-uninitialised]",
        "run the model once",
        call=lambda: Pruner(nn.Sequential(nn.LazyLinear(3)), pattern="1x1", sparsity=0.5, steps=3),
    )


def test_steps_after_the_end():
    model = convnet()
    optimizer = sgd(model)
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, steps=3)
    train(model, optimizer, pruner, batches(3))
    refused("step() was called after all 3 steps [schedule-ended]", "batches per epoch", call=pruner.step)
    pruner.finalize()
    refused("step() was called after finalize() [schedule-ended]", "after the loop", call=pruner.step)


def test_a_state_that_is_awaited():
    pruner = Pruner(convnet(), pattern="1x1", sparsity=0.5, steps=3, resume=True)
    for call in (pruner.step, pruner.finalize):
        refused("made with resume=True, and no state was loaded [state-missing]", "load_state_dict", call=call)


def test_rigl_without_gradients():
    model = convnet()
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, schedule="rigl", steps=10)
    refused(
        "no gradient of '3' to grow weights by [gradient-missing]", "before optimizer.zero_grad()", call=pruner.step
    )


def test_states_that_do_not_fit():
    choices = {"pattern": "1x1", "sparsity": 0.5, "schedule": "rigl", "steps": 10}
    state = Pruner(convnet(), **choices).state_dict()

    def loaded(model=None, given=state, **changes):
        return lambda: Pruner(model or convnet(), **{**choices, **changes}, resume=True).load_state_dict(given)

    loaded()()
    another = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    refused("the model prunes '0', the state does not [state-mismatch]", "another model", call=loaded(another))
    fewer = Pruner(convnet(), **{**choices, "sparsity": None, "levels": {"3": 0.5}}).state_dict()
    refused("the model prunes '6', the state does not", call=loaded(given=fewer))
    more = Pruner(convnet(), **choices, protect_ends=False).state_dict()
    refused("the state prunes '0', the model does not", call=loaded(given=more))
    wider = convnet()
    wider[3] = nn.Conv2d(8, 22, 3)
    refused("'3' is 22x8x3x3, and 20x8x3x3 in the state", call=loaded(wider))
    refused("pattern is 1x4, and 1x1 in the state", "options that it was saved with", call=loaded(pattern="1x4"))
    refused("schedule is Gradual(", "and RigL(", call=loaded(schedule="gradual"))
    refused("sparsity is 0.75, and 0.5", call=loaded(sparsity=0.75))
    refused("steps is 11, and 10", call=loaded(steps=11))
    for nothing in ({}, 3, {key: value for key, value in state.items() if key != "masks"}):
        refused("this is not the state of a Pruner [state-mismatch]", "state_dict()", call=loaded(given=nothing))


def test_a_state_that_comes_late():
    model = convnet()
    pruner = Pruner(model, pattern="1x1", sparsity=0.5, steps=3)
    state = copy.deepcopy(pruner.state_dict())
    train(model, sgd(model), pruner, batches(1))
    refused(
        "a state is loaded after 1 steps were counted [state-late]",
        "resume=True",
        call=lambda: pruner.load_state_dict(state),
    )


def test_flow_that_overflows():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).double()
    with torch.no_grad():
        model[0].weight.fill_(1e200)
        model[1].weight.fill_(1e200)
    refused(
        "the synaptic flow overflows",
        "flow-unusable",
        call=lambda: Pruner(model, pattern="1x1", sparsity=0.5, schedule="synflow", example=torch.zeros(1, 4)),
    )


def test_frozen_weights_have_no_sensitivity():
    model = convnet()
    model[3].weight.requires_grad_(False)
    refused(
        "the loss does not depend on the weight of '3'",
        call=lambda: Pruner(model, pattern="1x1", sparsity=0.5, schedule="snip", loss=loss_of),
    )
