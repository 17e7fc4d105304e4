# Gantry's tasks. `make run` serves ./data, `make test` checks everything that a commit needs.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)
FUZZTIME ?= 180s
BENCH ?= -json bin/bench.json

.PHONY: build run test test-long bench microbench fuzz lint cross
build:
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

run: build
	mkdir -p data
	./bin/gantry serve -c data $(if $(FIRST_USER),--first-user $(FIRST_USER))

test: lint cross
	go test -race -timeout 15m ./...

test-long: test
	go test -race -timeout 60m -count=3 ./...
	internal/e2e/scp.sh
	internal/e2e/subsystem.sh
	internal/e2e/rclone.sh
	$(MAKE) fuzz

# Gantry beside the peers that are installed. BENCH holds flags: make bench BENCH='-cases bulk -size 256'
bench: build
	go run ./bench/gantry-bench -gantry bin/gantry $(BENCH)

microbench:
	go test -run '^$$' -bench . -benchmem ./...

# Every fuzz target, one after the other. Findings stay in testdata/fuzz. The fuzzer itself sometimes ends with
# "context deadline exceeded" when its time is over and a worker was just busy: without a failing input that is
# no finding.
fuzz:
	@set -e; for f in $$(grep -rl '^func Fuzz' --include=*_test.go .); do d=$$(dirname $$f); \
	for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
	echo "$$d $$t"; out=$$(mktemp); go test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$d >$$out 2>&1 || \
	{ grep -q 'context deadline exceeded' $$out && ! grep -q 'Failing input' $$out; } || { tail -40 $$out; exit 1; }; tail -3 $$out; rm -f $$out; done; done

lint:
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi
	go vet ./...

# The systems that Gantry must build on, without cgo.
cross:
	@set -e; for os in windows darwin freebsd; do echo "build $$os"; GOOS=$$os CGO_ENABLED=0 go build ./...; done
