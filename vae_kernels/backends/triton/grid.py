"""How the programs of a launch share out a matrix."""

FOUR_TILES, SIXTEEN_TILES = 1 << 20, 1 << 26
"""From so many elements on, a program goes through four tiles, and through sixteen."""


class Tiles:
    """How programs cover a matrix: r rows and c columns, and `steps` tiles side by side, or below one another (down).

    flat: the matrix is read as one row. most_steps: the kernel goes through no more tiles than these.
    Nothing here depends on the GPU: the sums, and so the bits, are the same on every GPU. r and c do not depend on the
    number of rows, and `steps` changes with the number of rows at two sizes only. So a batch of another size finds its
    kernel compiled."""

    def __init__(self, rows, cols, flat=False, down=False, tile=1024, most_steps=16):
        n = rows * cols
        self.rows, self.cols, self.flat, self.down = (1, n, True, False) if flat else (rows, cols, False, down)
        self.c = tile if flat else min(power_of_two(self.cols), tile)
        self.r = tile // self.c
        self.steps = min(1 if n < FOUR_TILES else 4 if n < SIXTEEN_TILES else 16, most_steps)
        if down:
            self.steps = 8  # in a small batch some tiles are empty; that costs less than a kernel for each size
        elif self.c * self.steps > self.cols:
            self.steps = 1
        self.pieces = max(1, -(-self.cols // (self.c * (1 if down else self.steps))))
        self.row_blocks = max(1, -(-self.rows // (self.r * (self.steps if down else 1))))
        self.blocks = self.pieces * self.row_blocks


def latent_tiles(rows, cols):
    """The tiles of the kernels of latents: a program has one tile."""
    return Tiles(rows, cols, tile=512, most_steps=1)


def power_of_two(n):
    """The smallest power of two that is not less than n."""
    return 1 << max(n - 1, 0).bit_length()


def pieces_at_once(*tiles):
    """How partial sums are added up: for each of the tiles how many pieces of a row are read together, then how many
    rows."""
    pieces = [min(power_of_two(t.pieces), 64) for t in tiles]
    return *pieces, 256 // max(pieces)
