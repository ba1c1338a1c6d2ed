# Two commands do everything: `make demo` and `make test`. Both install what they need.

CARGO ?= cargo

.PHONY: demo test bench soak soak-director mutants lint setup build help

help:
	@echo "make demo   a three-node cluster on this machine, every surface live (Ctrl-C ends it)"
	@echo "make test   everything: lint, unit, scenarios, simulation, real daemons (root for the lab)"
	@echo "make bench  figures of ours beside the peers', one table each"
	@echo "make soak   200 faults on real daemons: is a service ever alive on two nodes? (half an hour, root)"
	@echo "make soak-director  500 blows to the director: does anything else move or pause? (three quarters of an hour, root)"
	@echo "make mutants  does a test notice each change of the code that decides who may have what? (hours)"
	@echo "make lint   formatting, clippy, shell scripts"
	@echo "make setup  install what the others need (Debian, Ubuntu); does nothing when all is there"

setup:
	@scripts/setup

# What is missing is not shown then, and the demo says so.
demo:
	@scripts/setup || echo "demo: going on without what is missing" >&2
	$(CARGO) build --release --locked -p vedette
	@exec target/release/vedette demo

build:
	$(CARGO) build --locked --workspace --bins --examples --tests

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	scripts/lint-shell

test: setup lint build
	$(CARGO) test --locked --workspace --no-fail-fast

bench: setup
	@scripts/bench

soak: setup build
	target/debug/vedette-soak --tries 200

soak-director: setup build
	target/debug/vedette-soak --director --tries 500

mutants:
	@scripts/mutants
