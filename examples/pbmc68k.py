"""The counts of 765 genes in 700 blood cells. scanpy (a dependency of scvi-tools) has the file: nothing is downloaded.

The cells are a part of the 68k PBMCs of Zheng et al. 2017, "Massively parallel digital transcriptional profiling of
single cells", doi:10.1038/ncomms14049. scanpy's file has log(1 + count * factor of the cell), rounded. So the smallest
value of a cell stands for a count of 1, and every other value of the cell stands for a multiple of it.
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
