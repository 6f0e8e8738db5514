"""Simulates counts of single cells whose structure is known, by the model of Splatter, from a seed.

Zappia, Phipson & Oshlack 2017, "Splatter: simulation of single-cell RNA sequencing data",
doi:10.1186/s13059-017-1305-0, "The Splat model", with its defaults, except that the library has the size of a 10x
experiment:

    gene means      lambda_i ~ Gamma(shape 0.6, rate 0.3); one in 20 is the median times a large factor
    groups          with probability 0.1 a gene of a group is raised or lowered by a factor, with equal odds
    library sizes   L_j ~ LogNormal(library)
    cell means      lambda'_ij = L_j * p_ij, with p_ij the share of gene i in its group: sum_i p_ij = 1
    variation       B_ij = (0.1 + 1 / sqrt(lambda'_ij)) * sqrt(60 / chi2_i),   chi2_i ~ ChiSquared(60) for each gene
                    lambda_ij ~ Gamma(shape 1 / B_ij^2, mean lambda'_ij)
    counts          Y_ij ~ Poisson(lambda_ij)
    dropout         Y_ij is kept with probability 1 / (1 + exp(-(log(lambda_ij) - midpoint)))

So without dropout, a count is negative binomial for a given lambda'_ij: mean lambda', variance lambda' + (B lambda')^2.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse


@dataclass(frozen=True)
class Counts:
    x: scipy.sparse.csr_matrix  # [cells, genes] float32 counts
    group: np.ndarray  # [cells] 0 .. n_groups - 1
    library: np.ndarray  # [cells] L_j
    shares: np.ndarray  # [n_groups, genes] p of each group
    factors: np.ndarray  # [n_groups, genes] differential expression; 1 where a gene does not differ
    variation: np.ndarray  # [genes] sqrt(60 / chi2_i)

    def means(self, cells):
        """lambda' of these cells, [cells, genes]."""
        return self.library[cells, None] * self.shares[self.group[cells]]

    def bcv(self, means):
        """B of these means, the biological coefficient of variation."""
        return (0.1 + 1 / np.sqrt(means)) * self.variation


def simulate(n_cells, n_genes, *, seed, n_groups=4, library=(9.0, 0.4), dropout=0.0):
    """Counts of n_cells cells and n_genes genes. The same arguments give the same counts.

    Args:
        library: mean and standard deviation of log L.
        dropout: the midpoint, the log mean at which half of the counts are dropped; None drops none.
    """
    rng = np.random.default_rng(seed)
    gene_means = rng.gamma(0.6, 1 / 0.3, n_genes)
    outlier = rng.random(n_genes) < 0.05
    gene_means[outlier] = np.median(gene_means) * rng.lognormal(4.0, 0.5, outlier.sum())
    factors = np.ones((n_groups, n_genes))
    changed = rng.random(factors.shape) < 0.1
    up = np.exp(np.abs(rng.normal(0.1, 0.4, changed.sum())))
    factors[changed] = np.where(rng.random(up.shape) < 0.5, up, 1 / up)
    shares = gene_means * factors
    shares /= shares.sum(axis=1, keepdims=True)
    counts = Counts(
        scipy.sparse.csr_matrix((0, n_genes), dtype=np.float32),
        rng.integers(n_groups, size=n_cells),
        rng.lognormal(*library, n_cells),
        shares,
        factors,
        np.sqrt(60 / rng.chisquare(60, n_genes)),
    )
    blocks = [_counts(counts, np.arange(i, min(i + 256, n_cells)), dropout, rng) for i in range(0, n_cells, 256)]
    return Counts(**{**counts.__dict__, "x": scipy.sparse.vstack(blocks, format="csr")})


def _counts(counts, cells, dropout, rng):
    """The counts of a block of cells. The dense means of all cells would not fit into memory."""
    means = counts.means(cells)
    squared = counts.bcv(means) ** 2
    means = rng.gamma(1 / squared, means * squared)
    x = rng.poisson(means).astype(np.float32)
    if dropout is not None:
        x *= rng.random(x.shape) * (1 + np.exp(dropout) / np.maximum(means, 1e-300)) < 1
    return scipy.sparse.csr_matrix(x)
