# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Functions that test and soak share: how a suite is run, shown, timed and counted. To be
# sourced after lib.sh, by a script that has set $out, a folder for the results.

: "${out:?is the folder for the results}"
mkdir -p "$TREE/out"
exec {lock}>"$out.lock"
flock -n "$lock" || die "another 'make ${out##*/}' is at work in this tree"
rm -rf "$out"
mkdir -p "$out"

# However it ends, the last line tells how it went.
closing() {
	local status=$? result p f
	[ -z "$other" ] || kill -TERM "$other" 2>/dev/null || true
	for result in "$out"/*.result; do
		[ -e "$result" ] || continue
		read -r p f _ <"$result"
		passed=$((passed + p)) failed=$((failed + f))
	done
	((status == 0 || failed > 0)) || failed=1
	slowest || say "  the slowest tests cannot be told"
	printf '%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0 && passed > 0)) || exit "$((status > 0 ? status : 1))"
}
trap closing EXIT

# The ten tests before whose verdicts the output of their suite paused longest.
slowest() {
	local time name
	[ -z "$(find "$out" -name '*.times')" ] || say "the slowest tests:"
	find "$out" -name '*.times' -exec cat {} + | sort -rn | sed -n 1,10p | while read -r time name; do
		printf '%8.1f s  %s\n' "$time" "$name" >&2
	done
}

# The sums of all that test programs, KUnit and scripts report.
counts() {
	awk '
		/^test result: / { for (i = 4; i < NF; i++) { if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^failed/) f += $i } }
		/^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 }
		/^ *"?(passed|failed)"? *:/ { gsub(/[",:]/, " "); if ($1 == "passed") p += $2; else f += $2 }
		END { print p + 0, f + 0 }' "$@"
}

# timed NAME CMD…: passes CMD's output on, and lists each test with the time since the verdict
# before it. A test's own clock would count its wait for a test that it must not run beside.
timed() {
	local name=$1 line test now before=${EPOCHREALTIME/[.,]/} program=''
	shift
	"$@" 2>&1 | while IFS= read -r line || [ -n "$line" ]; do
		printf '%s\n' "$line"
		now=${EPOCHREALTIME/[.,]/} test=''
		case $line in
		'== '*) program=${line#== } program=${program%-*}:: ;;
		*' Running '*) program=${line##*/} program=${program%-*}:: ;;
		'test '*' ... ok' | 'test '*' ... FAILED') test=$program${line#test } test=${test% ... *} ;;
		'  ok  '* | '  not ok  '* | 'ok  '* | 'not ok  '* | 'NOT OK  '*)
			test=${line#*[oO][kK]  } test=${test#"${test%%[! ]*}"}
			;;
		*) continue ;;
		esac
		[ -z "$test" ] || printf '%d.%06d %s: %s\n' $(((now - before) / 1000000)) $(((now - before) % 1000000)) \
			"$name" "$test" >>"$out/$name.times"
		before=$now
	done
}

# suite NAME CMD…: runs CMD, shows its output if it fails, and keeps its counts and time.
suite() {
	local name=$1 start=$SECONDS status p f files
	shift
	watched "$name" "$out/$name.log" timed "$name" "$@"
	files=("$out/$name.log")
	[ ! -s "$out/$name.kunit" ] || files+=("$out/$name.kunit")
	read -r p f < <(counts "${files[@]}")
	if ((status != 0 || f > 0 || p == 0)); then
		cat "$out/$name.log" >&2
		((f > 0)) || f=1
		say "  not ok  $name: $p passed, $f failed, status $status, in $((SECONDS - start)) s"
		say "          $*"
	else
		say "  ok      $name: $p passed, in $((SECONDS - start)) s"
	fi
	echo "$p $f $((SECONDS - start))" >"$out/$name.result"
}

# beside ONE OTHER: runs two functions at once. The other's output is no terminal, so that
# only one of them keeps a line there.
other=''
beside() {
	"$2" 2> >(cat >&2) &
	other=$!
	"$1"
	wait "$other"
	other=''
}
