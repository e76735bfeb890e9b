# Two commands do everything: `make demo` and `make test`. Each sets up .venv first, where it is not up to date.
# Debian: apt install gcc make python3-venv python3-dev (Python 3.11 or later)

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

help:
	@echo "make demo    the whole job on a generated corpus, in 4 to 7 minutes on two cores: prepare, train, fine-tune, test"
	@echo "make test    the test suite"
	@echo "make test-extras    export to other runtimes, scoring on a Dask cluster: no part of make test, since it takes minutes more"
	@echo "make test-jax    what runs on Keras on JAX, several devices among it: some minutes; installs JAX into $(VENV)/jax"
	@echo "make faults  kills, full disks, malformed inputs, hostile files by the hundred: a quarter of an hour; no part of make test"
	@echo "make bench   speed and memory beside PyTorch and the plain metric packages (installs torch)"
	@echo "make clean   delete what demo and test have made: data/demo, runs/demo, caches; .venv stays"

demo: $(VENV)/installed
	$(RUN) demo.py $(ARGS)

# Converters and a Dask cluster take minutes of their own; continuous integration runs both parts.
EXTRAS := tests/export/test_exported.py tests/scoring/test_cluster.py

test: $(VENV)/installed-tests
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(EXTRAS)) $(ARGS)

test-extras: $(VENV)/installed-tests
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(EXTRAS) $(ARGS)

# The part that continuous integration runs with KERAS_BACKEND=jax: every network, devices and hosts, losses. The rest takes many
# minutes, since JAX compiles each shape: make test-jax JAX_TESTS="tests/models tests/losses tests/hearing"
# JAX lies in a folder of its own: the suite on TensorFlow stays without it.
NORMALISED := tests/models/test_spectral_normalization.py
JAX_TESTS := tests/models/test_every_backend.py tests/training/test_devices.py \
	$(NORMALISED)::test_power_iteration_matches_the_golden_values \
	$(NORMALISED)::test_ten_updates_are_those_of_a_plain_network_normalised_by_hand \
	$(NORMALISED)::test_on_jax_a_model_that_would_lose_its_kernels_says_so $(NORMALISED)::test_frozen_stays_frozen_through_fit \
	tests/losses/test_compressed.py tests/losses/test_waves.py

test-jax: $(VENV)/installed-jax
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu PYTHONPATH=$(abspath $(VENV)/jax) JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV)/jax-compiled) \
		JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
		$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(JAX_TESTS) $(ARGS)

faults: $(VENV)/installed-tests
	$(RUN) tests/faults/campaign.py $(ARGS)

bench: $(VENV)/installed-benchmarks
	$(RUN) benchmarks/run.py $(ARGS)

clean:
	rm -rf data/demo runs/demo .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

# The stamps are written last: an installation that was interrupted is taken up again, one that is up to date is left alone.
$(VENV)/installed: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "error: $(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.11 ..." >&2; exit 2; }
	@command -v gcc > /dev/null || \
		{ echo "error: gcc is missing, which compiles pesq; on Debian: apt install gcc python3-dev" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV): some minutes, about 3 GB"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-tests: requirements-extras.txt tests/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-extras.txt -r tests/requirements.txt
	@touch $@

$(VENV)/installed-jax: tests/requirements-jax.txt $(VENV)/installed-tests
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/jax -r tests/requirements-jax.txt
	@touch $@

$(VENV)/installed-benchmarks: benchmarks/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

.PHONY: help demo test test-extras test-jax faults bench clean
