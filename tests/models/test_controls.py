"""Controls do what their papers say: the equations and their gradients are right. A compiled step sees each new
value."""

import copy
import math
import pickle

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import vae_kernels as vk
from vae_kernels import controls

F64 = {"dtype": torch.float64}
close = torch.testing.assert_close


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def posterior(*shape):
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]


def true_kl(mu, logvar, prior=None):
    """The KL of each element, [B, ...], by torch.distributions."""
    m, v = prior or (torch.zeros_like(mu), torch.zeros_like(mu))
    normals = [torch.distributions.Normal(a, (b / 2).exp()) for a, b in ((mu, logvar), (m, v))]
    return torch.distributions.kl_divergence(*normals)


def values(schedule, n):
    out = []
    for _ in range(n):
        out.append(schedule.value.item())
        schedule.step()
    return out


# --- schedules


def test_the_curves():
    assert values(controls.Constant(2.0, **F64), 3) == [2.0] * 3
    assert values(controls.LinearWarmup(4, 0.0, 2.0, **F64), 7) == [0, 0.5, 1, 1.5, 2, 2, 2]
    assert values(controls.LinearWarmup(2, 3.0, 1.0, delay=2, **F64), 6) == [3, 3, 3, 2, 1, 1]
    cosine = [(1 - math.cos(math.pi * t / 4)) / 2 for t in range(5)]
    assert values(controls.Cosine(4, **F64), 7) == pytest.approx([*cosine, 1, 1], abs=1e-15)


@pytest.mark.parametrize("steps, cycles, ratio", [(12, 3, 0.5), (10, 4, 0.7), (7, 7, 1.0), (5, 1, 0.25)])
def test_cyclical_is_the_equation_of_fu_et_al(steps, cycles, ratio):
    def paper(t):  # equations 6 and 7 of the paper, where f rises linearly from 0 at 0 to 1 at R
        tau = (t - 1) % math.ceil(steps / cycles) / (steps / cycles)
        return tau / ratio if tau <= ratio else 1.0

    expected = [paper(t) for t in range(1, steps + 1)]
    assert values(controls.Cyclical(steps, cycles, ratio, **F64), steps) == pytest.approx(expected, abs=1e-15)
    assert (
        controls.Cyclical(steps, cycles, ratio).at(steps) == controls.Cyclical(steps, cycles, ratio).at(9 * steps) == 1
    )


def test_cyclical_begins_again_so_many_times():
    betas = values(controls.Cyclical(100, 4), 100)
    assert betas.count(0.0) == 4 and max(betas) == 1.0


EVERY = {
    "Constant": lambda: controls.Constant(0.3),
    "LinearWarmup": lambda: controls.LinearWarmup(5, delay=1),
    "Cosine": lambda: controls.Cosine(5),
    "Cyclical": lambda: controls.Cyclical(8, 2),
    "Geco": lambda: controls.Geco(1.0, speed=0.1, momentum=0.5),
    "RunningLogvar": lambda: controls.RunningLogvar(0.5),
}


def advance(control, t):
    if isinstance(control, controls.Schedule):
        control.step()
    elif isinstance(control, controls.Geco):
        control.update(torch.full((3,), 1.0 + t % 3))
    else:
        control.update(torch.zeros(3, 2), torch.full((3, 2), 1.0 + t % 3))
    return control.value.item()


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_run_goes_on_as_the_unbroken_one(name):
    whole, resumed = EVERY[name](), EVERY[name]()
    for t in range(3):
        advance(whole, t)
    state = pickle.loads(pickle.dumps(whole.state_dict()))
    held, held_whole = resumed.value, whole.value
    rest = [advance(whole, t) for t in range(3, 9)]
    resumed.load_state_dict(state)
    assert held is resumed.value and held_whole is whole.value  # in place, so code that keeps the tensor sees the value
    assert [advance(resumed, t) for t in range(3, 9)] == rest
    assert (resumed.steps == 9 and len(set(rest)) > 1) or name == "Constant"
    with pytest.raises(RuntimeError, match=r"Missing key.*steps"):
        resumed.load_state_dict({"value": resumed.value})
    twin = pickle.loads(pickle.dumps(copy.deepcopy(whole)))
    assert advance(twin, 9) == advance(whole, 9)


