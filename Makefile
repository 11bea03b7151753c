# What a person runs; what the continuous integration runs is .ci/run.

.PHONY: build test soak soak-mirror bench doc lint prerequisites

build:
	cargo build --release

# Everything but the long tests. Plain cargo, so that a fresh machine needs nothing else.
test: prerequisites
	cargo test

# Two hundred kills at random moments for each side, instead of twenty.
soak: prerequisites
	CUTOVER_SOAK=1 cargo test --release --test sync -- crash
	CUTOVER_SOAK=1 cargo test --release --test host -- silence killed

# A mirror through all that can befall it, over each route for so long; the same seed makes the same
# changes. A failure prints it.
MINUTES ?= 60
soak-mirror: prerequisites
	MINUTES=$(MINUTES) SEED=$(SEED) cargo test --release --test mirror -- befalls --nocapture --test-threads=3

# Functions first, then whole runs against rsync, cp and tar.
bench:
	cargo bench --bench '*'

doc:
	RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

prerequisites:
	@scripts/prerequisites
