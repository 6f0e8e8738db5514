"""Random calls and broken files must give the right result or an error of one sentence, never a wrong result or a crash
(fuzz_arguments.py, fuzz_readers.py). The seeds are fixed; `python tests/soak/fuzz.py` tries many others."""

import fuzz_arguments
import fuzz_models
import fuzz_readers
import pytest


def test_arguments():
    good, found = fuzz_arguments.run(seed=0, count=1000)
    assert not found, found[:5]
    assert good == 1000


def test_models():
    good, found = fuzz_models.run(seed=0, count=1500)
    assert not found, found[:5]
    assert good == 1500


def test_the_models_of_the_fuzzer_have_all_arguments():
    """An argument that the fuzzer does not know is never made wrong."""
    known = {
        "log_marginal_likelihood": {"condition"},
        "iwae": {"moments"},
        "capacity": {"group"},  # group: a process group (test_ranks.py)
        "free_bits": {"group"},
    }
    devices = {"device", "dtype", "backend"}
    found = {name: missing - devices for name, missing in fuzz_models.all_arguments().items()}
    assert {name: missing for name, missing in found.items() if missing - known.get(name, set())} == {}


@pytest.mark.full
def test_readers(tmp_path):
    good, found = fuzz_readers.run(0, 300, tmp_path)
    assert not found, found[:5]
    assert good == 300