def test_a_compiled_step_sees_a_thousand_values_without_another_graph():
    beta, weight = controls.LinearWarmup(1000), controls.Geco(1.0, speed=1e-3)
    recon, x = torch.randn(3, 5), torch.rand(3, 5)
    mu, logvar = torch.randn(2, 3, 2).unbind()
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")

    @torch.compile(fullgraph=True, backend=counter)
    def step(recon, x, mu, logvar):
        return vk.fused_elbo(recon, x, mu, logvar, beta=beta.value, rec_weight=weight.value)

    nll, kl = vk.nll(recon, x).mean(), vk.gaussian_kl(mu, logvar).mean()
    for _ in range(1000):
        loss = step(recon, x, mu, logvar)
        beta.step()
        weight.update(nll)
    assert counter.frame_count == 1
    close(step(recon, x, mu, logvar), weight.value * nll + beta.value * kl)
    assert loss != step(recon, x, mu, logvar)


# --- the KL per dimension, and what stands in its place


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2, 5), (1, 1), (0, 4), (5,)])
@pytest.mark.parametrize("with_prior", [False, True])
def test_kl_per_dim(shape, with_prior):
    mu, logvar = posterior(*shape)
    prior = tuple(posterior(*shape[1:])) if with_prior else None
    inputs = [mu, logvar, *(prior or ())]
    kl = controls.kl_per_dim(mu, logvar, prior=prior)
    truth = true_kl(mu, logvar, prior)
    close(kl, truth)
    weights = torch.randn_like(kl)
    ours, theirs = (torch.autograd.grad(k, inputs, weights) for k in (kl, truth))
    close(ours, theirs)
    close(controls.kl_per_dim(mu, logvar, prior=prior).flatten(1).sum(1) if len(shape) > 1 else kl,
          vk.gaussian_kl(mu, logvar, prior=prior))  # fmt: skip


def test_free_bits_are_the_equations_of_their_units():
    kl = torch.rand(6, 4, 3, dtype=torch.float64) * torch.rand(4, 3, dtype=torch.float64) * 2
    kl[:, 0] *= 0.1  # channel 0, as a whole, is below the floor, and so is sample 0
    kl[0] *= 0.01
    nats = torch.tensor(0.6, dtype=torch.float64)
    by_dim = sum(max(0.6, kl[:, i, j].mean().item()) for i in range(4) for j in range(3))
    by_channel = sum(max(0.6, kl[:, i].sum(1).mean().item()) for i in range(4))
    by_halves = sum(max(0.6, kl[:, part].sum((1, 2)).mean().item()) for part in (slice(0, 1), slice(1, 4)))
    by_sample = [max(0.6, k.sum().item()) for k in kl]
    expected = {
        ("per_dim", None): [by_dim] * 6,
        ("per_group", None): [by_channel] * 6,
        ("per_group", (1, 3)): [by_halves] * 6,
        ("per_sample", None): by_sample,
        ("batch_mean", None): [max(0.6, sum(kl.sum((1, 2)).tolist()) / 6)] * 6,
    }
    for (unit, groups), truth in expected.items():
        for level in (0.6, nats):
            close(controls.free_bits(kl, level, unit=unit, groups=groups), torch.tensor(truth, dtype=torch.float64))
    # a KL of [B] is enough for this unit
    close(controls.free_bits(kl.sum((1, 2)), 0.6, unit="per_sample"), torch.tensor(by_sample, dtype=torch.float64))
    assert len({tuple(round(v, 9) for v in truth) for truth in expected.values()}) == 5  # the units must differ here


