"""A VAE for a real table, in Python: which columns it explains, and new rows.

    pip install statsmodels && python examples/table.py

The table is a survey of 6,366 women that statsmodels ships (Fair 1978, "A theory of extramarital affairs"): numbers,
such as the age, and codes, such as the occupation. `vae-kernels train --data table.csv --likelihood mixed` does the
same for a file (docs/tables.md).
"""

import torch
from torch import nn

import vae_kernels as vk

CATEGORIES = "rate_marriage", "religious", "educ", "occupation", "occupation_husb"


def survey():
    """(x [6366, 9] float32, numbers scaled and categories as codes; the likelihood; the names of the columns)"""
    import statsmodels.api as sm

    table = sm.datasets.fair.load_pandas().data
    columns = []
    for name in table:
        if name in CATEGORIES:
            table[name] = table[name].astype("category").cat.codes
            columns.append(("categorical", int(table[name].max()) + 1))
        else:
            table[name] = (table[name] - table[name].mean()) / table[name].std()
            columns.append("gaussian")
    x = torch.tensor(table.to_numpy("float32"))
    return x, vk.likelihoods.Mixed(tuple(columns), codes=True), list(table)


class OneHot(nn.Module):
    """Codes -> one-hot numbers, for the encoder."""

    def __init__(self, table):
        super().__init__()
        self.sizes = [column[1] if column[0] == "categorical" else 1 for column in table.columns]

    def forward(self, x):
        columns = zip(x.unbind(1), self.sizes, strict=True)
        return torch.cat([nn.functional.one_hot(c.long(), n) if n > 1 else c[:, None] for c, n in columns], 1)


class WithScale(nn.Module):
    """packed -> (packed, logscale): one learned scale for each column."""

    def __init__(self, columns):
        super().__init__()
        self.logscale = nn.Parameter(torch.zeros(columns))

    def forward(self, packed):
        return packed, self.logscale


def train(epochs=40, batch=256, latents=6, hidden=128, log=print, data=None):
    """(the VAE, the held-out rows, the names of the columns)"""
    torch.manual_seed(0)
    x, table, names = data or survey()
    x = x[torch.randperm(len(x))]
    x, test = x[: -len(x) // 10], x[-len(x) // 10 :]
    width, latents_of = table.width, [nn.Linear(hidden, 2 * latents)]
    encoder = nn.Sequential(OneHot(table), nn.Linear(width, hidden), nn.ReLU(), *latents_of)
    decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, width), WithScale(len(names)))
    vae = vk.VAE(encoder, decoder, likelihood=table, latent_shape=latents)
    optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)
    for epoch in range(epochs):
        for rows in x[torch.randperm(len(x))].split(batch):
            loss = vae.loss(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 9:
            log(f"epoch {epoch + 1}: -ELBO {vae.loss(test).item():.2f} nats per row")
    return vae, test, names


def main():
    vae, test, names = train()
    for column in vk.diagnose(vae, test).measures.columns:
        error = "" if column.explained else " (not explained)"
        print(f"{names[column.number]:16} {column.kind:12} {column.gain:6.3f} of {column.alone:6.3f} nats{error}")
    drawn = vae.likelihood.sample(vae.decode(vae.sample_prior(5)))
    print(drawn)


if __name__ == "__main__":
    main()
