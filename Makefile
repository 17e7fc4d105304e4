# Gantry's tasks. `make run` serves ./data, `make test` checks everything that a commit needs.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)
# Google's client is built without the modules of its gRPC transport, which is not used: 13 MB less. Add nogcs, nos3 and
# noazblob to leave object stores out: another 12, 9 and 6 MB, 27 together.
TAGS ?= disable_grpc_modules
FUZZTIME ?= 180s
BENCH ?= -json bin/bench.json -svg bin/bench.svg

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build run deps emulators test test-long bench bench-smoke microbench fuzz lint cross
build:
	go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

run: build
	mkdir -p data
	./bin/gantry serve -c data $(if $(FIRST_USER),--first-user $(FIRST_USER))

# The clients and servers that the tests drive, as command:Debian package. Nothing is done when all are there. A
# package that brings a service does not start it.
CLIENTS := git:git curl:curl rsync:rsync ssh-keygen:openssh-client sftp:openssh-client scp:openssh-client rclone:rclone lftp:lftp psftp:putty-tools sshfs:sshfs ssh-audit:ssh-audit fail2ban-regex:fail2ban nmap:nmap hydra:hydra tnftp:tnftp ncftpput:ncftp mariadb-install-db:mariadb-server litmus:litmus cadaver:cadaver slowhttptest:slowhttptest /usr/sbin/sshd:openssh-server promtool:prometheus
deps:
	@missing=; for c in $(CLIENTS); do command -v $${c%:*} >/dev/null || missing="$$missing $${c#*:}"; done; \
	{ /usr/bin/python3 -c 'import paramiko' || python3 -c 'import paramiko'; } >/dev/null 2>&1 || missing="$$missing python3-paramiko"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	[ -n "$$missing" ] || exit 0; missing=$$(printf '%s\n' $$missing | sort -u | tr '\n' ' '); \
	fail() { echo "deps: the tests need these Debian packages, and $$1: $$missing" >&2; exit 1; }; \
	command -v apt-get >/dev/null || fail "there is no apt-get to install them"; \
	as=; if [ "$$(id -u)" != 0 ]; then sudo -n true 2>/dev/null || fail "neither root nor sudo may install them"; as=sudo; fi; \
	echo "deps: installing $$missing"; log=$$(mktemp); \
	policy=/usr/sbin/policy-rc.d; if [ -e $$policy ]; then policy=; else printf '#!/bin/sh\nexit 101\n' | $$as tee $$policy >/dev/null; $$as chmod 755 $$policy; fi; \
	trap '[ -z "$$policy" ] || $$as rm -f $$policy' EXIT; \
	{ $$as apt-get -q update && $$as env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $$missing; } >$$log 2>&1 || \
	{ tail -20 $$log >&2; rm -f $$log; fail "apt-get could not install them"; }; rm -f $$log

# With GANTRY_TEST_CLIENTS a client that is not installed is a failure. The accounts are tested on both of the SQLite drivers.
# What allocates nothing is tested without the race detector, which has pools forget.
test: export GANTRY_TEST_CLIENTS = 1
test: deps lint cross
	go test -race -timeout 20m ./...
	go test -race -tags stdengine -timeout 20m ./engine ./ftp ./dav
	go test -run Alloc ./cache ./dav ./engine
	CGO_ENABLED=0 go test ./internal/account/...
	cd vfs/objecttest && go vet -mod=mod ./... && go test -mod=mod -timeout 20m ./...
	$(MAKE) bench-smoke

# The object stores that the tests start where they are: real files behind S3, MinIO for roles and customer keys (it takes
# minutes to build), and Microsoft's emulator, which wants npm. They are kept in the user's cache; without them their tests are skipped, but for test-long.
EMULATORS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gantry-emulators
MINIO := v0.0.0-20260212201848-7aac2a2c5b7c
export GANTRY_TEST_EMULATORS = $(EMULATORS)
emulators:
	@test -x $(EMULATORS)/bin/versitygw || GOBIN=$(EMULATORS)/bin go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	@test -x $(EMULATORS)/bin/minio || { dir=$$(go mod download -json github.com/minio/minio@$(MINIO) | sed -n 's/.*"Dir": "\(.*\)",/\1/p'); \
	test -n "$$dir" && go build -C "$$dir" -trimpath -o $(EMULATORS)/bin/minio .; }
	@test -x $(EMULATORS)/node_modules/.bin/azurite-blob || { command -v npm >/dev/null || { echo "emulators: Azurite needs npm; install the Debian package npm" >&2; exit 1; }; \
	npm install --silent --no-audit --no-fund --prefix $(EMULATORS) azurite@3.35.0; }

