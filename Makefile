# PYTHON=/path/to/python3.11 chooses another interpreter (3.11 or later).
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --constraint requirements/constraints.txt
KSERVE_STORAGE = $(shell sed -n 's/^\(kserve-storage==[^ ]*\).*/\1/p' requirements/pipeline.txt)
TORCH_CPU_INDEX = https://download.pytorch.org/whl/cpu

VERSION = $(shell sed -n 's/^version = "\([^"]*\)".*/\1/p' pyproject.toml)
IMAGE = alexnet-torchserve:$(VERSION)

.PHONY: setup demo test test-quick lint format bench classifiers reliability cluster-test audit sbom image

# .venv with everything that the other targets need
setup: .venv/.ready

# the whole path on this machine: package, publish, pull, serve, predict a photograph, stop
demo: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline demo

# all tests, in two processes: in the first minute those that need no server, then the rest, for about twenty minutes
test: setup .venv-checkov/.ready
	@echo "first what needs no server, about a minute; then the rest, about twenty minutes"
	$(BIN)/python -m pytest -n 2

# the first minute alone
test-quick: setup
	$(BIN)/python -m pytest -m "not slow"

# formatting, types, shell scripts and the Dockerfile
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck scripts/*.sh scripts/run .ci/run
	$(BIN)/shfmt -d -i 2 scripts/*.sh scripts/run .ci/run
	@if [ -x $(BIN)/hadolint ]; then set -x; $(BIN)/hadolint kserve/runtime/Dockerfile; \
		else echo "hadolint is not here: the Dockerfile is not checked"; fi

# the formatting that lint asks for
format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/shfmt -w -i 2 scripts/*.sh scripts/run .ci/run

# this project against its peers and the limit of the machine, an open loop, other processors simulated, and what the front
# door costs (three quarters of an hour; each has a command of its own): benchmarks/README.md
bench: setup
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks open --peer litserve
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks isa
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks door

# every classifier that can be packed, packed and asked, the quickest first (hours; it can be taken up again, and
# ONLY=resnet18,… is for a part): docs/classifiers.md
classifiers: setup
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks.classifiers $(if $(ONLY),--only $(ONLY))

# breaks a running server, sends it bad input, attacks and 100,000 requests, compares damaged versions (SERVER=stock for stock TorchServe,
# ONLY=faults, faults:NAME, bad-input, attack-surface, soak, candidates or page for a part): docs/reliability.md
reliability: setup
	@PYTHONPATH=.:handler $(BIN)/python -P -m reliability --server $(or $(SERVER),ours) $(addprefix --only ,$(ONLY))

# what deploy.sh leaves in a real cluster, whatever goes wrong: CONTEXT=… VERSIONS="URI URI" (kserve/README.md has the rest)
cluster-test: setup
	@[ -n "$(CONTEXT)" ] && [ $(words $(VERSIONS)) = 2 ] || \
		{ echo 'error: make cluster-test CONTEXT=… VERSIONS="URI URI", two versions that serve: kserve/README.md' >&2; exit 1; }
	CLUSTER_TEST_CONTEXT="$(CONTEXT)" CLUSTER_TEST_VERSIONS="$(VERSIONS)" CLUSTER_TEST_NAMESPACE="$(NAMESPACE)" \
		CLUSTER_TEST_OVERLAY="$(OVERLAY)" CLUSTER_TEST_NAME="$(NAME)" CLUSTER_TEST_IMAGE="$(if $(filter file,$(origin IMAGE)),,$(IMAGE))" \
		$(BIN)/python -m pytest -v --timeout 3600 tests/pipeline/deployment/test_cluster.py

# known holes in all that the image is made of, risky code, secrets, manifests, Terraform: SECURITY.md
audit: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline.commands.audit

# the list of all that the image is made of, anew: kserve/runtime/sbom.cdx.json
sbom: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline.supply.parts

# the serving image for x86-64, whatever builds it, with docker or podman: make image IMAGE=REGISTRY/NAME:TAG,
# TORCH_INDEX=… for NVIDIA GPUs
image:
	@engine=$$(command -v docker || command -v podman) || \
		{ echo "error: neither docker nor podman is here: install one, or build in Google Cloud (kserve/runtime/cloudbuild.yaml)" >&2; exit 1; }; \
	set -x; $$engine build --platform linux/amd64 --file kserve/runtime/Dockerfile --tag $(IMAGE) \
		--build-arg TORCH_INDEX=$(or $(TORCH_INDEX),$(TORCH_CPU_INDEX)) \
		--build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

# checkov, which cannot share an environment with pytest: requirements/checkov.txt
.venv-checkov/.ready: requirements/checkov.txt
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python -m pip --disable-pip-version-check install --requirement requirements/checkov.txt
	@touch $@

# The CPU build of torch is a tenth of the default one, and has its own index; where that cannot be reached, the default
# index serves (on Linux: with CUDA, several GB). KServe's storage initializer says that it is not for Python 3.14 and
# later; for gs:// it needs nothing there that is not installed by then.
.venv/.ready: requirements/runtime.txt requirements/pipeline.txt requirements/dev.txt requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f $@
	$(PYTHON) -m venv .venv
	@if $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)' 2>/dev/null; \
		then set -x; $(PIP) --no-deps --index-url $(TORCH_CPU_INDEX) torch torchvision; \
		else echo "PyTorch's CPU index cannot be reached: torch comes from the default index (on Linux 5.8 GB in all)"; fi
	$(PIP) --requirement requirements/dev.txt
	@$(BIN)/python -c 'import kserve_storage' 2>/dev/null || \
		{ set -x; $(PIP) --no-deps --ignore-requires-python $(KSERVE_STORAGE); }
	@touch $@
	@echo "set up: make demo shows the whole path; scripts/package.sh, serve.sh and predict.sh are for your own pictures"
