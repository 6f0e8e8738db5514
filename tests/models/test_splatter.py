"""The simulator of examples/splatter.py draws from the distributions that its docstring names."""

import numpy as np
import places
import pytest
from places import EXAMPLES

stats = pytest.importorskip("scipy.stats", reason="scipy, which has the distributions, is not installed")
PATH = EXAMPLES / "splatter.py"
if not PATH.exists():
    pytest.skip("the tests run without the source tree beside them: there is no examples/", allow_module_level=True)

splatter = places.module(PATH)

# A wrong simulator gives p-values of 1e-10 and less. The seed is fixed, so a right simulator passes always.
P = 1e-4


def nbinom(counts):
    means = counts.means(np.arange(len(counts.library)))
    bcv = (0.1 + 1 / np.sqrt(means)) * counts.variation
    return stats.nbinom(1 / bcv**2, 1 / (1 + means * bcv**2))


def test_a_count_is_negative_binomial_given_its_cell():
    counts = splatter.simulate(3000, 40, seed=0, dropout=None)
    x, nb = counts.x.toarray(), nbinom(counts)
    v = np.random.default_rng(1).random(x.shape)
    u = nb.cdf(x - 1) + v * nb.pmf(x)  # if x has this distribution, u is uniform, over all genes and for each gene
    assert stats.kstest(u.ravel(), "uniform").pvalue > P
    assert min(stats.kstest(of_gene, "uniform").pvalue for of_gene in u.T) > P / 40


@pytest.mark.full
def test_dropout_keeps_what_the_logistic_says():
    counts = splatter.simulate(4000, 40, seed=2, n_groups=1, library=(6.0, 0.0), dropout=1.0)
    mean, bcv = counts.means([0])[0], counts.bcv(counts.means([0]))[0]
    middle = (np.arange(20000)[:, None] + 0.5) / 20000
    rate = stats.gamma(1 / bcv**2, scale=mean * bcv**2).ppf(middle)  # the Poisson's rate decides about the dropout
    kept = rate / (rate + np.e)
    first, second = (kept * rate).mean(axis=0), (kept * (rate + rate**2)).mean(axis=0)
    z = (counts.x.toarray().mean(axis=0) - first) / np.sqrt((second - first**2) / 4000)
    common = first > 0.1  # here the mean of 4000 draws is nearly normal
    assert common.sum() > 20
    assert stats.chi2(common.sum()).sf((z[common] ** 2).sum()) > P


def test_cells():
    counts = splatter.simulate(3000, 500, seed=3, n_groups=3, library=(5.0, 0.3))
    assert stats.kstest(np.log(counts.library), "norm", (5.0, 0.3)).pvalue > P
    assert stats.chisquare(np.bincount(counts.group)).pvalue > P
    assert (counts.means([7])[0] == counts.library[7] * counts.shares[counts.group[7]]).all()


def test_genes():
    counts = splatter.simulate(1, 60000, seed=4, n_groups=3)
    np.testing.assert_allclose(counts.shares.sum(axis=1), 1)
    assert stats.kstest(60 / counts.variation**2, "chi2", (60,)).pvalue > P
    changes = np.log(counts.factors[counts.factors != 1])
    assert stats.binomtest(len(changes), counts.factors.size, 0.1).pvalue > P
    assert stats.binomtest((changes > 0).sum(), len(changes), 0.5).pvalue > P
    assert stats.kstest(abs(changes), stats.foldnorm(0.1 / 0.4, scale=0.4).cdf).pvalue > P
    means = counts.shares / counts.factors  # the means of the genes, up to one constant for each group
    means /= means[:, :1]
    np.testing.assert_allclose(means, means[[0, 0, 0]])
    # An outlier is tens of times the median, so no outlier is below the median. The other 0.95 of the genes are gamma.
    levels = np.arange(1, 10) / 20
    ratio = np.quantile(means[0], levels) / stats.gamma(0.6).ppf(levels / 0.95)
    assert np.ptp(ratio) < 0.1 * ratio.mean()
    assert abs((means[0] > 20 * np.median(means[0])).mean() / 0.05 - 1) < 0.1


def test_the_seed_decides():
    x = splatter.simulate(300, 20, seed=5).x
    assert x.dtype == np.float32 and (x.data > 0).all() and (x.data == np.rint(x.data)).all()
    assert (x != splatter.simulate(300, 20, seed=5).x).nnz == 0
    assert (x != splatter.simulate(300, 20, seed=6).x).nnz > 0
