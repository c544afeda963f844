# Everything a developer or CI does goes through here; `make` alone lists it.

GO           ?= go
ARGS         ?=
# The packages that take longest come first: else one of them would run alone at the end.
PKGS         ?= ./test/e2e ./bench/lab ./test/web ./test/conform ./test/day ./internal/store ./internal/chat ./parleyctl ./test/... ./...
TEST_TIMEOUT ?= 15m
RACE_COUNT   ?= 5
FUZZTIME     ?= 5s
SOAK         ?= 30m
BENCHTIME    ?= 200ms
COUNT        ?= 1
PREFIX       ?= /usr/local

# Each program is a directory of its name; one that does not exist is left out.
PROGRAMS := chatnode statusnode gatenode standalone parleyctl bench
BINARIES := $(patsubst %/main.go,%,$(wildcard $(addsuffix /main.go,$(PROGRAMS))))

# The repository may belong to another user (a container, a shared checkout): Go's own stamping refuses then, and so
# does git unless told otherwise. Without git, or without a commit, the commit is unknown. The compiler takes a sixth less time
# when it collects its garbage less often; with the limit its largest runs need no more memory than otherwise.
COMPILER := env GOGC=400 GOMEMLIMIT=1GiB
export GOFLAGS := $(strip '-toolexec=$(COMPILER)' $(GOFLAGS) -buildvcs=false)
GIT     := git -c safe.directory='*'
VERSION ?= $(shell cat VERSION)
COMMIT  ?= $(shell $(GIT) rev-parse --short=12 HEAD 2>/dev/null)$(shell $(GIT) diff --quiet HEAD 2>/dev/null || echo -modified)
LDFLAGS := -X parley/internal/obs.version=$(VERSION) -X parley/internal/obs.commit=$(COMMIT)

# Packages whose tests count allocations.
ALLOC_PKGS = $(addprefix ./,$(sort $(dir $(shell grep -rl --include='*_test.go' AllocsPerRun client internal))))

# Packages with benchmarks of single functions.
BENCH_PKGS = $(addprefix ./,$(sort $(dir $(shell grep -rl --include='bench_test.go' '^func Benchmark' internal))))

# The race detector leaves out C that was translated to Go and the interpreter of miniredis' scripts: they share no memory with
# ours except under locks that it sees, and are a third of the work of an embedded cluster.
NO_RACE   := modernc.org/libc/... modernc.org/memory modernc.org/sqlite/lib github.com/yuin/gopher-lua/...

# Each test process would sleep for a second at its end, in case of late races. make check vets. Tests that say that they are
# parallel wait most of the time; those that start a cluster take turns (launchtest.Turn). The compiler gives way to tests that run
# beside it. It makes no tables for debuggers: the linker would read them for each package and leave them out. Stack traces and
# reports of races have others. launch.Build does the same.
RACE_TEST := GORACE="atexit_sleep_ms=0 $$GORACE" CGO_ENABLED=1 $(GO) test -race -shuffle=on -vet=off -parallel 4 \
	-toolexec 'nice -n 10 $(COMPILER)' -gcflags=all=-dwarf=false $(foreach p,$(NO_RACE),'-gcflags=$(p)=-race=false -dwarf=false')

# The drivers of bench compare are tested against real servers, in a module of their own that keeps these out of go.mod.
COMPARE := bench/compare

GOFILES = $(shell find . -name '*.go' -not -path './kitex_gen/*' -not -path './data/*')

.DEFAULT_GOAL := help
.PHONY: help gen build run cluster test compare chaos soak check race fuzz bench-micro bench-gate docs dist install clean fmt servers screenshots paint macos

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

gen: ## generate kitex_gen/ from idl/ again
	@.ci/gen .

build: ## build the programs into bin/
	$(if $(BINARIES),,$(error there is no program to build))
	@echo "building $(BINARIES) into bin/; the first time takes minutes"
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./,$(BINARIES))

run: ## start the whole cluster in one process; ARGS='--help' lists its flags
	@echo "building standalone and parleyctl into bin/; the first time takes minutes"
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./standalone ./parleyctl
	@exec bin/standalone $(ARGS)

cluster: build ## start redis-server, mariadbd and five nodes on this machine; ARGS='DIR' keeps data and logs
	@.ci/servers cluster
	@exec deploy/run-local $(ARGS)

test: servers ## run all tests with the race detector, over real servers; PKGS=./internal/wire for some
	$(RACE_TEST) -timeout $(TEST_TIMEOUT) $(PKGS)
	$(GO) test -vet=off -run Alloc $(ALLOC_PKGS) # the race detector allocates by itself, so those tests skip above
	@$(MAKE) --no-print-directory compare

compare: ## test the drivers of bench compare over NATS and Centrifuge servers; without the race detector, which would compile these once more
	cd $(COMPARE) && $(GO) test -vet=off ./...

chaos: servers ## break real clusters on purpose and check the promises; ARGS='--list', '--bars D1,P3', '--short'
	@$(GO) run ./test/chaos $(ARGS)

servers: # installs what the tests need
	@.ci/servers

check: ## formatting, vet, staticcheck, and whether go.mod and kitex_gen/ are current
	@out="$$($(GO) tool gofumpt -l $(GOFILES))" && test -z "$$out" || \
		{ printf 'not formatted, run "make fmt":\n%s\n' "$$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	cd $(COMPARE) && $(GO) vet ./... && "$$(cd - >/dev/null && $(GO) tool -n staticcheck)" ./... && $(GO) mod tidy -diff
	@.ci/gen --check

fmt: ## format the Go files
	$(GO) tool gofumpt -w $(GOFILES)

race: servers ## run all tests RACE_COUNT times: slow, for what fails seldom
	$(RACE_TEST) -count $(RACE_COUNT) -timeout 1h $(PKGS)

soak: servers ## half an hour of texts, churn and a random fault per minute; SOAK=2h for longer
	$(GO) run ./test/chaos --soak $(SOAK) $(ARGS)

fuzz: ## run every fuzz target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

bench-micro: servers ## run the benchmarks of single functions, COUNT times; go tool benchstat compares two outputs
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -count $(COUNT) -p 1 $(BENCH_PKGS)

bench-gate: servers ## compare their allocations with test/benchgate/baseline.txt; TIME=1 compares time too, UPDATE=1 writes it
	$(GO) run ./test/benchgate $(if $(UPDATE),-update) $(if $(TIME),,-allocs)

dist: ## make the release archives of the last commit in dist/, twice, and compare them
	@.ci/dist

install: ## install bin/ (build it first), documents and systemd units below PREFIX=/usr/local; DESTDIR= for packages
	@deploy/install "$(DESTDIR)" "$(PREFIX)"

docs: ## write docs/CONFIG.md and docs/LIMITS.md again
	$(GO) test ./test/docs -run 'TestConfigReference|TestLimits' -update

screenshots: build ## take the README's pictures again, into docs/img
	@cd test/web && npm ci --prefer-offline --no-audit --no-fund && node screenshots.mjs

paint: build ## measure how soon the chat page is seen in Chromium
	@cd test/web && npm ci --prefer-offline --no-audit --no-fund && node paint.mjs

macos: ## see whether everything compiles for macOS too
	@$(GO) run ./test/macos

clean: ## remove bin/ and dist/; data/ stays
	rm -rf bin dist
