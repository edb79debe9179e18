# SPDX-License-Identifier: GPL-2.0
#
# The commands, and nothing else; scripts/ does the work.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
KERNEL ?= small

.PHONY: help run test quick shell bench profile debug-test coverage mutations check soak modules modules_install rust-analyzer clean distclean

help: ## this list
	@sed -nE 's/^([a-z_-]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26

run: ## the tour: a module in Rust answers in Debian's own kernel, in a VM
	@scripts/run

test: ## all that must pass before a change lands; T=counter narrows
	@scripts/test $(T)

quick: ## after an edit: rebuild, resume a VM, run one object's tests; T=counter unless given
	@scripts/quick $(T)

shell: ## a prompt inside the VM, with the module loaded; KERNEL=stock, small or debug
	@scripts/shell $(KERNEL)

soak: ## what is too long for 'make test'; S='random mutations' names parts
	@scripts/soak $(S)

bench: ## the module against the kernel's own; B='--setting wall pipe/' narrows, BASE=old.json shows what moved
	@scripts/bench $(if $(BASE),--base '$(BASE)') $(B)

profile: ## which kernel functions an operation spends its instructions in; B='counter/write, epoll' names it
	@scripts/bench --profile '$(B)'

debug-test: ## the tests on the debug kernel: KASAN, lockdep, kmemleak, fault injection
	@scripts/test --only debug $(T)

coverage: ## what of the original's source the tests reach; FILE=fs/eventfd.c and T=counter unless given
	@scripts/coverage $(if $(FILE),--file '$(FILE)') $(T)

mutations: ## break the module in each way that tests/mutations/ lists, and see its test go red; M=ring narrows
	@scripts/mutations $(M)

check: ## formatting, clippy, rustdoc, shellcheck, checkpatch, unsafe, rooms, docs/kernel.md, docs/call-sites.md; whether mutations and other patches apply
	@scripts/check

# With the user's own kernel and tools: KDIR=DIR, LLVM=1 and what else Kbuild takes.
KDIR ?= /lib/modules/$(shell uname -r)/build
kbuild = $(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(CURDIR)/out/modules $(if $(RUSTC),RUSTC='$(RUSTC)')

modules: ## build against your own kernel, KDIR=DIR LLVM=1: out/modules/ipcdemo.ko
	@RUSTC='$(RUSTC)' scripts/check-kdir '$(KDIR)'
	@mkdir -p out/modules
	$(kbuild) modules

modules_install: ## and install what 'make modules' built
	@[ -e out/modules/ipcdemo.ko ] || { echo "error: nothing is built yet: make modules KDIR=DIR LLVM=1" >&2; exit 1; }
	$(kbuild) modules_install

rust-analyzer: ## the project file that editors need: rust-project.json
	@scripts/rust-analyzer

clean: ## remove what was built in the tree: out/
	rm -rf out rust-project.json

distclean: clean ## and the caches: toolchain, kernels, saved guests
	@scripts/distclean
