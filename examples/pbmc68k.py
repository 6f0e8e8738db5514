"""Counts of 700 blood cells, 765 genes, that come with scanpy (a dependency of scvi-tools): nothing is downloaded.

They are a part of the 68k PBMCs of Zheng et al. 2017, "Massively parallel digital transcriptional profiling of single
cells", doi:10.1038/ncomms14049. scanpy's file has log(1 + count * factor of the cell), rounded: the least
value of a cell is a count of 1, and the others are multiples of it.
"""

import numpy as np
import scanpy
import scipy.sparse


def pbmc68k():
    """[700, 765] float32 counts, CSR."""
    x = scipy.sparse.csr_matrix(scanpy.datasets.pbmc68k_reduced().raw.X, dtype=np.float64).expm1()
    one = np.array([x[i].data.min() for i in range(x.shape[0])])
    counts = scipy.sparse.csr_matrix(x.multiply(1 / one[:, None]))
    wrong = abs(counts.data - np.rint(counts.data)).max()
    if wrong > 0.25:
        raise ValueError(f"pbmc68k: got values {wrong:.2f} from a whole number of counts, expected them near one")
    counts.data = np.rint(counts.data).astype(np.float32)
    return counts.astype(np.float32)
