"""docs/atlas.md, made from bench/results/atlas/losses.csv."""


def text(rows):
    return ""
