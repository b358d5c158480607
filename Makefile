# `make demo` and `make test` do all set-up themselves; a second run reuses what is there.
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
# On a machine without a GPU, TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu" saves several GB.
TORCH_ARGS ?=
# nproc takes OMP_NUM_THREADS for the number of processors
PROCESSES ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
STAMP := $(VENV)/.nucleate-installed

export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: help install espresso slurm slurm-demo espresso-campaign espresso-accuracy espresso-faults demo test kills faults packing incumbents lint constraints clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

install: $(STAMP)  ## create .venv with pinned dependencies

$(STAMP): pyproject.toml constraints.txt deploy/setup-venv.sh
	@VENV="$(VENV)" TORCH_ARGS="$(TORCH_ARGS)" bash deploy/setup-venv.sh
	@touch $(STAMP)

espresso: $(STAMP)  ## install Quantum ESPRESSO (as root, with apt-get) and its pseudopotentials where they are missing
	@VENV="$(VENV)" bash deploy/setup-espresso.sh

slurm:  ## install SLURM (as root, with apt-get) where it is missing; deploy/slurm/up.sh starts a local cluster
	@bash deploy/slurm/setup.sh

slurm-demo: $(STAMP) slurm  ## the demo's campaign again, by pilots on a local SLURM of two nodes, in slurm-demo/
	@bash deploy/slurm/demo.sh slurm-demo

demo: $(STAMP)  ## run a two-round campaign end to end and leave demo-report/
	@$(VENV)/bin/nucleate demo demo-campaign --output demo-report --processes $(PROCESSES)

espresso-campaign: espresso  ## a closed loop with pw.x, two rounds of phosphides, and espresso-report/ (6 minutes on 2 cores)
	@$(VENV)/bin/nucleate launch docs/campaigns/phosphides.yaml -C espresso-campaign
	@$(VENV)/bin/nucleate work -C espresso-campaign --processes $(PROCESSES)
	@$(VENV)/bin/nucleate report -C espresso-campaign -o espresso-report

espresso-accuracy: espresso  ## against all-electron PBE and the literature; goes on where it was (about an hour)
	$(PY) benchmarks/espresso_delta.py
	$(PY) benchmarks/espresso_pbe.py

espresso-faults: espresso  ## every failure of pw.x that is handled, provoked and recovered (about 20 minutes)
	$(PY) benchmarks/espresso_faults.py
	$(PY) benchmarks/walltime_restart.py

test: espresso slurm  ## lint, types and the whole test-suite, with real pw.x runs and a real SLURM
	@bash deploy/setup-tests.sh
	@$(MAKE) --no-print-directory lint
	$(PY) -m pytest -n $(PROCESSES) --dist loadgroup tests

kills: $(STAMP)  ## kill a campaign 20 times at random and compare it with an undisturbed one (about 15 minutes)
	$(PY) benchmarks/kills.py --kills 20

faults: espresso slurm  ## everything that goes wrong on clusters, FAULTS_N times each (10; hours); goes on where it was
	$(PY) -m benchmarks.faults

packing: $(STAMP) slurm  ## how much of what a cluster allocates does tasks, against one batch job a task (half an hour)
	$(PY) -m benchmarks.packing

incumbents: $(STAMP)  ## run FireWorks' own suite against the embedded server (about 10 minutes)
	$(PY) benchmarks/incumbent_suites.py --only fireworks

lint: $(STAMP)  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

constraints: $(STAMP)  ## rewrite constraints.txt from .venv
	@( sed -n 1p constraints.txt; $(VENV)/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' ) > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove what make created, campaigns in the embedded store excepted
	rm -rf $(VENV) demo-report demo-campaign slurm-demo espresso-report espresso-campaign
