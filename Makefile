# OffHook's interface: `make help` names every target. Only python3 (3.11 or later) is assumed; `make setup` makes .venv with
# everything else, from hashes. The targets that need a broker bring a local one (Java 17), unless KAFKA_BOOTSTRAP names one.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SEED ?= 7

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## Say what can be done
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

LOCKS := requirements.lock deploy/requirements-build.lock
$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: OffHook needs Python 3.11 or later as '$(PYTHON)'; name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes $(LOCKS:%=-r %)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

.PHONY: setup
setup: $(STAMP) ## Install into .venv (every other target does it when needed)

.PHONY: demo
demo: setup ## Simulate a morning of a bank, run the detector over it, show what it caught (no broker)
	@$(BIN)/offhook demo --seed $(SEED)

.PHONY: fmt
fmt: setup ## Format the code and repair what can be repaired
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lint
lint: setup ## Format, lint, types and schemas; part of check
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/offhook schemas --check

.PHONY: check
check: lint ## Format, lint, types, schemas and the fast tests
	@EXAMPLES_SHARE=0.2 $(BIN)/pytest -q -n 2 -m "not broker and not slow and not soak"

.PHONY: kafka
kafka: setup ## Install the local Kafka that tests and `make live` use (needs Java 17)
	@test -n "$$KAFKA_BOOTSTRAP" || $(BIN)/python deploy/local_kafka.py install

.PHONY: test
test: setup kafka ## Run all tests, those on a real Kafka included
	@$(BIN)/pytest -q -n 2 -m "not broker and not soak"
	@OFFHOOK_REQUIRE_BROKER=1 $(BIN)/pytest -q -m "broker and not soak"

.PHONY: bench
bench: setup kafka ## Measure throughput, latency, recovery, memory and growth; writes out/bench.json
	@$(BIN)/python -m tests.bench.run

MINUTES ?= 20
.PHONY: soak
soak: setup kafka ## The long fault tests, then MINUTES (20) of traffic with workers killed, paused and ended at random
	@OFFHOOK_REQUIRE_BROKER=1 $(BIN)/pytest -q -m soak
	@$(BIN)/python -m tests.soak.run --minutes $(MINUTES)

.PHONY: mutants
mutants: setup ## Break the code on purpose, one declared fault at a time: each must make a test fail
	@$(BIN)/python -m tests.mutation.run

.PHONY: model-benchmark
model-benchmark: setup ## The learners on a public table of card payments, labels a week late, beside the published figures
	@$(BIN)/offhook model-benchmark

.PHONY: figures
figures: setup ## Measure the detector on held-out seeds, and on the recorded calls of TELEPHONY=FOLDER; writes out/figures.json
	@$(BIN)/python -m tests.bench.figures $(if $(TELEPHONY),--telephony $(TELEPHONY))

FIT := $(addprefix out/fit/,301 302 303 304 305 306 307 308 309 310)
.PHONY: fit
fit: setup ## Fit the weights and the threshold of deploy/fitted.toml on simulated seeds of family a; V6, V9 and V11 are kept away
	@for folder in $(FIT); do $(BIN)/offhook simulate --seed $${folder##*/} --accounts 3000 --hours 48 --prior 0.04 --out $$folder || exit 1; done
	@$(BIN)/offhook fit --demo-key --by-hand --rate 1.5e-4 --leave-out V6 --leave-out V9 --leave-out V11 --out deploy/fitted.toml \
		$(foreach folder,$(FIT),--log $(folder)/log.jsonl --truth $(folder)/truth.jsonl --policy $(folder)/policy.toml)

MODEL := $(addprefix out/model/,501 502 503 504)
.PHONY: model
model: setup ## Make a model to start from, out/model.json, on simulated seeds that no figure uses, signed with a key of its own
	@for folder in $(MODEL); do $(BIN)/offhook simulate --seed $${folder##*/} --accounts 3000 --hours 48 --prior 0.04 --out $$folder || exit 1; done
	@test -f out/model/key || $(BIN)/offhook models keygen out/model/key
	@$(BIN)/offhook models make --demo-key --key out/model/key --out out/model.json \
		$(foreach folder,$(MODEL),--log $(folder)/log.jsonl --truth $(folder)/truth.jsonl --policy $(folder)/policy.toml)

CURVE := $(addprefix out/learning/,346 347 348 349 350 351 352 353 354 355 356 357 358 359 360 361)
.PHONY: learning-curve
learning-curve: setup ## Learning on and off when an unseen attack begins on day 5 of 20, labels 1 to 10 days late; writes out/learning
	@for folder in $(CURVE); do $(BIN)/offhook simulate --seed $${folder##*/} --accounts 500 --hours 480 --history-days 10 --prior 0.05 \
		--emerging 5 --out $$folder || exit 1; \
		printf '\n[learning]\nnegatives = 1.0 # so small a bank has too few codes to teach only every fiftieth\n' >> $$folder/policy.toml; done
	@$(BIN)/offhook evaluate --demo-key --view "all feeds" --out out/learning \
		$(foreach folder,$(CURVE),--log $(folder)/log.jsonl --truth $(folder)/truth.jsonl --policy $(folder)/policy.toml)

.PHONY: live
live: setup kafka ## Local Kafka, topics, workers and a simulated stream at real pace; prints alerts as they arrive (Ctrl-C ends it)
	@$(BIN)/python deploy/live_demo.py

.PHONY: schemas
schemas: setup ## Write schemas/ from the types
	@$(BIN)/offhook schemas --write

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
.PHONY: lock
lock: setup ## Resolve the dependencies anew into the lock files, with hashes: for development, at run time, to build
	@$(PIP) uv
	@$(COMPILE) --group dev --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraints requirements.lock --output-file requirements-runtime.lock pyproject.toml
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
		$(COMPILE) --constraints requirements.lock --output-file deploy/requirements-build.lock -

.PHONY: clean
clean: ## Remove outputs and caches (.venv and .kafka stay)
	@rm -rf out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
