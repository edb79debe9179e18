# counter: Go programs, whose poller an eventfd wakes, between pipes
set -o pipefail
age-keygen -o key 2>recipient
recipient=$(sed 's/.*: //' recipient)
seq 1 100000 | age -r "$recipient" | age -d -i key | cksum
seq 1 1000 | fzf --filter "'77" | sort -n
