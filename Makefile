# weft: build, demo and tests. `make` lists the targets.

# The oldest Go that builds weft. Debian 12 ships 1.19.
GO_MIN      := 1.26
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0
# The newest whose modules are all on the public proxy.
NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2
FUZZTIME    := 10s
PREFIX      := /usr/local

# The reference plugins of the CNI project that the benchmarks compare with.
CNI_PLUGINS := main/bridge ipam/host-local

export CGO_ENABLED := 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X github.com/weft-net/weft/cmd/internal/version.stamp=$(VERSION)

# Of packages: a tag's number, or what sorts before the first one. Everything in them is dated as the commit.
PACKAGE_VERSION := $(patsubst v%,%,$(subst -,+,$(if $(filter v%,$(VERSION)),$(VERSION),0.0.$(shell git rev-list --count HEAD 2>/dev/null)+$(VERSION))))
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# What the demo and the tests need beside Go, as command=Debian package.
NEEDS_DEMO := ip=iproute2 ping=iputils-ping iperf3=iperf3 nsenter=util-linux
NEEDS_TEST := $(NEEDS_DEMO) sysctl=procps gcc=gcc,libc6-dev ab=apache2-utils ethtool=ethtool nft=nftables iptables=iptables \
              busybox=busybox-static containerd=containerd runc=runc /usr/lib/cni/portmap=containernetworking-plugins \
              promtool=prometheus jsonschema=python3-jsonschema
NEEDS_PODMAN := podman=podman crun=crun conmon=conmon
NEEDS_PACKAGE_TEST := debootstrap=debootstrap systemd-nspawn=systemd-container rpm=rpm qemu-aarch64-static=qemu-user-static \
              busybox=busybox-static containerd=containerd runc=runc /usr/lib/cni/portmap=containernetworking-plugins \
              ip=iproute2 nsenter=util-linux sysctl=procps
NEEDS_SOAK := $(NEEDS_DEMO) nft=nftables sysctl=procps
NEEDS_BENCH := $(NEEDS_DEMO) sockperf=sockperf ab=apache2-utils

.PHONY: help build demo demo-down test lint unit race netns partition handover soak cni-containerd2 cni-podman fuzz sim sim-mutants bench bench-quick \
        bench-build package package-test install uninstall clean go root need-demo need-test need-soak need-bench need-package-test need-podman

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: go ## static binaries in bin/
	@go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/ ./cmd/weftd ./cmd/weft ./cmd/weft-cni
	@echo "built bin/weftd, bin/weft and bin/weft-cni"

demo: root need-demo build ## three nodes on this machine, shown at work; KEEP=1 leaves them running
	@go build -buildvcs=false -o bin/weft-demo ./bench/demo
	@bin/weft-demo -bin bin $(if $(KEEP),-keep)

demo-down: go root ## take down what `make demo KEEP=1` left running
	@go build -buildvcs=false -o bin/weft-demo ./bench/demo
	@bin/weft-demo -down

test: lint race netns ## everything CI runs; the three can be run alone

lint: go ## formatting, vet and staticcheck
	@unformatted=$$(gofmt -l bench cmd cni dataplane encap membership); \
	    [ -z "$$unformatted" ] || { echo "not formatted, run gofmt -w:" $$unformatted; exit 1; }
	go vet ./...
	go vet -tags netns,partition,containerd2,handover,daemonset,podman ./...
	go run $(STATICCHECK) -checks all,-ST1000,-ST1020,-ST1021,-ST1022 -tags netns,partition,containerd2,handover,daemonset,podman ./...
	go -C cmd/weftd/packaging/release vet ./...
	@said=$$(go run $(GOVULNCHECK) ./... 2>&1) || case "$$said" in \
	    *"fetching vulnerabilities"*) said="known vulnerabilities were NOT looked for: $$said";; *) echo "$$said"; exit 1;; \
	    esac; echo "$$said"

unit: go ## tests that need neither root nor a C compiler
	go test ./...

race: go need-test ## the same under the race detector
	CGO_ENABLED=1 go test -race -short ./...
	go test ./membership/... ./dataplane ./dataplane/path

netns: root need-test build ## tests with real daemons in network namespaces
	go test -tags netns,partition -count 1 -timeout 9m -p 2 -parallel 4 ./cmd/weftd $$(grep -rl --include='*_test.go' '^//go:build netns' . | xargs -n1 dirname | sort -u)

partition: root need-test build ## a partition longer than memberlist remembers its members, healed; 2 minutes
	go test -tags partition -count 1 -timeout 5m -v -run Partition ./cmd/weftd

handover: root need-test build ## restarts, takeovers and kills under load: packets lost, where, longest gaps; 4 minutes
	go test -tags netns,handover -count 1 -timeout 20m -v -run Handovers ./cmd/weftd

soak: root need-soak build ## an hour of abuse, looking for leaks, lost connections and packets; MINUTES= and SEED= set it
	@go build -buildvcs=false -o bin/weft-soak ./bench/soak
	@bin/weft-soak -bin bin $(if $(MINUTES),-minutes $(MINUTES)) $(if $(SEED),-seed $(SEED))

cni-containerd2: root need-test build ## the CNI plugin under a containerd 2, whose build takes 4 minutes
	go test -tags netns,containerd2 -count 1 -timeout 15m -run Containerd2 ./cni/e2e

cni-podman: root need-test need-podman build ## the CNI plugin under Podman, which it installs
	go test -tags netns,podman -count 1 -timeout 5m -run Podman ./cni/e2e

