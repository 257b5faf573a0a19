# make demo · make watch · make report · make piece · make redraw · make test · make test-long · make test-bench ·
# make test-browser · make test-faults · make test-slurm · make test-gpu · make test-mutants · make check · make golden ·
# make gallery · make bench · make bench-gpu · make reference · make lock:
# each sets up what it needs.
PYTHON ?= python3
CORES ?= $(shell nproc)
BIN := .venv/bin
LOCK := envs/requirements.lock
READY := .venv/.ready

.PHONY: demo watch report piece redraw test test-long test-bench test-browser test-faults test-slurm test-gpu \
	test-mutants check bench bench-gpu gallery golden reference lock

# Snakemake looks for work again once a time span for every job that has ended; a longer span than its
# second saves a fifth of a core over some hundred short jobs.
demo: $(READY)
	$(BIN)/snakemake --cores $(CORES) --max-jobs-per-timespan 1000/10s all

# Runs and epochs of a study while it runs, here or on a cluster: make watch STUDY=config/paper.yaml
STUDY ?= config/demo.yaml
watch: $(READY)
	@$(BIN)/python -m maskalign.watch $(STUDY)

# The demo's page, results/demo/report.html, and all that it shows.
report: $(READY)
	$(BIN)/snakemake --cores $(CORES) --max-jobs-per-timespan 1000/10s report

# The next pair of a study that is run in pieces, and the study from all of its pieces: docs/pieces.md.
piece: $(READY)
	$(BIN)/python -m maskalign.pieces next $(STUDY) --cores $(CORES)

redraw: $(READY)
	$(BIN)/python -m maskalign.pieces redraw $(STUDY) --cores $(CORES)

test: $(READY)
	$(BIN)/pytest -n $(CORES) --dist loadgroup

# Longer runs: data-parallel training, the example of a study of your own, jobs on the GPUs of a workstation, figures at
# every size, wrong input and a debugger on the command line, the runner of the mutants, a study in pieces.
test-long: $(READY)
	$(BIN)/pytest -n $(CORES) --dist loadgroup tests/long

# The benchmark of the CPU at toy size; measuring a network for the forecast.
test-bench: $(READY)
	$(BIN)/pytest tests/bench

# The page in a browser, where Debian's chromium is installed.
test-browser: $(READY)
	$(BIN)/pytest tests/browser

# A real Slurm cluster in a temporary folder, where Debian's slurmctld, slurmd and slurm-client are installed.
test-slurm: $(READY)
	$(BIN)/pytest tests/slurm

# Kills at every moment and of one process of several, full disks, no memory, no permission; a study twice, to the
# same bits: some five minutes.
test-faults: $(READY)
	$(BIN)/pytest tests/faults

# Check a GPU against the CPU (skipped where there is none), and test its benchmark at toy size and compiled
# training on the CPU.
test-gpu: $(READY)
	$(BIN)/pytest tests/gpu

# The table of a few numbers of every stage that tests compare with, once a stage's version was raised.
golden: $(READY)
	$(BIN)/python tests/unit/golden.py

# Break the package at one place at a time and require that a test fails: 20 to 45 minutes.
# Some of it: make test-mutants ONLY='stages matching', by module or by name of a mutant.
test-mutants: $(READY)
	$(BIN)/python tests/mutants $(ONLY)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

# Speed of the CPU beside the textbook procedure: results/benchmarks. Nothing else should run.
bench: $(READY)
	$(BIN)/python -m maskalign.bench

# Speed and correctness of a GPU, within BUDGET seconds (480): results/benchmarks and config/throughput.csv.
bench-gpu: $(READY)
	$(BIN)/python -m maskalign.bench.gpu $(if $(BUDGET),--budget $(BUDGET))

# The figures and tables that the README shows.
gallery: $(READY)
	$(BIN)/snakemake --cores $(CORES) --max-jobs-per-timespan 1000/10s all --configfile $(STUDY)
	$(BIN)/python -m maskalign.gallery $(STUDY)

# The page of a study's keys, from the schema.
reference: $(READY)
	$(BIN)/python -m maskalign.reference > config/README.md

# Resolve the versions anew. The lock names no index, so it installs from whichever index is set up.
lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --upgrade --quiet --no-header -o $(LOCK)

# uv comes first, by pip, at the version and hashes of the lock; it then installs the rest.
# Bytecode is compiled once here, or every job would compile torch's imports again.
$(READY): $(LOCK) pyproject.toml
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/# via/p' $(LOCK) | $(BIN)/python -m pip install --quiet --require-hashes -r /dev/stdin
	VIRTUAL_ENV=$(CURDIR)/.venv UV_COMPILE_BYTECODE=1 $(BIN)/uv pip sync --quiet --require-hashes $(LOCK)
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