@pytest.mark.parametrize("unit", ["per_dim", "per_group", "per_sample", "batch_mean"])
def test_free_bits_stop_the_gradient_where_the_unit_is_below_and_nowhere_else(unit):
    mu, logvar = posterior(4, 2)
    with torch.no_grad():  # dimension 0 of all samples, and samples 0 and 1, are near the prior
        mu[:, 0] *= 1e-2
        logvar[:, 0] *= 1e-2
        mu[:2] *= 1e-2
        logvar[:2] *= 1e-2
        mu[2:, 1] += 5
    kl = controls.kl_per_dim(mu, logvar)
    of_all = torch.autograd.grad(true_kl(mu, logvar).sum() / 4, mu)[0]
    loss = vk.fused_elbo(torch.zeros(4, 3), torch.zeros(4, 3), kl=controls.free_bits(kl, 0.5, unit=unit))
    grad = torch.autograd.grad(loss, mu)[0]
    keep = torch.ones(4, 2, dtype=torch.float64)
    if unit in ("per_dim", "per_group"):
        keep[:, 0] = 0
    elif unit == "per_sample":
        keep[:2] = 0
    close(grad, of_all * keep)
    none = controls.free_bits(controls.kl_per_dim(mu, logvar), 1e3, unit=unit)
    assert not torch.autograd.grad(none.sum(), mu)[0].any()


def test_capacity_draws_the_kl_from_both_sides():
    mu, logvar = posterior(8, 3)
    kl = vk.gaussian_kl(mu, logvar)
    nats = kl.detach().mean()
    truth = true_kl(mu, logvar).sum(1)
    close(controls.capacity(kl, nats), (truth - nats).abs())
    of_kl = torch.autograd.grad(controls.capacity(kl, nats).sum(), kl, retain_graph=True)[0]
    close(of_kl, (truth - nats).sign())
    assert of_kl.unique().numel() == 2  # there are samples on both sides of C
    close(controls.capacity(kl, 1.0, unit="batch_mean"), (truth.mean() - 1).abs().expand(8))
    # Gradient descent on |KL - C| alone brings the KL to C from above and from below. A step takes mu to (1 -+ rate)
    # mu, so near C a step changes the KL by 2 rate KL.
    rate, nats = 0.01, 1.5
    for start in (0.1, 3.0):
        m = torch.full((4, 2), start, dtype=torch.float64, requires_grad=True)
        lv = torch.zeros(4, 2, dtype=torch.float64)
        for _ in range(400):
            loss = controls.capacity(vk.gaussian_kl(m, lv), nats).sum()
            m.data -= rate * torch.autograd.grad(loss, m)[0]
        close(vk.gaussian_kl(m, lv), torch.full((4,), nats, dtype=torch.float64), atol=2.1 * rate * nats, rtol=0)


# --- balancing


def test_balanced_kl_has_the_value_of_the_kl_and_shares_its_gradient():
    mu, logvar, m, v = (*posterior(5, 3), *posterior(3))
    kl = controls.balanced_kl(mu, logvar, prior=(m, v), alpha=0.7)
    truth = true_kl(mu, logvar, (m, v)).sum(1)
    close(kl, truth)
    weights = torch.randn(5, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(k, (mu, logvar, m, v), weights) for k in (kl, truth))
    for got, whole, share in zip(ours, theirs, (0.3, 0.3, 0.7, 0.7), strict=True):
        close(got, share * whole)