fuzz: go ## every fuzz target for FUZZTIME each
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do \
	    for target in $$(go test -list '^Fuzz' $$dir | grep '^Fuzz'); do \
	        echo "== $$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir; \
	    done; \
	done

sim: go ## membership in virtual time, histories of simulated clusters; HISTORIES= SEED= NODES= narrow it, HISTORY= replays one
	@go build -buildvcs=false -o bin/weft-sim ./membership/sim/cmd
	@bin/weft-sim $(if $(HISTORIES),-histories $(HISTORIES)) $(if $(SEED),-seed $(SEED)) $(if $(NODES),-nodes $(NODES)) \
	    $(if $(HISTORY),-history $(HISTORY)) $(if $(HISTORIES)$(NODES)$(HISTORY),,-large -joins)

scale: go ## gossip among 3 to 300 nodes, in virtual time: convergence, bytes, memory; 10 minutes
	go test -tags scale -count 1 -timeout 20m -v -run Scale ./membership/gossip

sim-mutants: go ## breaks the rules of membership one by one, and sees that the simulation notices
	go test -tags sim -count 1 -timeout 30m -v -run Mutants ./membership/sim

bench: root need-bench bench-build ## compare with other overlays, an hour; SCENARIOS= SUBJECTS= ROUNDS= narrow it
	@bin/weft-bench -bin bin $(if $(SCENARIOS),-scenarios $(SCENARIOS)) $(if $(SUBJECTS),-subjects $(SUBJECTS)) $(if $(ROUNDS),-rounds $(ROUNDS))

bench-quick: root need-bench bench-build ## the same in two minutes: does the harness work?
	@bin/weft-bench -bin bin -quick $(if $(SCENARIOS),-scenarios $(SCENARIOS)) $(if $(SUBJECTS),-subjects $(SUBJECTS))

bench-build: build
	@go build -trimpath -buildvcs=false -o bin/ golang.zx2c4.com/wireguard
	@GOBIN=$(CURDIR)/bin/cni go install $(CNI_PLUGINS:%=github.com/containernetworking/plugins/plugins/%@v1.9.1)
	@go build -buildvcs=false -o bin/weft-bench ./bench

package: go ## binaries, .deb, .rpm, OCI image, checksums and SBOM in bin/package, the same bytes each time
	@VERSION='$(PACKAGE_VERSION)' LDFLAGS='$(LDFLAGS)' NFPM='$(NFPM)' SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) cmd/weftd/packaging/build.sh

package-test: root need-package-test ## packages installed, upgraded and restarted under traffic, and purged, in a Debian of its own; 15 minutes
	@cmd/weftd/packaging/test/run.sh

install: build ## binaries, systemd unit and an example configuration, below DESTDIR
	install -D -t $(DESTDIR)$(PREFIX)/bin bin/weftd bin/weft bin/weft-cni
	install -d $(DESTDIR)/etc/systemd/system
	sed 's,/usr/local/bin/,$(PREFIX)/bin/,' cmd/weftd/weftd.service > $(DESTDIR)/etc/systemd/system/weftd.service
	install -d $(DESTDIR)/etc/weft
	[ -e $(DESTDIR)/etc/weft/weft.yaml ] || bin/weftd config default > $(DESTDIR)/etc/weft/weft.yaml

uninstall: ## what install put in place, but not the configuration; run `weft uninstall` before
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,weftd weft weft-cni) $(DESTDIR)/etc/systemd/system/weftd.service

clean: ## what the build made
	rm -rf bin bench/out

go:
	@command -v go >/dev/null || { echo "weft needs Go $(GO_MIN) or newer, and there is no go in PATH: see https://go.dev/doc/install"; exit 1; }
	@have=$$(go version | sed 's/^go version go\([^ ]*\).*/\1/'); \
	    [ "$$(printf '%s\n' $(GO_MIN) "$$have" | sort -V | head -n 1)" = $(GO_MIN) ] || { \
	    echo "weft needs Go $(GO_MIN) or newer, this is $$have ($$(command -v go)). Install a newer one in a minute:"; \
	    echo "  https://go.dev/doc/install, then put /usr/local/go/bin in front of PATH"; exit 1; }

root:
	@[ "$$(id -u)" = 0 ] || { echo "network namespaces need root: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)"; exit 1; }

# Installs what is missing, and says so. Needs apt-get and root only where something is. What Debian would start with a package, such
# as prometheus, is not started (policy-rc.d; deb-systemd-invoke(1p)).
define install_missing
	@missing=""; for need in $(1); do command -v $${need%%=*} >/dev/null || missing="$$missing $$(echo $${need##*=} | tr , ' ')"; done; \
	    [ -z "$$missing" ] || { echo "installing from the distribution:$$missing"; \
	    command -v apt-get >/dev/null || { echo "no apt-get here: install these packages by hand"; exit 1; }; \
	    policy=/usr/sbin/policy-rc.d; [ -e $$policy ] || { trap "rm -f $$policy" EXIT INT TERM; \
	    printf '#!/bin/sh\nexit 101\n' >$$policy && chmod 755 $$policy; }; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }
endef

need-demo:
	$(call install_missing,$(NEEDS_DEMO))

need-test:
	$(call install_missing,$(NEEDS_TEST))

need-soak:
	$(call install_missing,$(NEEDS_SOAK))

need-bench:
	$(call install_missing,$(NEEDS_BENCH))

need-podman:
	$(call install_missing,$(NEEDS_PODMAN))

need-package-test:
	$(call install_missing,$(NEEDS_PACKAGE_TEST))
