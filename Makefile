# Lote. `make demo` shows it working, `make test` checks it; both install what is missing.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help install build demo up down status logs test api-check validate images scale bench chaos fuzz fmt clean

# Demo, tests and chaos share one profile and one set of features, and always build the whole workspace:
# a build of a part would compile dependencies again with other features.
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug
FEATURES := --features lote-failpoints/enabled
SERVICE ?=
BENCH ?= messaging
CHAOS ?= catalog
FUZZ_SECONDS ?= 30

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## What is missing: PostgreSQL, MariaDB, RabbitMQ, Redis, LocalStack
	@deploy/native/install.sh

build: install
	@cargo build --workspace $(FEATURES)

demo: build ## Start everything, import a supplier's workbook, report a day's campaigns
	@$(BIN)/stack demo

up: build ## Start everything
	@$(BIN)/stack up

# These three need no build, only a binary.
$(BIN)/stack:
	@cargo build --workspace $(FEATURES)

down: | $(BIN)/stack ## Stop everything; the data stays
	@$(BIN)/stack down

status: | $(BIN)/stack ## What runs
	@$(BIN)/stack status

logs: | $(BIN)/stack ## One log: make logs SERVICE=gateway
	@$(BIN)/stack logs $(SERVICE)

# On servers of its own, so that it may run beside a demo, and beside tests run by hand.
test: export LOTE_TEST_STACK := $(CURDIR)/.stack/make-test
test: ## Format, lints and all tests, against real servers of its own
	@deploy/native/install.sh tests
	trap '[ ! -x $(BIN)/stack ] || $(BIN)/stack test-down' EXIT
	echo '- format'; cargo fmt --all --check
	echo '- lints'; cargo clippy --workspace --all-targets $(FEATURES) -- -D warnings
	echo '- build'; cargo build --workspace $(FEATURES)
	echo '- manifests'; $(VALIDATE)
	echo '- tests'; $(BIN)/stack test-up
	if cargo nextest --version >/dev/null 2>&1; then
		cargo nextest run --workspace $(FEATURES) --no-fail-fast
	else
		cargo test --workspace $(FEATURES) --no-fail-fast
	fi

api-check: export LOTE_TEST_STACK := $(CURDIR)/.stack/make-test
api-check: ## The platform against its OpenAPI document, by Schemathesis: no status, type or 5xx that it does not name
	@deploy/native/install.sh tests
	trap '[ ! -x $(BIN)/stack ] || $(BIN)/stack test-down' EXIT
	cargo build --workspace $(FEATURES)
	cargo test --workspace $(FEATURES) --test api -- --nocapture check::

VALIDATE = LOTE_BINARIES=$(BIN) .stack/deploy/bin/python -m pytest --quiet --no-header -W ignore::DeprecationWarning -p no:cacheprovider \
	--numprocesses 2 --dist loadfile tests/deploy
validate: build ## Compose, images, Kubernetes manifests, Traefik, AWS set-up: by the real tools, without an engine or a cluster
	@deploy/native/install.sh validate
	$(VALIDATE)

images: build ## Each binary as its image runs it: another user, a read-only root made from Debian's mirror (as root)
	@deploy/native/install.sh images
	LOTE_BINARIES=$(BIN) .stack/deploy/bin/python -m pytest --quiet --no-header -p no:cacheprovider --capture=no tests/deploy/images.py

# These three leave nothing but JSON on standard output.
scale: install ## KEDA's arithmetic with the rendered ScaledObjects: real workers come for a burst, and go
	@deploy/native/install.sh validate
	cargo build --quiet --workspace $(FEATURES)
	LOTE_BINARIES=$(BIN) .stack/deploy/bin/python tests/deploy/scale.py

bench: install ## One JSON line a figure: make bench BENCH=catalog
	@cargo build --quiet --release --workspace
	cargo run --quiet --release --bin lote-bench -- $(BENCH)

chaos: install ## Kill things, one JSON line a case: make chaos CHAOS=catalog
	@cargo build --quiet --workspace $(FEATURES)
	@if [ "$(CHAOS)" = rolling ]; then
		deploy/native/install.sh validate
		LOTE_BINARIES=$(BIN) .stack/deploy/bin/python tests/deploy/rolling.py
	else
		$(BIN)/lote-chaos $(CHAOS)
	fi

# The toolchain is stable: RUSTC_BOOTSTRAP lets it take cargo-fuzz's flags for coverage. AddressSanitizer needs a nightly
# library, and would find little where `unsafe` is forbidden.
fuzz: export RUSTC_BOOTSTRAP := 1
fuzz: ## Strange bytes for what reads strangers' files: make fuzz FUZZ_SECONDS=30 (each of three targets)
	@cargo fuzz --version >/dev/null 2>&1 || RUSTC_BOOTSTRAP=0 cargo install --locked cargo-fuzz
	for target in rules csv xlsx; do
		cargo fuzz run --fuzz-dir fuzz --sanitizer none $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1
	done

fmt: ## Format
	@cargo fmt --all

clean: ## Stop everything, remove its data and what was built
	@if [ -x $(BIN)/stack ]; then $(BIN)/stack clean; fi
	rm -rf .stack
	cargo clean
