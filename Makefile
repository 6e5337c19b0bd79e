# Two commands matter: `make demo` and `make test`. Both do all set-up by themselves.

VENV := .venv
PYTHON := $(VENV)/bin/python
# Where pip takes PyTorch from; empty is PyPI, whose Linux build brings gigabytes of CUDA.
# Without a GPU: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: setup demo test lint format constraints clean

setup: $(VENV)/.setup ## .venv with the `mlops` command, and what it needs from the system

demo: setup ## the main job, in front of your eyes
	@$(VENV)/bin/mlops demo

test: $(VENV)/.setup-dev ## every test
	$(PYTHON) -m pytest

lint: $(VENV)/.setup-dev ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.setup-dev ## put the code in order
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

constraints: $(VENV)/.setup-dev ## write constraints.txt from what is installed
	$(VENV)/bin/pip freeze --exclude-editable | sed -E 's/(==[^+]+)\+.*/\1/' > constraints.txt

clean: ## remove .venv and the caches; data in .mlops stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.setup: pyproject.toml constraints.txt infra/local/setup.sh
	@sh infra/local/setup.sh $(VENV) "local,train-pytorch" "$(TORCH_INDEX)"
	@touch $@

$(VENV)/.setup-dev: pyproject.toml constraints.txt infra/local/setup.sh
	@sh infra/local/setup.sh $(VENV) "dev" "$(TORCH_INDEX)"
	@touch $(VENV)/.setup $@