test-long: export GANTRY_TEST_CLIENTS = 1
test-long: test emulators
	GANTRY_TEST_LONG=1 go test -race -timeout 90m -count=3 $$(go list ./... | grep -v '/internal/e2e$$')
	GANTRY_TEST_LONG=1 go test -race -timeout 90m -count=1 ./internal/e2e
	cd vfs/objecttest && GANTRY_TEST_LONG=1 go test -mod=mod -race -timeout 60m ./...
	internal/e2e/scp.sh
	internal/e2e/subsystem.sh
	internal/e2e/rclone.sh
	internal/e2e/rcloneftp.sh
	internal/e2e/rclonedav.sh
	$(MAKE) test-packages
	$(MAKE) fuzz

# Gantry beside the peers that are installed. BENCH holds flags: make bench BENCH='-cases bulk -size 256'
bench: build
	go run ./bench/gantry-bench -gantry bin/gantry $(BENCH)

# Every case of the comparison, tiny: whether it works, not how fast. Nothing of it may fail.
bench-smoke: build
	go run ./bench/gantry-bench -gantry bin/gantry -cases all -limit 20ms -size 4 -repeat 1 -streams 1,2 -ciphers aes128-gcm@openssh.com \
	-link-size 2 -link-repeat 1 -rtt 20ms -stall 1s -connections 20 -ftp-connections 100 -dav-connections 200 -settle 300ms -samples 10 \
	-files 200 -storm 50 -requests 400 -logins 16 -entries 500 -accounts 10 -soak 6s -ram "$${TMPDIR:-/tmp}" -json bin/bench-smoke.json -svg bin/bench-smoke.svg

# The benchmarks beside the hot paths, or those that MICRO names: make microbench MICRO=Send BENCHTIME=1x
MICRO ?= .
BENCHTIME ?= 1s
microbench:
	go test -run '^$$' -bench '$(MICRO)' -benchtime $(BENCHTIME) -benchmem ./...

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
	go run $(STATICCHECK) -checks 'all,-ST*' ./...

# The systems that Gantry must build on, without cgo; and without object stores.
cross:
	@set -e; for os in windows darwin freebsd; do echo "build $$os"; GOOS=$$os CGO_ENABLED=0 go build ./...; done
	go vet -tags nogcs,nos3,noazblob ./cmd/gantry

# Packages for Debian and Fedora with their manual pages, for ARCHES, in bin. They hold the build without cgo.
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
ARCHES ?= amd64 arm64
PKGVERSION = $(patsubst v%,%,$(if $(findstring .,$(VERSION)),$(VERSION),0.0.0~$(VERSION)))
.PHONY: packages test-packages
packages:
	@rm -rf bin/pkg; mkdir -p bin/pkg/completion bin/pkg/man
	@test -x bin/nfpm || GOBIN=$(CURDIR)/bin go install $(NFPM)
	go build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/pkg/gantry ./cmd/gantry
	@./bin/pkg/gantry gen man -d bin/pkg/man && gzip -n9 bin/pkg/man/*.1
	@./bin/pkg/gantry gen completion bash >bin/pkg/completion/gantry.bash
	@./bin/pkg/gantry gen completion zsh >bin/pkg/completion/_gantry
	@./bin/pkg/gantry gen completion fish >bin/pkg/completion/gantry.fish
	@set -e; for a in $(ARCHES); do \
	GOARCH=$$a CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '-s -w $(LDFLAGS)' -o bin/pkg/$$a/gantry ./cmd/gantry; \
	for f in deb rpm; do sed 's/$${ARCH}/'$$a'/g; s/$${VERSION}/$(PKGVERSION)/g' internal/packaging/nfpm.yaml >bin/pkg/nfpm-$$a.yaml; \
	./bin/nfpm package -f bin/pkg/nfpm-$$a.yaml -p $$f -t bin/; done; done

# Installs the Debian package in a clean root: needs root and debootstrap.
test-packages:
	internal/packaging/test_deb.sh
