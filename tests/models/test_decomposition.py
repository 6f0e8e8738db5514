"""The decomposition of the KL of a data set into three parts, compared with the whole data set, with an enumeration of
all batches, and with the known answer for tight posteriors."""

import math
from itertools import combinations

import pytest
import torch
from torch.autograd import gradcheck
from torch.distributions import Normal

import vae_kernels as vk

close = torch.testing.assert_close


def dataset(n, dims=3, seed=0, logvar=-1.0):
    """(z, mu, logvar) of n samples in float64."""
    g = torch.Generator().manual_seed(seed)
    mu, spread, eps = (torch.randn(n, dims, generator=g, dtype=torch.float64) for _ in range(3))
    logvar = logvar + 0.3 * spread
    return mu + torch.exp(logvar / 2) * eps, mu, logvar


def exact(z, mu, logvar):
    """(mutual information, total correlation, KL of each dimension) for every z, from the whole data set."""
    log_q = Normal(mu, torch.exp(logvar / 2)).log_prob(z[:, None])  # [z, component, dim]
    joint = torch.logsumexp(log_q.sum(2), 1) - math.log(len(mu))
    each = torch.logsumexp(log_q, 1) - math.log(len(mu))
    own = log_q.diagonal(dim1=0, dim2=1).sum(0)
    return own - joint, joint - each.sum(1), each - Normal(0, 1).log_prob(z)


def parts_of(*arguments, **settings):
    parts = vk.kl_decomposition(*arguments, **settings)
    return parts.mutual_information, parts.total_correlation, parts.dimension_wise_kl


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
def test_a_batch_of_all_data(estimator):
    """If the batch is the whole data set, the stratified estimate is exact, and the weighted estimate is off by log
    N."""
    z, mu, logvar = dataset(30)
    parts = parts_of(z, mu, logvar, dataset_size=30, estimator=estimator)
    information, correlation, kl = exact(z, mu, logvar)
    if estimator == "weighted":
        off = math.log(30)
        information, correlation, kl = information + off, correlation - off + 3 * off, kl - off
    for a, b in zip(parts, (information, correlation, kl), strict=True):
        close(a, b)


def test_stratified_sampling_has_no_bias():
    """The estimate of q(z_0), averaged over all batches that contain x_0, is q(z_0) of the whole data set."""
    z, mu, logvar = dataset(12)
    own = Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(1)
    information, _, kl = exact(z, mu, logvar)
    joint, each = [], []
    for others in combinations(range(1, 12), 3):
        batch = [t[[0, *others]] for t in (z, mu, logvar)]
        got, _, got_kl = parts_of(*batch, dataset_size=12)
        joint.append(torch.exp(own[0] - got[0]))
        each.append(torch.exp(got_kl[0] + Normal(0, 1).log_prob(z[0])))
    close(torch.stack(joint).mean(), torch.exp(own[0] - information[0]))
    close(torch.stack(each).mean(0), torch.exp(kl[0] + Normal(0, 1).log_prob(z[0])))


