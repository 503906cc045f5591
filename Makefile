# Two commands: `make run` and `make test`. The rest is what they are made of.
GO ?= go
STATICCHECK = $(GO) tool staticcheck
FUZZTIME ?= 5s

.PHONY: run build test check unit fuzz real bench clean

# run serves corefile.example and shows what it answers.
run: build
	@$(GO) build -o build/example/ask ./build/example
	@./coredns -conf corefile.example & pid=$$!; \
	trap 'kill $$pid 2>/dev/null' INT TERM EXIT; \
	./build/example/ask $$pid && wait $$pid

# build makes ./coredns: CoreDNS with every stock plugin, and kubehosts.
build:
	@echo "building ./coredns (the first time compiles all of CoreDNS: two minutes or three)"
	@CGO_ENABLED=0 $(GO) build -o coredns ./build

test: check unit fuzz real

check:
	@echo "formatting, go vet, staticcheck"
	@test -z "$$(gofmt -l build plugin test)" || { gofmt -d build plugin test; exit 1; }
	@$(GO) vet ./plugin/... ./build/example
	@$(STATICCHECK) ./plugin/... ./build/example
	@cd test && $(GO) vet . ./cluster ./differential

unit:
	@echo "unit tests, with the race detector"
	@$(GO) test -race ./plugin/...

# fuzz gives each fuzz target FUZZTIME, on top of the kept cases that unit runs.
fuzz:
	@echo "fuzz targets, $(FUZZTIME) each"
	@for target in $$(git grep -hoE '^func Fuzz[A-Za-z0-9]+' -- 'plugin/*_test.go' | cut -c6- | sort -u); do \
		for dir in $$(git grep -lE "^func $$target\(" -- 'plugin/*_test.go' | xargs -n1 dirname | sort -u); do \
			$(GO) test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=10x ./$$dir || exit 1; \
		done; \
	done

# real runs ./coredns against a real etcd and kube-apiserver, built from their Go modules.
real: build
	@echo "building etcd and kube-apiserver from Go modules (the first time: about five minutes)"
	@cd test && CGO_ENABLED=0 $(GO) build -o bin/kube ./kube
	@echo "tests with the real API server"
	@cd test && $(GO) test -race -count=1 -v . ./cluster

# bench measures ServeDNS beside the stock plugins, in one run.
bench:
	@cd test && $(GO) test -run='^$$' -bench=. -benchmem .

clean:
	rm -rf coredns build/example/ask test/bin
