"""Adapters for the losses of packages for graphs and for probabilistic programs: torch-geometric, pyro-ppl."""

import torch

from .case import Loss, batch, case, std


@case("torch-geometric", "VGAE.recon_loss + VGAE.kl_loss / N")
def vgae():
    from torch_geometric.nn import VGAE

    class Decoder(torch.nn.Module):
        logits = None

        def forward(self, z, edges, sigmoid):
            return torch.sigmoid(self.logits[edges[0], edges[1]])

    model = VGAE(torch.nn.Identity(), Decoder())

    def loss(recon, x, mu, logvar):
        model.decoder.logits = recon
        nodes = len(x)
        return model.recon_loss(mu, x.nonzero().T, (x == 0).nonzero().T) + model.kl_loss(mu, logvar / 2) / nodes

    nodes = 16
    x = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(nodes, nodes // 4)  # one half are edges, also in every second column
    recon, _, mu, logvar = batch(nodes, samples=nodes)
    return Loss(
        VGAE.kl_loss,
        loss,
        (recon, x, mu, logvar),
        "as many edges as pairs without an edge, all of them in the loss",
        lambda mu, logvar: model.reparametrize(mu, logvar / 2),
        "imported; the sum re-typed",
        note="the package has the two terms. Their sum, with 1 / N for N nodes, is that of its examples/autoencoder.py "
        "(commit 09b3e0c). recon_loss is a mean over the edges plus a mean over as many pairs without an edge: with E "
        "edges the effective beta is E / N^2, and here E is N^2 / 2",
    )


def pyro(name):
    import pyro as package
    import pyro.distributions as dist
    from pyro import infer

    objective = getattr(infer, name)()

    def loss(recon, x, mu, logvar):
        def model():
            with package.plate("samples", len(x)):
                package.sample("z", dist.Normal(torch.zeros_like(mu), 1.0).to_event(1))
                package.sample("x", dist.Bernoulli(logits=recon, validate_args=False).to_event(1), obs=x)

        def guide():
            with package.plate("samples", len(x)):
                package.sample("z", dist.Normal(mu, std(logvar)).to_event(1))

        return objective.differentiable_loss(model, guide)

    note = "the model and the guide stand in the adapter: Bernoulli pixels, the prior N(0, I), a plate over the batch"
    return Loss(type(objective).differentiable_loss, loss, batch(49, x="binary"), "", note=note)


@case("pyro-ppl", "TraceMeanField_ELBO")
def trace_mean_field():
    return pyro("TraceMeanField_ELBO")


@case("pyro-ppl", "Trace_ELBO")
def trace():
    return pyro("Trace_ELBO")
