# pipe: a static program, with a shell of its own
busybox sh -c 'seq 1 1000 | sort -rn | head -n 3; yes | head -n 2; echo $?'
busybox sh -c 'echo hello | tee copy | wc -c; cat copy'
