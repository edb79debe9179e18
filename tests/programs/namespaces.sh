# pipe: an IPC namespace within the program's, by unshare
unshare --ipc bash -c 'seq 1 1000 | sort -rn | head -n 1'
unshare --ipc --pid --fork bash -c 'echo one | cat; ipcs -q | wc -l'
