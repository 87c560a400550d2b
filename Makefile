# PYTHON=/path/to/python3.11 chooses another interpreter (3.11 or later).
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
BIN = .venv/bin
PIP = -m pip --disable-pip-version-check install --no-deps
# Each file that pip installs must have one of the SHA-256 hashes in there: make lock.
LOCKED = $(PIP) --require-hashes --requirement requirements/locked
TORCH = $(shell sed -n 's/^\(torch\(vision\)\{0,1\}==[^ ]*\).*/\1/p' requirements/locked/torch.txt)
TORCH_CPU_INDEX = https://download.pytorch.org/whl/cpu

VERSION := $(shell sed -n 's/^version = "\([^"]*\)".*/\1/p' pyproject.toml)
IMAGE = alexnet-torchserve:$(VERSION)
BASE_IMAGE = kserve/runtime/base-image.txt

.PHONY: help setup demo test test-quick lint format bench classifiers reliability cluster-test audit sbom lock netty version image

# list these targets; the Makefile explains their options
help:
	@awk '/^# / { if (!said) said = substr($$0, 3); next } \
		/^[a-z-]+:/ && said { sub(/:.*/, ""); printf "  make %-13s %s\n", $$0, said } { said = "" }' Makefile

# make .venv, with everything that the other targets need
setup: .venv/.ready .venv/.netty

# go the whole way on this machine: package, publish, pull, serve, classify a photograph, stop
demo: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline demo

# run all tests in about twenty minutes, those that need no server first
test: setup .venv-checkov/.ready
	@echo "first the tests that need no server, about a minute; then the rest, about twenty minutes"
	$(BIN)/python -m pytest -n 2

# run the tests that need no server, in about a minute
test-quick: setup
	$(BIN)/python -m pytest -m "not slow"