def test_balanced_kl_is_its_two_parts_to_second_order(backend):
    torch.manual_seed(0)
    tensors = [torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def parts(mu, logvar, m, v):
        fixed = [t.detach() for t in (mu, logvar, m, v)]
        trains_prior = vk.gaussian_kl(*fixed[:2], prior=(m, v), backend="torch")
        return 0.7 * trains_prior + 0.3 * vk.gaussian_kl(mu, logvar, prior=tuple(fixed[2:]), backend="torch")

    ours = lambda mu, logvar, m, v: controls.balanced_kl(mu, logvar, prior=(m, v), alpha=0.7, backend=backend)  # noqa: E731
    found = []
    for f in (ours, parts):
        kl = f(*tensors)
        first = torch.autograd.grad((kl * torch.arange(5)).sum(), tensors, create_graph=True)
        found.append([kl, *first, *torch.autograd.grad(sum((g * g).sum() for g in first), tensors)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_balanced_groups_weigh_by_their_kl_with_a_mean_of_1():
    kl = torch.rand(6, 3, dtype=torch.float64) * torch.tensor([0.1, 1.0, 4.0])
    kl.requires_grad_()
    for sizes in (None, (1.0, 2.0, 5.0)):
        balanced = controls.balance_groups(kl, sizes)
        gamma = torch.autograd.grad(balanced.sum(), kl)[0]
        close(gamma[0].mean(), torch.tensor(1.0, dtype=torch.float64))
        close(gamma, gamma[:1].expand(6, 3))  # one weight for each group, and no gradient through this weight
        scale = kl.detach().mean(0) + 0.01
        ratio = gamma[0] / (scale if sizes is None else scale / torch.tensor(sizes))
        close(ratio, ratio[0].expand(3))
        close(balanced, (kl * gamma).sum(1))


# --- GECO


def test_geco_is_algorithm_1():
    geco = controls.Geco(10.0, speed=0.05, momentum=0.9, weight=2.0, **F64)
    weight, average = 2.0, None
    for t in range(20):
        nll = torch.randn(7, dtype=torch.float64) + 9 + t % 4
        violation = nll.mean().item() - 10
        average = violation if average is None else 0.9 * average + 0.1 * violation
        weight *= math.exp(0.05 * average)
        geco.update(nll)
        assert geco.value.item() == pytest.approx(weight, rel=1e-12)


def test_geco_meets_its_constraint():
    """GECO minimizes KL(mu) under the constraint nll(mu) <= target. In one dimension, let x = 3, nll = (3 - mu)^2 / 2 +
    c and KL = mu^2 / 2. With a target of 0.5 + c the solution is mu = 2. There the gradients balance: lambda (3 - mu) =
    mu, so lambda = 2."""
    constant = 0.5 * math.log(2 * math.pi)
    geco = controls.Geco(0.5 + constant, speed=0.05, momentum=0.5, **F64)
    mu = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    x, logvar = torch.full((1, 1), 3.0, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(600):
        options = {"likelihood": "gaussian", "rec_weight": geco.value, "return_terms": True}
        terms = vk.fused_elbo(mu, x, mu, logvar, **options)
        grad = torch.autograd.grad(terms.loss, mu)[0]
        mu.data -= 0.05 * grad
        geco.update(terms.nll)
    assert mu.item() == pytest.approx(2.0, abs=1e-3) and geco.value.item() == pytest.approx(2.0, abs=1e-2)


# --- the optimal sigma


@pytest.mark.parametrize("over", ["batch", "sample", "element"])
def test_the_optimal_logvar_maximises_the_likelihood(over):
    loc, x = torch.randn(2, 4, 3, 2, dtype=torch.float64).unbind()
    logvar = controls.optimal_logvar(loc, x, over=over).requires_grad_()
    assert logvar.shape == {"batch": (), "sample": (4, 1, 1), "element": (3, 2)}[over]
    nll = vk.nll(loc, x, likelihood="gaussian", obs_logvar=logvar, reduction="sum")
    slope = torch.autograd.grad(nll, logvar, create_graph=True)[0]
    close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)
    assert torch.autograd.grad(slope.sum(), logvar)[0].min() > 0  # the nll has a minimum here, not a maximum


def test_the_gradient_of_loc_is_that_of_the_log_of_the_mean_square():
    """The likelihood with the optimal sigma is D/2 log MSE plus a constant. The gradient of loc is the gradient of this
    expression, although the optimal sigma is detached."""
    loc, x = torch.randn(2, 4, 6, dtype=torch.float64).unbind()
    loc.requires_grad_()
    nll = vk.nll(loc, x, likelihood="gaussian", obs_logvar=controls.optimal_logvar(loc, x), reduction="mean")
    truth = 6 / 2 * ((x - loc) ** 2).mean().log()
    close(torch.autograd.grad(nll, loc)[0], torch.autograd.grad(truth, loc)[0])
    close(nll.detach(), truth.detach() + 6 / 2 * (math.log(2 * math.pi) + 1))


def test_the_running_logvar():
    running = controls.RunningLogvar(0.8, logvar=1.5, **F64)
    assert running.value.item() == 1.5
    loc = torch.zeros(16, 3, dtype=torch.float64)
    weights, squares = [], []
    for t in range(12):
        x = torch.randn(16, 3, dtype=torch.float64) * (1 + t)
        weights = [w * 0.8 for w in weights] + [0.2]
        squares.append((x**2).mean().item())
        running.update(loc, x)
        mean = sum(w * s for w, s in zip(weights, squares, strict=True)) / sum(weights)
        assert running.value.item() == pytest.approx(math.log(mean), rel=1e-12)


def test_uint8_is_read_as_levels():
    x = torch.randint(0, 256, (4, 5), dtype=torch.uint8)
    close(controls.optimal_logvar(torch.zeros(4, 5), x), (x / 255).square().mean().log())


# --- errors

KL = torch.ones(4, 3)
ERRORS = [
    (lambda: controls.LinearWarmup(0), ValueError, "steps: got 0"),
    (lambda: controls.LinearWarmup(2.5), TypeError, "steps: got float"),
    (lambda: controls.LinearWarmup(5, end=math.inf), ValueError, "end: got inf"),
    (lambda: controls.LinearWarmup(5, delay=-1), ValueError, "delay: got -1"),
    (lambda: controls.Cyclical(3, 4), ValueError, "steps: got 3, expected an integer >= 4"),
    (lambda: controls.Cyclical(8, ratio=0), ValueError, "ratio: got 0"),
    (lambda: controls.Constant("1"), TypeError, "level: got str"),
    (lambda: controls.free_bits(KL, 1.0, unit="dim"), ValueError, "unit: got 'dim', expected one of 'per_dim'"),
    (lambda: controls.free_bits(KL[:, 0], 1.0, unit="per_dim"), ValueError, r"kl: got shape \(4,\), expected \[B, L"),
    (lambda: controls.free_bits(KL, -1.0, unit="per_dim"), ValueError, "nats: got -1.0"),
    (lambda: controls.free_bits(KL, torch.ones(3), unit="per_dim"), ValueError, "nats: got shape"),
    (lambda: controls.free_bits(KL, 1.0, unit="per_dim", groups=(3,)), ValueError, "groups: has no effect"),
    (lambda: controls.free_bits(KL, 1.0, unit="per_group", groups=(1, 1)), ValueError, "groups: got .* sum to 2"),
    (lambda: controls.capacity(KL, 1.0, unit="per_dim"), ValueError, "unit: got 'per_dim'"),
    (lambda: controls.capacity([1.0], 1.0), TypeError, "kl: got list"),
    (lambda: controls.balanced_kl(KL, KL, prior=None), ValueError, "prior: got None"),
    (lambda: controls.balanced_kl(KL, KL, prior=(KL, KL), alpha=2), ValueError, "alpha: got 2"),
    (lambda: controls.balance_groups(KL[:, 0]), ValueError, "kl: got shape"),
    (lambda: controls.balance_groups(KL, (1, 2)), ValueError, "sizes: got 2 numbers"),
    (lambda: controls.balance_groups(KL, (1, 2, 0)), ValueError, r"sizes\[2\]: got 0"),
    (lambda: controls.Geco(1.0, speed=0), ValueError, "speed: got 0"),
    (lambda: controls.Geco(1.0, speed=1.0, momentum=1), ValueError, "momentum: got 1"),
    (lambda: controls.optimal_logvar(KL, KL, over="pixel"), ValueError, "over: got 'pixel'"),
    (lambda: controls.optimal_logvar(KL, KL[:, :2]), ValueError, "loc: got shape"),
    (lambda: controls.RunningLogvar(1.0), ValueError, "momentum: got 1.0"),
]


@pytest.mark.parametrize("call, error, message", ERRORS)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
