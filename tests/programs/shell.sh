# pipe: pipelines, their statuses, and what bash makes of them
seq 1 200000 | sort -rn | uniq | tail -1
yes | head -1
echo "${PIPESTATUS[@]}"
set -o pipefail
false | true
echo $?
cat <(echo one) <(echo two)
echo three | cat /dev/stdin
seq 1 20 | xargs -P 4 -n 5 echo | sort
coproc cat
echo four >&"${COPROC[1]}"
read -r line <&"${COPROC[0]}"
echo "$line"
