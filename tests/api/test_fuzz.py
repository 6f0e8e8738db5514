"""Random calls and broken files: never another answer than the right one, or a sentence (fuzz_arguments.py,
fuzz_readers.py). The seeds are fixed; other ones, and many: python tests/soak/fuzz.py."""

import fuzz_arguments
import fuzz_readers


def test_arguments():
    good, found = fuzz_arguments.run(seed=0, count=1000)
    assert not found, found[:5]
    assert good == 1000


def test_readers(tmp_path):
    good, found = fuzz_readers.run(0, 300, tmp_path)
    assert not found, found[:5]
    assert good == 300
