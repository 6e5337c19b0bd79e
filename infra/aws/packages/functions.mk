# `sam build` runs `make build-{logical id}` in the repository's root and takes what it finds in
# ARTIFACTS_DIR. PYTHON may be any Python from 3.11 on that has pip.
PYTHON ?= python3

build-%:
	@$(PYTHON) infra/aws/packages/build.py $* --architecture $(ARCHITECTURE) --into "$(ARTIFACTS_DIR)"
