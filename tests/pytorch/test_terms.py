"""ElboTerms is a dataclass and a node of torch's pytrees, so other tools find its tensors. ranks.py tests DDP and
FSDP2."""

import copy
import dataclasses
import io
import pickle

import pytest
import torch
from torch.utils import _pytree as pytree

import vae_kernels as vk

NAMES = ["loss", "nll", "kl", "kl_per_dim", "nll_per_column", "log_weights", "effective_samples"]
B = 5


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    recon, x, mu, logvar = (torch.randn(shape, generator=g) for shape in ((B, 7), (B, 7), (B, 3), (B, 3)))
    return recon.requires_grad_(), x.sigmoid(), mu.requires_grad_(), logvar.requires_grad_()


def terms_of(*batch, **settings):
    return vk.fused_elbo(*batch, return_terms=True, **settings)


def same(ours, theirs):
    assert type(ours) is type(theirs) is vk.ElboTerms
    torch.testing.assert_close([ours.loss, *ours.parts()], [theirs.loss, *theirs.parts()])


def test_a_dataclass(batch, backend):
    terms = terms_of(*batch, backend=backend)
    assert dataclasses.is_dataclass(terms) and [f.name for f in dataclasses.fields(terms)] == NAMES
    other = dataclasses.replace(terms, loss=terms.loss.detach() + 1)
    assert type(other) is vk.ElboTerms and torch.equal(other.nll, terms.nll) and other.loss == terms.loss + 1
    assert other.packed()[0][0] == other.loss and torch.equal(other.packed()[0][1:], terms.packed()[0][1:])
    for name in (*NAMES, "_packed"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(terms, name, None)
    with pytest.raises(AttributeError, match="'ElboTerms' object has no attribute 'nlll'"):
        terms_of(*batch, backend=backend).nlll  # noqa: B018
    assert terms == terms and terms != terms_of(*batch) and {terms: 1}[terms] == 1


def test_only_the_loss_has_a_gradient(batch):
    terms = vk.ElboTerms(*(t.sum(1) for t in batch))
    assert terms.loss.requires_grad and not any(t.requires_grad for t in terms.parts())


def test_copies(batch, backend):
    with torch.no_grad():
        terms = terms_of(*batch, backend=backend)
    for twin in (copy.copy(terms), copy.deepcopy(terms), pickle.loads(pickle.dumps(terms))):
        same(twin, terms)
        assert torch.equal(twin.packed()[0], terms.packed()[0])


def test_a_pytree(batch, backend):
    terms = terms_of(*batch, backend=backend)
    leaves, spec = pytree.tree_flatten(terms)
    assert [leaf.shape for leaf in leaves] == [(), (B,), (B,), (3,)]
    same(pytree.tree_unflatten(leaves, spec), terms)
    assert pytree.tree_map(lambda t: t.dim(), terms).parts() == (1, 1, 1)
    keys = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(terms)[0]]
    assert keys == [f".{name}" for name in NAMES[:4]]  # neither a table nor iwae: the others are None, and no leaves
    of_sums = terms_of(*batch[:2], kl=torch.ones(B), backend=backend)  # a kl of [B] gives no kl_per_dim
    assert pytree.tree_map_with_path(lambda path, t: t.dim(), of_sums).kl_per_dim is None


def test_vmap_and_grad(batch):
    many = [torch.stack((t.detach(), 2 * t.detach())) for t in batch]
    mapped = torch.func.vmap(terms_of)(*many)
    for i in range(2):
        same(pytree.tree_map(lambda t, i=i: t[i], mapped), terms_of(*(t[i] for t in many)))
    of_sums = torch.func.vmap(lambda recon, x, kl: terms_of(recon, x, kl=kl))(*many[:2], torch.ones(2, B))
    assert of_sums.kl_per_dim is None and of_sums.nll.shape == (2, B)

    def loss_and_terms(*batch):
        terms = terms_of(*batch)
        return terms.loss, terms

    grad, terms = torch.func.grad(loss_and_terms, has_aux=True)(*batch)
    same(terms, terms_of(*batch))
    torch.testing.assert_close(grad, torch.autograd.grad(terms_of(*batch).loss, batch[0])[0])


@pytest.mark.full
@pytest.mark.parametrize("reads", [False, True])
def test_a_compiled_module(batch, reads):
    """Terms may leave a compiled graph, and a graph may read and replace terms. test_compile.py tests the gradients."""
    module = vk.FusedELBO(beta=0.5)

    def step(*batch):
        terms = module(*batch, return_terms=True)
        if reads:
            terms = dataclasses.replace(pytree.tree_map(lambda t: 2 * t, terms), kl=terms.kl + terms.nll)
        return terms

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(*batch)
    same(compiled, step(*batch))
    assert compiled.loss.requires_grad and not compiled.kl.requires_grad
    summed = torch.compile(lambda terms: terms.nll.sum() + terms.loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(summed(compiled), compiled.nll.sum() + compiled.loss)  # terms may also enter a graph


class Step(torch.nn.Module):
    def forward(self, *batch):
        return terms_of(*batch, backend="torch")


def test_an_exported_module(batch):
    batch = tuple(t.detach() for t in batch)
    program = torch.export.export(Step(), batch)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for exported in (program, torch.export.load(file)):
        same(exported.module()(*batch), terms_of(*batch))
