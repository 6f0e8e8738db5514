"""The state of a control, alone and in a module: what is saved, what can be loaded, and what is refused."""

import copy
import pickle
import warnings

import pytest
import torch
from kept import mlp, running
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

import vae_kernels as vk
from vae_kernels import controls

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_state_is_the_step():
    vae = mlp(beta=controls.LinearWarmup(10), rec_weight=controls.Geco(1.0, speed=0.1))
    state = vae.state_dict()
    own = {name for name in state if name.startswith(("beta", "rec_weight"))}
    assert own == {"beta.steps", "rec_weight.steps", "rec_weight.value", "rec_weight.violation"}
    vae.beta.step()
    assert state["beta.steps"] == 0 and state["beta.steps"].dtype == torch.int64  # a later step leaves the state alone
    assert not [name for name, _ in (*vae.named_buffers(), *vae.beta.named_parameters())]
    steps = vae.state_dict()["beta.steps"]
    assert controls.LinearWarmup(10).load_state_dict({"steps": 3}) and steps == 1


def test_a_state_of_0_1_loads():
    """In a state of version 0.1 the steps are a number, the state of a schedule also has the value, and the state of
    RunningLogvar has no "share"."""
    warmup = controls.LinearWarmup(10)
    warmup.load_state_dict({"steps": 3, "value": torch.tensor(0.3)})
    assert warmup.steps == 3 and warmup.value.item() == torch.tensor(0.3).item()
    weight = controls.Geco(1.0, speed=0.1)
    weight.load_state_dict({"steps": 3, "value": torch.tensor(2.5), "violation": torch.tensor(0.5)})
    assert (weight.steps, weight.value.item(), weight.violation.item()) == (3, 2.5, 0.5)
    old, new = controls.RunningLogvar(0.8), controls.RunningLogvar(0.8)
    for step in range(4):
        running(old, step)
    state = old.state_dict()
    del state["share"]
    new.load_state_dict(state | {"steps": int(state["steps"])})
    running(old, 5)
    running(new, 5)
    close(new.value, old.value)


@pytest.mark.parametrize("state, message", [
    ({}, r'Missing key\(s\) in state_dict: "steps"'),
    ({"steps": -1}, "steps: got -1, expected an integer >= 0"),
    ({"steps": 1.5}, "steps: got 1.5, expected an integer >= 0"),
    ({"steps": torch.ones(2)}, "steps: got tensor.*, expected an integer >= 0"),
    ({"steps": 1, "value": torch.ones(3)}, r"value: got shape \(3,\), expected a 0-d tensor"),
    ({"steps": 1, "value": 0.5}, "value: got float, expected a 0-d tensor"),
    ({"steps": 1, "violation": torch.ones(())}, r'Unexpected key\(s\) in state_dict: "violation"'),
])  # fmt: skip
def test_a_wrong_state_is_refused_whole(state, message):
    warmup = controls.LinearWarmup(4)
    warmup.step()
    with pytest.raises(RuntimeError, match=message):
        warmup.load_state_dict(state)
    assert warmup.steps == 1 or "violation" in state


def weights_of(module):
    return {name: t for name, t in module.state_dict().items() if name.startswith(("encoder", "decoder"))}


# The kinds of settings that the VAE of a checkpoint and the VAE that loads it can have. A checkpoint of version 0.1 has
# a tensor where the user gave the value of a control.
SETTINGS = {
    "numbers": {"beta": 0.5, "rec_weight": 2.0, "free_bits": (0.1, "per_dim")},
    "nothing": {},
    "tensors": {
        "beta": torch.tensor(0.25),
        "rec_weight": torch.tensor(3.0),
        "free_bits": (torch.tensor(0.2), "per_dim"),
    },
    "schedules": None,
    "geco": None,
}


def settings_of(kind):
    if kind == "schedules":
        return {"beta": controls.LinearWarmup(9), "free_bits": (controls.Cosine(9), "per_dim")}
    if kind == "geco":
        return {"rec_weight": controls.Geco(1.0, speed=0.1, weight=1.5)}
    return {name: copy.deepcopy(value) for name, value in SETTINGS[kind].items()}


def current(vae):
    return [float(s) for s in (vae.beta, vae.rec_weight, vae.free_bits[0] if vae.free_bits else 0.0)]


@pytest.mark.parametrize("here", SETTINGS)
@pytest.mark.parametrize("there", SETTINGS)
def test_settings_of_the_loss_do_not_stop_weights(there, here):
    """Weights load with strict=True, whatever the settings of the loss are. Where the kinds of a setting differ, the
    module keeps its own setting. A tensor that both have is loaded."""
    old, new = mlp(**settings_of(there)), mlp(**settings_of(here))
    before, given = current(new), copy.deepcopy(old.state_dict())
    outer = nn.ModuleDict({"vae": new})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if (there, here) in WARNED else "error")
        outer.load_state_dict({f"vae.{name}": tensor for name, tensor in given.items()}, strict=True)
    close(weights_of(new), weights_of(old))
    if there == here:
        assert current(new) == current(old)
    elif (there, here) == ("tensors", "geco"):
        assert current(new) == [1.0, 3.0, 0.0]  # Geco takes the tensor as its weight: a checkpoint of 0.1 has only that
    else:
        assert current(new) == before
    new.load_state_dict(new.state_dict())


