# Two commands matter: `make demo` and `make test`. Both do all set-up by themselves.

VENV := .venv
PYTHON := $(VENV)/bin/python
# Where pip takes PyTorch from; empty is PyPI, whose Linux build brings gigabytes of CUDA.
# Without a GPU: make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

# SAM wants a region even where it asks AWS for nothing.
AWS_TOOLS := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-central-1}

.PHONY: setup demo test lint lint-aws sam-build format constraints clean

setup: $(VENV)/.setup ## .venv with the `mlops` command, and what it needs from the system

demo: setup ## the main job, in front of your eyes
	@$(VENV)/bin/mlops demo

test: $(VENV)/.setup-dev .venv-cloud/.setup ## every test
	@sh tests/aws/setup.sh $(PYTHON)
	$(PYTHON) -m pytest

lint: $(VENV)/.setup-dev lint-aws ## ruff, mypy, and the template
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lint-aws: .venv-cloud/.setup ## the template: cfn-lint, SAM, checkov
	.venv-cloud/bin/cfn-lint template.yaml infra/aws/*.yaml
	$(AWS_TOOLS) .venv-cloud/bin/sam validate --lint
	.venv-cloud/bin/python infra/aws/security_lint.py .venv-checkov/bin/checkov

sam-build: .venv-cloud/.setup ## the functions' packages, with their sizes
	@$(AWS_TOOLS) .venv-cloud/bin/sam build

format: $(VENV)/.setup-dev ## put the code in order
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

constraints: $(VENV)/.setup-dev ## write constraints.txt from what is installed
	$(VENV)/bin/pip freeze --exclude-editable | sed -E 's/(==[^+]+)\+.*/\1/' > constraints.txt

clean: ## remove what was installed and the caches; data in .mlops stays
	rm -rf $(VENV) .venv-cloud .venv-checkov .aws-sam .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.setup: pyproject.toml constraints.txt infra/local/setup.sh
	@sh infra/local/setup.sh $(VENV) "local,train-pytorch" "$(TORCH_INDEX)"
	@touch $@

$(VENV)/.setup-dev: pyproject.toml constraints.txt infra/local/setup.sh
	@sh infra/local/setup.sh $(VENV) "dev" "$(TORCH_INDEX)"
	@touch $(VENV)/.setup $@

.venv-cloud/.setup: infra/aws/sam.txt infra/aws/checkov.txt infra/aws/setup.sh
	@sh infra/aws/setup.sh
	@touch $@