# check formatting, types, shell scripts and the Dockerfile
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck scripts/*.sh scripts/run .ci/run
	$(BIN)/shfmt -d -i 2 scripts/*.sh scripts/run .ci/run
	@if [ -x $(BIN)/hadolint ]; then set -x; $(BIN)/hadolint kserve/runtime/Dockerfile; \
		else echo "hadolint is not installed: the Dockerfile is not checked"; fi

# reformat the code as lint wants it
format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/shfmt -w -i 2 scripts/*.sh scripts/run .ci/run

# measure this project against its peers and the limit of the machine: benchmarks/README.md
# Then an open loop, other processors simulated, and what the front door costs; each has a command of its own.
bench: setup
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks open --peer litserve
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks isa
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks door

# pack and measure every classifier that can be packed, which takes hours: docs/classifiers.md
# The quickest come first, and an interrupted run goes on where it stopped. ONLY=resnet18,… is for a part.
classifiers: setup
	@PYTHONPATH=. $(BIN)/python -P -m benchmarks.classifiers $(if $(ONLY),--only $(ONLY))

# break a running server, and send it bad input, attacks and 100,000 requests: docs/reliability.md
# Compares damaged versions too. SERVER=stock for stock TorchServe; ONLY=faults, faults:NAME, bad-input, attack-surface, soak,
# candidates or page for a part.
reliability: setup
	@PYTHONPATH=.:handler $(BIN)/python -P -m reliability --server $(or $(SERVER),ours) $(addprefix --only ,$(ONLY))

# try deploy.sh in a cluster of yours, CONTEXT=… VERSIONS="URI URI": kserve/README.md
cluster-test: setup
	@[ -n "$(CONTEXT)" ] && [ $(words $(VERSIONS)) = 2 ] || \
		{ echo 'error: make cluster-test CONTEXT=… VERSIONS="URI URI", two versions that serve: kserve/README.md' >&2; exit 1; }
	CLUSTER_TEST_CONTEXT="$(CONTEXT)" CLUSTER_TEST_VERSIONS="$(VERSIONS)" CLUSTER_TEST_NAMESPACE="$(NAMESPACE)" \
		CLUSTER_TEST_OVERLAY="$(OVERLAY)" CLUSTER_TEST_NAME="$(NAME)" CLUSTER_TEST_IMAGE="$(if $(filter file,$(origin IMAGE)),,$(IMAGE))" \
		$(BIN)/python -m pytest -v --timeout 3600 tests/pipeline/deployment/test_cluster.py

# look for known vulnerabilities, secrets and risky code, manifests and Terraform: docs/security.md
audit: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline.commands.audit

# write the list of what the image is made of: kserve/runtime/sbom.cdx.json
sbom: setup
	@PYTHONPATH=. $(BIN)/python -P -m pipeline.supply.parts

# write requirements/locked from the versions in requirements/, with uv, which asks PyPI
lock: setup .venv-lock/.ready
	@PYTHONPATH=. $(BIN)/python -P -m pipeline.supply.lock

# download a newer Netty for TorchServe, as `make setup` does, from Maven Central or MAVEN_MIRROR_URL
netty: .venv/.ready
	$(BIN)/python kserve/runtime/netty.py .venv/share/netty

# print the version; NEW=0.2.0 sets it in pyproject.toml and wherever it is repeated
version:
	@$(if $(NEW),PYTHONPATH=. $(PYTHON) -P -m pipeline.supply.release "$(NEW)",echo $(VERSION))

# build the serving image with docker or podman: make image IMAGE=REGISTRY/NAME:TAG
# It is for x86-64, whatever builds it; TORCH_INDEX=… is for NVIDIA GPUs, KEYLESS=yes to verify identities
# (docs/signing.md). The first time, it asks the registry for the base image's digest, and writes it down.
image:
	@engine=$$(command -v docker || command -v podman) || \
		{ echo "error: neither docker nor podman is here: install one, or build in Google Cloud (kserve/runtime/cloudbuild.yaml)" >&2; exit 1; }; \
	if [ ! -e $(BASE_IMAGE) ]; then \
		base=$$(sed -n 's/^ARG BASE=//p' kserve/runtime/Dockerfile); \
		$$engine pull --platform linux/amd64 "$$base"; \
		digest=$$($$engine image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$$base" | sed -n 's/.*@/@/p' | head -n 1); \
		[ -n "$$digest" ] || { echo "error: $$engine does not say which digest $$base has" >&2; exit 1; }; \
		echo "$$base$$digest" > $(BASE_IMAGE); \
		echo "the base image is held by its digest from now on: commit $(BASE_IMAGE)"; \
	fi; \
	set -x; $$engine build --platform linux/amd64 --file kserve/runtime/Dockerfile --tag $(IMAGE) \
		--build-arg BASE="$$(cat $(BASE_IMAGE))" \
		--build-arg TORCH_INDEX=$(or $(TORCH_INDEX),$(TORCH_CPU_INDEX)) \
		--build-arg KEYLESS=$(or $(KEYLESS),no) \
		--build-arg MAVEN_MIRROR_URL="$(MAVEN_MIRROR_URL)" \
		--build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

# Where Maven Central cannot be reached, TorchServe's own Netty has to do: behind the front door, on loopback.
.venv/.netty: kserve/runtime/netty.json kserve/runtime/netty.py .venv/.ready
	@if ! $(BIN)/python kserve/runtime/netty.py .venv/share/netty; then \
		echo "TorchServe goes on with the Netty that it has: make netty MAVEN_MIRROR_URL=… tries again"; fi
	@touch $@

# checkov, which cannot share an environment with pytest: requirements/checkov.txt
.venv-checkov/.ready: requirements/locked/checkov.txt
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/python $(LOCKED)/checkov.txt
	@touch $@

.venv-lock/.ready: requirements/locked/uv.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(LOCKED)/uv.txt
	@touch $@

# torch's CPU build is a tenth of the size of the default one. It has its own index, which states the SHA-256 of its files;
# if that cannot be reached, the default index is used (on Linux: with CUDA, several GB). KServe's storage initializer claims
# not to support Python 3.14 and later; for gs:// it needs nothing there that is not installed by then.
.venv/.ready: $(wildcard requirements/locked/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@rm -f $@
	$(PYTHON) -m venv .venv
	@if $(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_CPU_INDEX)/torch/", timeout=5)' 2>/dev/null; \
		then set -x; $(BIN)/python $(PIP) --index-url $(TORCH_CPU_INDEX) $(TORCH); \
		else echo "PyTorch's CPU index cannot be reached: installing torch from the default index (on Linux 5.8 GB in total)"; \
			set -x; $(BIN)/python $(LOCKED)/torch-cpu.txt 2>/dev/null || $(BIN)/python $(LOCKED)/torch.txt; fi
	@$(BIN)/python -c "from importlib.metadata import requires; exit(not any('nvidia' in each for each in requires('torch')))" || exit 0; \
		set -x; $(BIN)/python $(LOCKED)/cuda.txt
	$(BIN)/python $(LOCKED)/all.txt
	@$(BIN)/python -c 'import kserve_storage' 2>/dev/null || \
		{ set -x; $(BIN)/python $(PIP) --ignore-requires-python --require-hashes --requirement requirements/locked/kserve-storage.txt; }
	@touch $@
	@echo "done: make demo shows the whole path; use scripts/package.sh, serve.sh and predict.sh for your own pictures"
