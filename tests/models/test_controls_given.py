"""A control in place of a number: the loss reads its value, a log gets a plain number, and a module refuses the bare
tensor of the value, because the tensor would be cut off from its control."""

import pytest
import torch
from kept import HOLDERS, KINDS, geco, mlp
from torch import nn

import vae_kernels as vk
from vae_kernels import controls

close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_loss_reads_the_value():
    """The functions and the module read the value of a control, in every setting that takes a control."""
    recon, x, mu, logvar = torch.randn(5, 6), torch.randn(5, 6), *torch.randn(2, 5, 2)
    numbers = {"beta": 0.3, "rec_weight": 0.7, "obs_logvar": -0.4, "free_bits": (1.5, "per_dim")}
    constants = {name: controls.Constant(value) for name, value in numbers.items() if name != "free_bits"}
    constants["free_bits"] = controls.Constant(1.5), "per_dim"
    expected = vk.fused_elbo(recon, x, mu, logvar, likelihood="gaussian", **numbers)
    close(vk.fused_elbo(recon, x, mu, logvar, likelihood="gaussian", **constants), expected)
    close(vk.FusedELBO(likelihood="gaussian", **constants)(recon, x, mu, logvar), expected)
    kl = vk.gaussian_kl(mu, logvar)
    close(vk.nll(recon, x, likelihood="gaussian", obs_logvar=constants["obs_logvar"]),
          vk.nll(recon, x, likelihood="gaussian", obs_logvar=numbers["obs_logvar"]))  # fmt: skip
    nats = controls.Constant(1.0)
    close(controls.capacity(kl, nats), controls.capacity(kl, 1.0))
    close(controls.free_bits(kl, nats, unit="per_sample"), controls.free_bits(kl, 1.0, unit="per_sample"))
    losses = []
    for settings, beta in ((numbers, None), (constants, None), (numbers | {"beta": 5.0}, constants["beta"])):
        torch.manual_seed(1)  # for equal weights and equal noise
        losses.append(mlp(**settings).loss(x, beta=beta))
    close(losses[1:], [losses[0]] * 2)
    estimate = vk.log_marginal_likelihood(mlp(obs_logvar=constants["obs_logvar"]), x, 4)
    assert estimate.value.isfinite().all()
    found = vk.diagnose(mlp(beta=constants["beta"], obs_logvar=constants["obs_logvar"]), x, log_p=None)
    assert found.measures.beta == pytest.approx(0.3) and not found.measures.fixed_variance


def test_a_number_of_that_step():
    warmup, weight, history = controls.LinearWarmup(4), controls.Geco(1.0, speed=0.1), []
    for step in range(3):
        history.append((float(warmup), weight.item(), f"{warmup:.2f}"))
        warmup.step()
        geco(weight, step)
    assert [beta for beta, *_ in history] == [0.0, 0.25, 0.5] and history[1][2] == "0.25"
    assert all(type(number) is float for row in history for number in row[:2]) and len({w for _, w, _ in history}) == 3
    assert "(beta): LinearWarmup(length=4, start=0, end=1, delay=0, steps=3, at=0.75)" in repr(mlp(beta=warmup))
    assert f"{weight}" == "Geco(target=1, speed=0.1, momentum=0.99, steps=3)"


BARE = {
    "the value": lambda v: v,
    "detached": lambda v: v.detach(),
    "a view": lambda v: v.view(1)[0],
}


@pytest.mark.parametrize("how", BARE)
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", KINDS)
def test_a_bare_value_is_refused_where_it_would_be_cut_off(name, holder, how):
    make, _, setting = KINDS[name]
    control = make()
    bare = setting(BARE[how](control.value))
    (argument,) = bare
    kind = type(control).__name__
    with pytest.raises(
        TypeError, match=f"^{argument}: got the value of a {kind}.*expected the {kind} itself: {argument}="
    ):
        HOLDERS[holder](**bare)
    module = HOLDERS[holder](**({"obs_logvar": 0.0} if argument == "obs_logvar" else {}))
    with pytest.raises(TypeError, match=f"^{argument}: got the value"):
        setattr(module, argument, bare[argument])
    HOLDERS[holder](**setting(control.value.clone()))  # a clone is the user's own tensor, so the module takes it


