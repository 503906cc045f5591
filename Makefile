# Two commands matter: `make run` and `make test`. The other targets are their parts.
GO ?= go
# A go command older than this fetches it as a module. Releases before 1.27.3 have known vulnerabilities that ./coredns calls.
export GOTOOLCHAIN := go1.27.3
STATICCHECK = $(GO) tool staticcheck
SHELL = /bin/bash
INPUTS = 5000
CHECKED = ./docs/draw ./plugin/... ./build/check ./build/command ./build/corefile ./build/example ./build/follow ./build/image ./build/version
FUZZED = build/check build/corefile build/follow plugin/domain plugin/external plugin/hosts plugin/safe plugin/services plugin/source plugin/stanza plugin/status plugin/wire

.PHONY: run build test check unit mutate fuzz kube stock real versions helm vulns differential faults draw soak monitoring browser image supply e2e-docker lab lab-down sizes e2e conformance tools node outside suite bench clean

# run serves corefile.example and shows its answers.
run: build
	@$(GO) build -o build/example/ask ./build/example
	@./coredns -conf corefile.example & pid=$$!; \
	trap 'kill $$pid 2>/dev/null' INT TERM EXIT; \
	./build/example/ask $$pid && wait $$pid

# build makes ./coredns: CoreDNS with every stock plugin, and kubehosts. Outside a git checkout it has no version.
VERSION = $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null)
REVISION = $(shell git rev-parse HEAD 2>/dev/null)
STAMP = -X github.com/kubehosts/kubehosts/build/version.version=$(VERSION) -X github.com/kubehosts/kubehosts/build/version.commit=$(REVISION)
build:
	@echo "building ./coredns (the first time compiles all of CoreDNS: two minutes or three)"
	@CGO_ENABLED=0 $(GO) build -ldflags='$(STAMP)' -o coredns ./build

# test runs two things at a time if neither needs what the other compiles: 11:29 instead of 12:48, cold on two cores.
# The tests with the API server run alone, because they print times.
test:
	@$(MAKE) --no-print-directory -j2 build unit
	@$(MAKE) --no-print-directory -j2 kube check
	@$(MAKE) --no-print-directory mutate real

# check needs the packages compiled; without cgo, build has done that. It leaves out the two mains that import the
# plugins: for their lists of imports it would go through all of CoreDNS, which takes minutes.
check: export CGO_ENABLED = 0
check:
	@echo "formatting, go vet, staticcheck"
	@test -z "$$(gofmt -l build docs plugin test)" || { gofmt -d build docs plugin test; exit 1; }
	@$(GO) vet $(CHECKED)
	@$(STATICCHECK) $(CHECKED)
	@cd test && $(GO) vet . ./bench/... ./browser ./cluster ./differential ./docker ./faults ./lab ./monitoring ./sizes ./supply ./e2e/...

unit:
	@echo "unit tests, with the race detector"
	@$(GO) test -race ./docs/draw ./plugin/... ./build/check ./build/corefile ./build/follow ./build/image ./build/version