@pytest.mark.parametrize("batch", [2, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tight_posteriors_of_50_000(batch, dtype):
    """With tight posteriors, each z tells from which x it came. So the mutual information is log 50 000 = 10.82 nats,
    for a batch of any size."""
    mu = 10 * torch.arange(batch, dtype=dtype)[:, None].repeat(1, 2)
    logvar = torch.full_like(mu, -12)
    z = mu + torch.exp(logvar / 2) * torch.randn(mu.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    information, *_ = parts_of(z, mu, logvar, dataset_size=50_000)
    assert information.dtype == dtype
    close(information, torch.full_like(information, math.log(50_000)))
    weighted, *_ = parts_of(z, mu, logvar, dataset_size=50_000, estimator="weighted")
    close(weighted, torch.full_like(weighted, math.log(50_000 * batch)))


def test_identical_posteriors_carry_no_information():
    _, mu, logvar = (t[:1].expand(40, 3) for t in dataset(1))
    z = mu + torch.exp(logvar / 2) * torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    information, correlation, _ = parts_of(z, mu, logvar, dataset_size=1000)
    close(information, torch.zeros(40, dtype=torch.float64))
    close(correlation, torch.zeros(40, dtype=torch.float64))


def test_a_grid_has_no_total_correlation():
    """The aggregate posterior of a grid is a product of its dimensions."""
    axes = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mu = torch.cartesian_prod(*axes)
    logvar = torch.tensor([-1.0, -2.0], dtype=torch.float64).expand_as(mu)
    z = mu + 0.3 * dataset(36, 2)[0]
    close(parts_of(z, mu, logvar, dataset_size=36)[1], torch.zeros(36, dtype=torch.float64))


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
@pytest.mark.parametrize("prior", [False, True])
def test_the_parts_add_up_to_the_kl(estimator, prior):
    """For each sample, the three parts add up to log q(z|x) - log p(z). Their mean over many samples is the KL in
    closed form."""
    _, mu, logvar = dataset(5, logvar=0.0)
    prior = (torch.tensor([0.5, 0.0, -0.5]).double(), torch.tensor(0.3).double()) if prior else None
    settings = {"dataset_size": 500, "prior": prior, "estimator": estimator}
    m, v = prior or (torch.zeros(3).double(), torch.zeros(()).double())
    z = vk.reparameterize(mu, logvar, n_samples=3000, generator=torch.Generator().manual_seed(1))
    ratio = Normal(mu, torch.exp(logvar / 2)).log_prob(z) - Normal(m, torch.exp(v / 2)).log_prob(z)
    close(vk.kl_decomposition(z[0], mu, logvar, **settings).kl, ratio[0].sum(1))
    many = vk.kl_decomposition(
        z.flatten(0, 1)[:2000], mu.repeat(400, 1), logvar.repeat(400, 1), dataset_size=2000, prior=prior
    )
    error = many.kl.reshape(400, 5).std(0) / 20
    assert ((many.kl.reshape(400, 5).mean(0) - vk.gaussian_kl(mu, logvar, prior=prior)).abs() < 4 * error).all()


def test_a_batch_of_one(backend):
    """The last batch of an epoch may have one sample. The weighted estimate of q(z_i) is then q(z_i|x_i) / N."""
    z, mu, logvar = dataset(1)
    parts = parts_of(z, mu, logvar, dataset_size=50, estimator="weighted", backend=backend)
    own = Normal(mu, torch.exp(logvar / 2)).log_prob(z)
    kl = own - math.log(50) - Normal(0, 1).log_prob(z)
    for a, b in zip(parts, (torch.full((1,), math.log(50)), torch.full((1,), 2 * math.log(50)), kl), strict=True):
        close(a, b, check_dtype=False)


def test_shapes_and_dtypes():
    z, mu, logvar = (t.float() for t in dataset(8, 6))
    flat = vk.kl_decomposition(z, mu, logvar, dataset_size=100)
    shaped = vk.kl_decomposition(*(t.reshape(8, 2, 3) for t in (z, mu, logvar)), dataset_size=100)
    assert shaped.dimension_wise_kl.shape == (8, 2, 3) and shaped.kl.dtype == torch.float32
    close(shaped.kl, flat.kl)
    close(shaped.dimension_wise_kl.flatten(1), flat.dimension_wise_kl)


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
def test_gradients(estimator):
    inputs = [t.requires_grad_() for t in dataset(5, 2)]
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def f(*inputs):
        information, correlation, kl = parts_of(*inputs, dataset_size=50, estimator=estimator)
        return (weight * torch.stack([information, correlation, kl.sum(1)])).sum()

    assert gradcheck(f, inputs)


def test_a_beta_tcvae_step():
    torch.manual_seed(0)
    mu, logvar = torch.randn(2, 8, 3, requires_grad=True).unbind()
    z = vk.reparameterize(mu, logvar)
    parts = vk.kl_decomposition(z, mu, logvar, dataset_size=1000)
    kl = parts.mutual_information + 6 * parts.total_correlation + parts.dimension_wise_kl.sum(1)
    recon, x = torch.randn(8, 5), torch.rand(8, 5)
    close(vk.fused_elbo(recon, x, kl=kl), vk.nll(recon, x, reduction="mean") + kl.mean())


Z = torch.zeros(4, 3)
ERRORS = [
    ((Z[:3], Z, Z), {"dataset_size": 9}, "z: got shape (3, 3), expected that of mu, (4, 3)"),
    ((Z, Z, Z), {"dataset_size": 3}, "dataset_size: got 3, expected an integer, at least the batch size 4"),
    ((Z, Z, Z), {"dataset_size": 9.0}, "dataset_size: got 9.0"),
    ((Z.to("meta"), Z, Z), {"dataset_size": 9}, "z: is on meta, but mu is on cpu"),
    ((Z[0], Z[0], Z[0]), {"dataset_size": 9}, "mu: got shape (3,), expected [B, L, ...]"),
    ((Z[:0], Z[:0], Z[:0]), {"dataset_size": 9}, "mu: got shape (0, 3), expected [B, L, ...]"),
    ((Z[:1], Z[:1], Z[:1]), {"dataset_size": 9}, "mu: got a batch of 1 sample"),
    ((Z[:1], Z[:1], Z[:1]), {"dataset_size": 9}, "drop_last=True"),
    (
        (Z, Z, Z),
        {"dataset_size": 9, "estimator": "mss"},
        "estimator: got 'mss', expected one of 'stratified', 'weighted'",
    ),
]


@pytest.mark.parametrize("arguments, settings, words", ERRORS, ids=[e[2][:30] for e in ERRORS])
def test_errors(arguments, settings, words):
    with pytest.raises(ValueError) as raised:
        vk.kl_decomposition(*arguments, **settings)
    assert words in str(raised.value)
