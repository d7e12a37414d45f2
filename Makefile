# mutoscope
#
#   make demo   a fresh clone to a video: sets up .venv, writes rain.mp4
#   make test   everything that must hold: lint, types, import floors, size laws, tests
#   make lint   the first four of these
#   make slow   the tests that take longer
#   make clean  removes .venv and caches
#
# Needs Python 3.11 or newer, make and git; everything else goes into .venv.
#
# On Linux the PyTorch of PyPI is the CUDA build (about 2.7 GB). Without a GPU, take PyTorch's CPU build:
#
#   make demo PIP_EXTRA="--extra-index-url https://download.pytorch.org/whl/cpu"
#
# Other variables: PYTHON (which interpreter makes .venv), VENV (where), WORKERS (test processes),
# ARGS (more arguments for pytest: make test ARGS="tests/diffusion -x").

VENV      ?= .venv
PIP_EXTRA ?=
WORKERS   ?= auto
ARGS      ?=

# The first Python that is new enough and can make environments; the oldest first, since it is the one pinned for.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --quiet --no-input --disable-pip-version-check
TORCH  := $(shell grep '^torch==' constraints.txt)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --strict-skips

.PHONY: demo test lint tests slow clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/mutoscope generate "a man walking in the rain" --output rain.mp4

test: lint tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tools/laws.py
	$(BIN)/pyright --pythonpath $(BIN)/python

tests: $(VENV)/.installed-dev
	$(PYTEST) $(ARGS)

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# torch goes first and alone: whichever build pip is set up to prefer, a pin that names no build accepts it.
$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer (with venv) found. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	@echo "Setting up $(VENV) with $(PYTHON): $(TORCH), then the rest (some minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(TORCH) $(PIP_EXTRA)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	@$(PIP) --constraint constraints.txt --editable . $(PIP_EXTRA)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml constraints.txt
	@$(PIP) --constraint constraints.txt --editable '.[dev]' $(PIP_EXTRA)
	@touch $@ $(VENV)/.installed
