# pipe: traced by ptrace alone, and with a filter of the tracer's
for how in "strace -f" "strace -f --seccomp-bpf"; do
	$how -qq -e trace=pipe2,pipe,eventfd2 -e signal=none -o trace bash -c 'seq 3 | tail -n 1 | cat; echo $?'
	grep -cE 'pipe2?\(\[[0-9]+, [0-9]+\].*\) += 0$' trace
done