WARNED = {("tensors", "schedules")}


def test_a_checkpoint_of_0_1():
    """In version 0.1, VAE(beta=warmup.value, rec_weight=geco.value, obs_logvar=running.value) saved three 0-d tensors.
    Such a checkpoint must still load."""
    new = mlp(
        beta=controls.LinearWarmup(10), rec_weight=controls.Geco(1.0, speed=0.1), obs_logvar=controls.RunningLogvar()
    )
    tensors = {"beta": torch.tensor(0.4), "rec_weight": torch.tensor(1.7), "obs_logvar": torch.tensor(-2.0)}
    state = weights_of(mlp()) | tensors
    with pytest.warns(
        UserWarning, match=r"beta: the checkpoint has a tensor and not the step of a LinearWarmup.*step 0"
    ):
        new.load_state_dict(state)
    close(weights_of(new), {name: state[name] for name in weights_of(new)})
    assert new.beta.item() == 0 and new.rec_weight.item() == pytest.approx(1.7) and new.obs_logvar.item() == -2.0
    new.obs_logvar.update(torch.zeros(3, 2), torch.full((3, 2), 1.0))
    mean = 0.99 * torch.tensor(-2.0).exp() + 0.01
    close(new.obs_logvar.value, mean.log())
    with pytest.warns(
        UserWarning, match="obs_logvar: the checkpoint has a variance, and this module keeps its own, 0.5"
    ):
        mlp(beta=1.0, obs_logvar=0.5).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected.*"obs_logvar"'):  # this model has no variance at all
        mlp().load_state_dict(state)
    assert "beta" in state  # load_state_dict leaves the caller's dict as it was


def test_what_is_trained_must_be_there():
    trained = mlp(obs_logvar=nn.Parameter(torch.zeros(())))
    with pytest.raises(RuntimeError, match=r'Missing key.*"obs_logvar"'):
        trained.load_state_dict(mlp(obs_logvar=0.0).state_dict())
    prior = tuple(nn.Parameter(torch.zeros(2)) for _ in range(2))
    with pytest.raises(RuntimeError, match=r'Missing key.*"prior_mu"'):
        mlp(prior=prior).load_state_dict(mlp().state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"prior_mu"'):
        mlp().load_state_dict(mlp(prior=prior).state_dict())
    with pytest.raises(RuntimeError, match=r'Missing key.*"encoder.1.weight"'):
        mlp().load_state_dict({"beta": torch.tensor(1.0)})


def test_what_0_1_pickled():
    """A pickle of version 0.1 must still load. There a control was a plain object, and free_bits was an attribute of
    VAE."""
    warmup = controls.LinearWarmup.__new__(controls.LinearWarmup)
    state = {"steps": 1, "_names": ("value",), "delay": 0, "length": 4, "start": 0.0, "end": 1.0}
    warmup.__setstate__(state | {"value": torch.tensor(0.25)})
    warmup.step()
    assert warmup.value.item() == 0.5 and warmup.state_dict() == {"steps": 2} and warmup.double().item() == 0.5
    average = controls.RunningLogvar.__new__(controls.RunningLogvar)
    state = {"steps": 1, "_names": ("value", "average"), "momentum": 0.5}
    average.__setstate__(state | {"value": torch.tensor(4.0).log(), "average": torch.tensor(2.0)})
    average.update(torch.zeros(3, 2), torch.ones(3, 2))
    close(average.double().value.exp(), torch.tensor(2.0, dtype=torch.float64))  # (0.25 * 4 + 0.5 * 1) / 0.75
    vae = vk.VAE.__new__(vk.VAE)
    state = mlp(beta=torch.tensor(0.5)).__dict__ | {"free_bits": (0.5, "per_dim")}
    vae.__setstate__({name: value for name, value in state.items() if not name.startswith("free_bits_")})
    assert vae.free_bits == (0.5, "per_dim") and vae.loss(torch.rand(3, 6)).isfinite()
    assert pickle.loads(pickle.dumps(vae)).free_bits == (0.5, "per_dim")


def test_distributed_checkpoint_state():
    warmup = controls.LinearWarmup(10)
    vae = mlp(beta=warmup, rec_weight=controls.Geco(1.0, speed=0.1, weight=2.0))
    warmup.step()
    state = get_model_state_dict(vae)
    fresh = mlp(beta=controls.LinearWarmup(10), rec_weight=controls.Geco(1.0, speed=0.1))
    set_model_state_dict(fresh, state)
    assert fresh.beta.steps == 1 and fresh.rec_weight.item() == 2.0
