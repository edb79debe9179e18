# pipe: its job server hands out tokens by a pipe
cat >Makefile <<'M'
all: $(addprefix job-,1 2 3 4 5 6 7 8) sub
	@cat job-* sub-*
job-%:
	@echo $* >$@
sub:
	@$(MAKE) -f Sub
M
cat >Sub <<'M'
all: $(addprefix sub-,1 2 3 4 5 6)
sub-%:
	@echo sub $* >$@
M
make -j4 --jobserver-style=pipe --no-print-directory