# mutate runs each fuzz target for a few seconds on the binaries that unit has compiled, which avoids compiling all
# dependencies again with coverage. It counts inputs, because a Go fuzzer with a time limit sometimes reports its end as
# a failure ("context deadline exceeded"). fuzz runs each target for a minute.
mutate:
	@echo "fuzz targets, $(INPUTS) inputs each"
	@mkdir -p test/bin
	@for dir in $(FUZZED); do \
		$(GO) test -race -c -o test/bin/fuzz.test ./$$dir || exit 1; \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]+)\(.*/\1/p' $$dir/*_test.go); do \
			(cd $$dir && $(CURDIR)/test/bin/fuzz.test -test.run='^$$' -test.fuzz="^$$target$$" -test.fuzztime=$(INPUTS)x \
				-test.fuzzminimizetime=10x -test.fuzzcachedir=$(CURDIR)/test/bin/fuzz 2>&1 | \
				{ grep -v 'not built with coverage' || true; }; exit $${PIPESTATUS[0]}) || exit 1; \
		done; \
	done

fuzz:
	@for dir in $(FUZZED); do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]+)\(.*/\1/p' $$dir/*_test.go); do \
			$(GO) test -run='^$$' -fuzz="^$$target$$" -fuzztime=1m -fuzzminimizetime=10x ./$$dir || exit 1; \
		done; \
	done

# kube builds the etcd and kube-apiserver of the tests from their Go modules. Packages that ./coredns does not use are
# compiled without optimisation, which takes a fifth less time and costs the tests some seconds. The others are already
# compiled.
PLAIN = $(foreach path,k8s.io/kubernetes k8s.io/apiserver k8s.io/apiextensions-apiserver k8s.io/kube-aggregator \
	k8s.io/client-go/informers k8s.io/client-go/listers go.etcd.io/etcd/server,-gcflags='$(path)/...=-N -l -dwarf=false')
kube: build
	@echo "building etcd and kube-apiserver from Go modules (the first time: about four minutes)"
	@cd test && CGO_ENABLED=0 $(GO) build $(PLAIN) -ldflags='-s -w' -o bin/kube ./kube

# real runs ./coredns against them.
real: kube
	@echo "tests with the real API server"
	@cd test && CGO_ENABLED=0 $(GO) test -count=1 -v . ./cluster

# versions runs the tests with other releases of the API server, and with one that does not stream lists. test/versions has a
# module file for each, which `go build -mod=mod` completes after a change of the versions in it. VERSIONS=1.35 runs one.
VERSIONS = 1.34 1.35 1.36
versions: kube
	@for version in $(VERSIONS); do \
		echo "building kube-apiserver $$version from Go modules (the first time: about three minutes)"; \
		(cd test && CGO_ENABLED=0 $(GO) build -modfile=versions/$$version.mod $(PLAIN) -ldflags='-s -w' \
			-o bin/kube-apiserver-$$version ./apiserver) || exit 1; \
	done
	@for version in $(VERSIONS); do \
		echo "tests with the API server of $$version"; \
		(cd test && KUBE_VERSION=$$version CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 20m .) || exit 1; \
	done
	@version=$(firstword $(VERSIONS)); echo "the same with $$version, without streamed lists"; \
		cd test && KUBE_VERSION=$$version KUBE_FEATURES=WatchList=false CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 20m .

# helm installs the chart coredns with our values on the real API server. CHART is its folder or archive, as
# `helm pull coredns --repo https://coredns.github.io/helm` brings it: no Go module has it.
helm: kube
	@[ -e "$(CHART)" ] || { echo "make helm needs CHART=, the folder or archive of the chart coredns"; exit 1; }
	@echo "building helm from Go modules (the first time: about two minutes)"
	@cd test/helm && CGO_ENABLED=0 $(GO) build -ldflags='-s -w' -o ../bin/helm helm.sh/helm/v4/cmd/helm
	@cd test && HELM_CHART=$(abspath $(CHART)) CGO_ENABLED=0 $(GO) test -count=1 -v -run '^TestHelm' .

# vulns fails if ./coredns calls a function with a known vulnerability. The database is a Go module, at the version of
# build/vulns/go.mod, so this needs no network once it is downloaded.
vulns: build
	@echo "known vulnerabilities in ./coredns"
	@cd build/vulns && $(GO) vet . && $(GO) test . && $(GO) mod download golang.org/x/vulndb && \
		$(GO) run . "$$($(GO) list -m -f '{{.Dir}}' golang.org/x/vulndb)/data/osv" $(CURDIR)/coredns

# The following take a minute each; .ci/run runs them after `make test`. FULL=1 runs them whole.

# stock builds the released CoreDNS, for comparison.
stock: build
	@CGO_ENABLED=0 $(GO) build -o test/bin/stock github.com/coredns/coredns

# differential sends the same queries to stock and ./coredns. In full: half a million queries, and a minute of changes
# meanwhile.
differential: kube stock
	@echo "the same queries to stock and ./coredns"
	@cd test && $(if $(FULL),DIFFERENTIAL_QUESTIONS=520000 DIFFERENTIAL_CHANGE=60s) CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout 60m ./differential

# faults breaks the things that ./coredns depends on. It runs as root, because a memory limit needs a cgroup. In full:
# each for half a minute, ten thousand reloads of a Corefile, and a hundred thousand faulty stanzas, hosts files,
# manifests, snapshots and objects. DRAW=1 runs the test with a memory limit, and draws docs/memory.svg.
faults: kube stock
	@echo "faults of everything that ./coredns depends on"
	@$(if $(FULL),HOSTILE_INPUTS=20000 CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 60m -run Hostile ./plugin ./plugin/files ./plugin/source)
	@cd test && $(if $(FULL),FAULTS_LASTS=30s FAULTS_HOSTILE=10s FAULTS_RELOADS=10000) \
		$(if $(DRAW),FAULTS_LASTS=5s FAULTS_PICTURE=$(CURDIR)/docs/memory.csv) CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout 60m $(if $(DRAW),-run TestMemoryLimit) ./faults
	@$(if $(DRAW),$(MAKE) --no-print-directory draw)

# draw draws the pictures of the documentation; a test compares them.
draw:
	@$(GO) run ./docs/draw

# soak breaks all of these in random order. In full: for 20 minutes.
soak: kube
	@cd test && FAULTS_SOAK=$(if $(FULL),20m,60s) CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 60m -run TestSoak ./faults

# monitoring tests the alerts and the dashboard with promtool and a Prometheus. DRAW=1 draws the dashboard for README.
monitoring: kube
	@for tool in prometheus promtool; do command -v $$tool >/dev/null || \
		{ echo "make monitoring needs $$tool: apt-get install --no-install-recommends prometheus"; exit 1; }; done
	@echo "alerts and dashboard, in a Prometheus that scrapes broken servers"
	@cd test && $(if $(DRAW),MONITORING_PICTURE=$(CURDIR)/build/kubernetes/monitoring/dashboard.svg) CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout 10m ./monitoring

# browser opens the status page of a server in trouble with Chromium, and saves screenshots in test/bin/screenshots.
browser: kube
	@command -v chromium >/dev/null || { echo "make browser needs chromium: apt-get install --no-install-recommends chromium"; exit 1; }
	@echo "the status page in a browser"
	@cd test && CGO_ENABLED=0 $(GO) test -count=1 -v ./browser

# image packs build/image/out/kubehosts.tar and kubehosts-slim.tar, for `docker load` or `ctr images import`, without a
# container engine. ARCHES="amd64 arm64" makes them for both. It writes an SBOM and a provenance statement beside each binary and
# attaches them to its image. A commit has the same digests on any machine: -trimpath leaves out the folders, and the variables
# override what the machine has set for Go.
ARCHES = $(shell $(GO) env GOARCH)
OUT = build/image/out
STRIPPED = CGO_ENABLED=0 GOFLAGS= GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0 GOFIPS140=off \
	$(GO) build -trimpath -buildvcs=true -ldflags='-s -w $(STAMP)'
PACK = $(OUT)/pack -root $(OUT)/root -version '$(VERSION)' -revision '$(REVISION)' -created '$(shell git log -1 --format=%cI)'
image:
	@echo "building the images for $(ARCHES)"
	@$(GO) build -o $(OUT)/pack ./build/image
	@cd build/sbom && $(GO) build -o ../image/out/sbom .
	@for arch in $(ARCHES); do \
		GOARCH=$$arch GOOS=linux $(STRIPPED) -o $(OUT)/linux-$$arch/coredns ./build && \
		GOARCH=$$arch GOOS=linux $(STRIPPED) -o $(OUT)/linux-$$arch/coredns-slim ./build/slim && \
		$(OUT)/sbom $(OUT)/pack $(OUT)/linux-$$arch/coredns $(OUT)/linux-$$arch/coredns-slim || exit 1; \
	done
	@$(PACK) -name kubehosts/coredns:dev -o $(OUT)/kubehosts.tar $(ARCHES:%=$(OUT)/linux-%/coredns)
	@$(PACK) -name kubehosts/coredns:dev-slim -o $(OUT)/kubehosts-slim.tar $(ARCHES:%=$(OUT)/linux-%/coredns-slim)

# supply checks what is attached to the images, in the files and in a registry, and makes the same images in another folder. In
# full it compiles everything again for the other folder, and signs the image with cosign.
COSIGN = $(call SLOW,github.com/sigstore github.com/aws github.com/Azure cloud.google.com google.golang.org \
	github.com/open-policy-agent cuelang.org k8s.io github.com/hashicorp github.com/go-openapi gitlab.com)
supply: image
	@echo "SBOM and provenance of the images"
	@cd build/sbom && $(GO) vet . && $(GO) test .
	@cd test/registry && CGO_ENABLED=0 $(GO) build -o ../bin/ tool
	@$(if $(FULL),echo "building cosign from Go modules (the first time: some minutes)" && cd test/cosign && \
		CGO_ENABLED=0 $(GO) build $(COSIGN) -ldflags='-s -w' -o ../bin/cosign github.com/sigstore/cosign/v3/cmd/cosign)
	@cd test && $(if $(FULL),SUPPLY_FULL=1) CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 30m \
		$(if $(FULL),,-skip 'Signed|Attested') ./supply

# e2e-docker runs the image in Docker's networks, as root, with a dockerd in namespaces of its own, and then the lab.
e2e-docker: image build
	@echo "the image in Docker's networks"
	@cd test && CGO_ENABLED=0 $(GO) test -count=1 -v ./docker ./lab

# sizes measures the images: on disk, and in memory beside stock on a cluster of 8,000 Services. It takes six minutes.
sizes: image kube stock
	@cd test && CGO_ENABLED=0 $(GO) test -count=1 -v ./sizes

# lab sets up a DNS server in one network namespace and a client in another, twice, as root; lab-down removes them.
lab: build
	@test/lab/lab.sh up

lab-down:
	@test/lab/lab.sh down

# e2e runs the images and the manifests on whole clusters of one node, in namespaces of their own, as root. ONLY=External, or
# another test, runs that one.
e2e: tools image kube stock node outside suite
	@echo "tests on whole clusters"
	@cd test && CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 45m -run '$(ONLY)' ./e2e

# conformance runs the test of e2e that has Kubernetes' own tests of DNS in it, those that conformance asks for. In full: all of them,
# and the same with stock.
conformance: tools image kube stock node suite
	@echo "Kubernetes' own tests of DNS on a whole cluster"
	@cd test && $(if $(FULL),CONFORMANCE_FULL=1) CGO_ENABLED=0 \
		$(GO) test -count=1 -v -timeout $(if $(FULL),2h,20m) -run Conformance ./e2e

# tools reports missing tools before minutes of building.
TOOLS = containerd:containerd runc:runc nft:nftables ip:iproute2 dig:dnsutils curl:curl
tools:
	@[ $$(id -u) = 0 ] || { echo "make e2e needs root: it makes namespaces, mounts, cgroups and containers"; exit 1; }
	@for tool in $(TOOLS); do \
		command -v $${tool%:*} >/dev/null || \
		{ echo "make e2e needs $${tool%:*}: apt-get install --no-install-recommends $${tool#*:}"; exit 1; }; \
	done

# node builds the programs of a cluster that kube does not build, the CNI plugins, and the program in the pods.
NODE = $(foreach path,k8s.io/kubectl github.com/google/cadvisor,-gcflags='$(path)/...=-N -l -dwarf=false')
VERSIONED = -X k8s.io/component-base/version.gitVersion=$$($(GO) list -m -f '{{.Version}}' k8s.io/kubernetes)
CNI = main/bridge main/loopback ipam/host-local
node: kube
	@echo "building kubelet, kube-proxy, the controllers and kubeadm from Go modules (the first time: about five minutes)"
	@cd test && CGO_ENABLED=0 $(GO) build $(PLAIN) $(NODE) -ldflags="-s -w $(VERSIONED)" -o bin/node ./node
	@mkdir -p test/bin/cni
	@cd test && CGO_ENABLED=0 $(GO) build -o bin/cni $(CNI:%=github.com/containernetworking/plugins/plugins/%)
	@cd test && CGO_ENABLED=0 $(GO) build -o bin/pod ./e2e/pod

# suite builds Kubernetes' own tests of the network, and the program in their pods.
suite: node
	@echo "building Kubernetes' own tests from Go modules (the first time: about two minutes)"
	@cd test && CGO_ENABLED=0 $(GO) test -c $(PLAIN) $(NODE) -ldflags='-s -w' -o bin/e2e.test ./conformance
	@cd test && CGO_ENABLED=0 $(GO) build $(PLAIN) $(NODE) -ldflags='-s -w' -o bin/agnhost k8s.io/kubernetes/test/images/agnhost

# outside builds Traefik and MetalLB's controller. test/traefik/dns.go replaces the code of lego, the ACME client in Traefik,
# for a hundred clouds, a third of all its packages.
SLOW = $(foreach path,$(1),-gcflags='$(path)/...=-N -l -dwarf=false')
LEGO = $$($(GO) mod download -json github.com/go-acme/lego/v4@v4.33.0 | sed -nE 's/.*"Dir": "(.*)",?$$/\1/p')
outside:
	@echo "building Traefik and MetalLB's controller from Go modules (the first time: about six minutes)"
	@rm -rf test/bin/lego && mkdir -p test/bin && cp -r "$(LEGO)" test/bin/lego && chmod -R u+w test/bin/lego && \
		cp test/traefik/dns.go test/bin/lego/providers/dns/zz_gen_dns_providers.go
	@cd test/traefik && CGO_ENABLED=0 $(GO) build $(call SLOW,github.com/traefik github.com/aws github.com/tetratelabs \
		github.com/docker github.com/quic-go github.com/influxdata knative.dev sigs.k8s.io k8s.io) -ldflags='-s -w' \
		-o ../bin/traefik github.com/traefik/traefik/v3/cmd/traefik
	@cd test/metallb && CGO_ENABLED=0 $(GO) build $(call SLOW,k8s.io sigs.k8s.io github.com/google/cel-go go.universe.tf) \
		-ldflags='-s -w' -o ../bin/metallb go.universe.tf/metallb/controller

# bench prints a table of figures beside the stock plugins, dnsmasq and unbound, and draws test/bench/scale.svg. It
# takes a quarter of an hour on an otherwise idle machine. ONLY=UDP, or another part of TestBench, prints its rows.
ONLY = .
bench: kube stock
	@cd test && CGO_ENABLED=0 $(GO) build -o bin/ ./bench/floor ./bench/echo && CGO_ENABLED=0 $(GO) test -c -o bin/bench.test ./bench
	@cd test/bench && ../bin/bench.test -test.run 'TestBench/$(ONLY)' -test.timeout 60m

clean:
	rm -rf coredns build/example/ask build/image/out test/bin