def test_the_functions_take_a_bare_value():
    warmup = controls.LinearWarmup(4, 0.25)
    recon, x, mu, logvar = torch.randn(5, 6), torch.rand(5, 6), *torch.randn(2, 5, 2)
    assert torch.equal(
        vk.fused_elbo(recon, x, mu, logvar, beta=warmup.value), vk.fused_elbo(recon, x, mu, logvar, beta=warmup)
    )
    vae = mlp()
    torch.manual_seed(1)
    loss = vae.loss(x, beta=warmup.value)
    torch.manual_seed(1)
    assert torch.equal(vae.loss(x, beta=warmup), loss)


def test_settings_may_change_their_kind():
    vae = mlp(beta=controls.LinearWarmup(4))
    for beta in (0.5, controls.Constant(2.0), 1, controls.LinearWarmup(3)):
        vae.beta = beta
        assert vae.beta is beta and vae.loss(torch.rand(3, 6)).isfinite()
        assert [name for name, _ in vae.named_children() if name == "beta"] == ["beta"] * isinstance(beta, nn.Module)
    vae = mlp(beta=torch.tensor(0.5))
    vae.beta = 0.25
    assert vae.beta == 0.25 and not dict(vae.named_buffers())
    vae.free_bits = torch.tensor(0.5), "per_dim"
    assert dict(vae.named_buffers()).keys() == {"free_bits_nats"}
    vae.free_bits = None
    assert vae.free_bits is None and not dict(vae.named_buffers())


OWNERS = [
    lambda **settings: vk.FusedELBO(likelihood="gaussian", **settings),
    lambda **settings: vk.mlp_vae((6,), 3, (4,), "gaussian", **settings),
]


@pytest.mark.parametrize("owner", OWNERS, ids=["FusedELBO", "VAE"])
@pytest.mark.parametrize("of", [lambda t: t, lambda t: t * 2], ids=["leaf", "result"])
def test_a_tensor_that_no_optimizer_would_see_is_refused(owner, of):
    """A buffer is in no parameters(). So a tensor that requires grad is refused, when the module is made and later."""
    t, fixed = of(torch.zeros(3, requires_grad=True)), torch.zeros(3)
    given = {
        "obs_logvar": {"obs_logvar": t[0]},
        "beta": {"beta": t[0]},
        "rec_weight": {"rec_weight": t[0]},
        "free_bits": {"free_bits": (t[0], "per_dim")},
        r"prior\[0\] \(mu\)": {"prior": (t, fixed)},
        r"prior\[1\] \(logvar\)": {"prior": (fixed, t)},
    }
    for name, settings in given.items():
        with pytest.raises(ValueError, match=f"^{name}: got a tensor that requires grad, expected an nn.Parameter"):
            owner(**settings)
    for name in ("obs_logvar", "beta", "rec_weight"):
        made = owner(**{name: 0.5})
        with pytest.raises(ValueError, match=f"^{name}: got a tensor that requires grad"):
            setattr(made, name, t[0])
        setattr(made, name, fixed[0])
        assert name in dict(made.named_buffers())
        setattr(made, name, nn.Parameter(fixed[0]))
        assert name in dict(made.named_parameters()) and not dict(made.named_buffers())
        with pytest.raises(TypeError, match=f"^{name}: got a tensor in place of an nn.Parameter"):
            setattr(made, name, fixed[0])


def test_a_replica_of_data_parallel_takes_the_tensors_of_its_parameters():
    made = vk.FusedELBO(likelihood="gaussian", obs_logvar=nn.Parameter(torch.zeros(())))
    replica, copied = made._replicate_for_data_parallel(), made.obs_logvar * 1
    replica.obs_logvar = copied
    assert replica.obs_logvar is copied
