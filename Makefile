# Every target sets itself up: a virtual environment in .venv, reused when it is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed

.PHONY: setup demo test check docs format try gallery all

all: check test

setup: $(STAMP)

# What the commands need; the demo waits for no more.
$(RUNS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $(RUNS)

$(STAMP): $(RUNS)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,dicom,docs,onnx,openvino,cluster,cloud,federated,mlflow,deploy]"
	touch $(STAMP)

demo: $(RUNS)
	$(BIN)/monai-transfer demo --output demo

test: setup
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) docs

# Into site/, without a warning; every public name has its entry in the reference.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel alone in an empty environment, as somebody new would: install, demo, a DICOM folder (make try PYTHON=python3.12).
try:
	.ci/try_wheel.sh $(PYTHON)

# The reports in docs/gallery, of generated people.
gallery: setup
	.ci/gallery.sh $(BIN)/monai-transfer
