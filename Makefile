PYTHON ?= python3

.PHONY: site
site: # the documentation, in build/site. A warning, such as of a link that leads to nothing, is an error
	$(PYTHON) -m mkdocs build --strict -f docs/site/mkdocs.yml

.PHONY: notebooks
notebooks: # executes the notebooks of examples/, and writes their outputs into the files
	OMP_NUM_THREADS=1 $(PYTHON) examples/execute_notebooks.py

# The tests that take too long for .ci/run. Each target writes its figures to bench/results/reliability/, and
# docs/reliability.md shows these figures.
# From the oldest that works to the one before the newest. .ci/run tests the newest, and samples of two others.
OTHER_TRITONS ?= 3.6.0 3.7.1 3.8.0
TRITON_ARCHS ?= 80,90,100

.PHONY: soak
soak: soak-cases soak-properties soak-large soak-leak soak-kills soak-processes soak-fuzz soak-guided soak-sanitizers soak-mutants soak-triton soak-scvi soak-ctgan

.PHONY: soak-cases
soak-cases:
	pytest --full -n auto --dist loadfile

.PHONY: soak-properties soak-large soak-leak soak-kills soak-processes
soak-properties soak-large soak-leak soak-kills soak-processes: soak-%:
	cd tests && $(PYTHON) -m soak.$*

.PHONY: soak-fuzz soak-guided soak-sanitizers soak-mutants soak-triton soak-scvi soak-ctgan
soak-fuzz:
	$(PYTHON) tests/soak/fuzz.py 600
soak-guided: # needs: pip install atheris
	$(PYTHON) tests/soak/guided.py 600
soak-sanitizers:
	$(PYTHON) tests/support/sanitizers.py
soak-mutants:
	$(PYTHON) tests/soak/mutate.py
soak-triton: $(OTHER_TRITONS:%=soak-triton-%) # all kernels for five architectures, by the installed Triton and by others
	TRITON_ARCHS=$(TRITON_ARCHS) pytest --full tests/gpu/test_triton_aot.py tests/gpu/test_triton_others.py
	VAE_KERNELS_SLOW=1 pytest tests/gpu/test_triton_kernels.py::test_many_latents
soak-triton-%: # the gates of the compiled kernels, and the host's side of a launch, under Triton %
	$(PYTHON) -m pip install --quiet --no-deps --target build/triton-$* triton==$*
	TRITON_PATH=$(CURDIR)/build/triton-$* TRITON_ARCHS=$(TRITON_ARCHS) pytest --full tests/gpu/test_triton_aot.py \
	  tests/gpu/test_triton_others.py tests/gpu/test_triton_launch.py tests/gpu/test_triton_constants.py
soak-scvi: # scvi-tools' own tests with attach(), for two versions; our own tests with the newer version
	cd tests && $(PYTHON) -m soak.scvi_tools 1.4.2
	cd tests && $(PYTHON) -m soak.scvi_tools 1.5.1
	cd tests && $(PYTHON) -m soak.scvi_tools 1.5.1 --ours

soak-ctgan: # ctgan's own tests of TVAE with attach(), and our own tests
	cd tests && $(PYTHON) -m soak.ctgan
