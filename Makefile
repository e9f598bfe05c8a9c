# make demo   from a fresh machine (Python, pip, make) to a trained, evaluated detector on synthetic mammograms
# make test   from a fresh machine to a green test run
# make test-fast   the same without the tests that take 5 seconds or more
# make lint   ruff and mypy
# make docs   the documents as a site, build/site/index.html
# make test-detectron2   the whole suite on detectron2, where it is installed
#
# The environment is the active virtual environment, else .venv in this folder, made on first use.

SHELL := /bin/bash
BASE_PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.mammo_d2-installed
DEMO_DIR ?= output/demo

.PHONY: demo test test-fast test-detectron2 docs lint environment clean

environment: $(STAMP)

$(STAMP): setup.py pyproject.toml
	@test -x $(PYTHON) || $(BASE_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

demo: $(STAMP)
	$(PYTHON) -m mammo_d2 demo --output $(DEMO_DIR)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2

test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m "not slow"

test-detectron2: $(STAMP)
	@$(PYTHON) -c "import detectron2" 2>/dev/null || { echo "detectron2 is not installed in $(VENV): see its installation page, https://detectron2.readthedocs.io/en/latest/tutorials/install.html"; exit 1; }
	MAMMO_D2_ENGINE=detectron2 OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2

docs: $(STAMP)
	$(PYTHON) -m sphinx -q -W --keep-going -c docs -b html . build/site

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf build dist *.egg-info output
