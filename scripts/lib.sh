# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts share: where things are, how a long step is shown, and how
# a result is cached. To be sourced.

set -euo pipefail

TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE=${IPCDEMO_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set, and the cache lives below it}/.cache}/ipcdemo}
mkdir -p "$CACHE/locks" "$CACHE/logs" "$CACHE/cargo"
CACHE=$(cd "$CACHE" && pwd -P)
export TREE CACHE
case $TREE$CACHE in
*[[:space:]]*)
	echo "error: the kernel's build takes no spaces in paths: $TREE, $CACHE (IPCDEMO_CACHE names another cache)" >&2
	exit 1
	;;
esac

# How a guest for tests gets the module: its routes are armed, and stay so (qemu/README.md).
# shellcheck disable=SC2034
ROUTED=(--module-args routes=2 --patching)

say() { printf '%s\n' "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# left DIR: the MiB that its file system has left for this user.
left() { df --output=avail -BM -- "$1" | tail -n 1 | tr -dc 0-9; }

# room MIB WHAT [DIR VARIABLE]: dies if WHAT takes more than there is where it goes: to the
# cache unless DIR is given, which VARIABLE names.
room() {
	local need=$1 what=$2 dir=${3:-$CACHE} variable=${4:-IPCDEMO_CACHE} left
	left=$(left "$dir")
	((left >= need)) || die "$what takes $need MiB on its way, and the file system of $dir has $left MiB left:" \
		"make room there, or have $variable name a folder elsewhere"
}

# known_tests NAME…: dies if one of them names no user-space tests, before anything is built
# for them. As with cargo, a name may be a pattern.
known_tests() {
	local name there=$TREE/tests/tests
	for name in "$@"; do
		compgen -G "$there/$name.rs" >/dev/null || compgen -G "$there/$name/main.rs" >/dev/null ||
			die "there are no tests of '$name'; there are: $(basename -as .rs "$there"/* | paste -sd ' ')"
	done
}

# watched NAME LOG CMD…: runs CMD with its output in LOG, and shows meanwhile
# that it does. CMD's status goes to $status: a caller that tested this
# function's own would switch off 'set -e' inside CMD.
watched() {
	local name=$1 log=$2 ticker pid
	shift 2
	# A job that bash starts in the background ignores ^C. As a process group of
	# its own, it can be ended with all that it started.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	ticks "$name" "$log" &
	ticker=$!
	trap 'kill -TERM -- "-$pid" "$ticker" 2>/dev/null; say "interrupted: $name"; exit 130' INT TERM HUP
	status=0
	wait "$pid" || status=$?
	trap - INT TERM HUP
	kill "$ticker" 2>/dev/null || true
	wait "$ticker" 2>/dev/null || true
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

# On a terminal the time and the log's last line, elsewhere a line every half
# minute. It waits by read and not by sleep, which would outlive it.
ticks() {
	local start=$SECONDS never last
	exec {never}<> <(:)
	while true; do
		if [ -t 2 ]; then
			read -rt 0.2 -u "$never" || true
			last=$(tail -n 1 "$2" 2>/dev/null | tr -d '\r' | cut -c 1-60)
			printf '\r\033[K  %s  %d s  %s' "$1" $((SECONDS - start)) "$last" >&2
		else
			read -rt 30 -u "$never" || true
			say "  $1  $((SECONDS - start)) s …"
		fi
	done
}

# step NAME CMD…: something that has to succeed. A failure names the step, the
# command and the log.
step() {
	local name=$1 log start=$SECONDS status
	shift
	log=$CACHE/logs/$(tr -cs 'A-Za-z0-9.\n' - <<<"$name").$$.log
	watched "$name" "$log" "$@"
	if [ "$status" != 0 ]; then
		tail -n 25 "$log" >&2
		! grep -q 'No space left on device' "$log" ||
			say "error: a file system is full: $CACHE has $(left "$CACHE") MiB left, $TREE $(left "$TREE") MiB"
		say "error: the step '$name' failed with status $status after $((SECONDS - start)) s"
		say "  command: $*"
		say "  log:     $log"
		exit 1
	fi
	# rustc's and cargo's warnings are worth seeing.
	grep -A 12 '^warning: ' "$log" >&2 || true
	rm -f "$log"
	say "  $name: done in $((SECONDS - start)) s"
}

# key FILE-OR-STRING…: sixteen digits that change when any of them does.
key() {
	local item
	for item in "$@"; do
		if [ -f "$item" ]; then cat "$item"; else printf '%s\n' "$item"; fi
	done | sha256sum | cut -c 1-16
}

# A cache entry is a folder that was finished if its .complete file lists the
# files that matter, each with the size and time it has now.
entry_state() { (cd "$1" && stat -c '%n %s %Y' -- "${@:2}"); }

entry_valid() {
	local dir=$1 want
	[ -s "$dir/.complete" ] || return 1
	want=$(<"$dir/.complete")
	mapfile -t files < <(cut -d ' ' -f 1 <<<"$want")
	[ "$(entry_state "$dir" "${files[@]}" 2>/dev/null)" = "$want" ]
}

# entry DIR MIB MAKE FILE…: makes sure that DIR is finished. Otherwise, under a
# lock so that two runs do not both do it, it is emptied and MAKE DIR fills it,
# for which there have to be MIB left; FILE… then have to be there.
entry() {
	local dir=$1 need=$2 make=$3 lock
	shift 3
	entry_valid "$dir" && return
	exec {lock}>"$CACHE/locks/${dir##*/}"
	if ! flock -n "$lock"; then
		say "  waiting for another run that is making ${dir##*/}"
		flock "$lock"
	fi
	if ! entry_valid "$dir"; then
		[ ! -e "$dir" ] || say "  ${dir##*/} is incomplete or damaged: making it anew"
		remove "$dir"
		room "$need" "${dir##*/}"
		mkdir -p "$dir"
		"$make" "$dir"
		entry_state "$dir" "$@" >"$dir/.complete.new" ||
			die "$make finished, but left no usable $* in $dir"
		mv "$dir/.complete.new" "$dir/.complete"
	fi
	exec {lock}>&-
}

# remove DIR: never reaches through a mount, and refuses if there is one.
remove() {
	[ -e "$1" ] || return 0
	if grep -qE " $1(/[^ ]*)? " <(cut -d ' ' -f 5 /proc/self/mountinfo | sed 's/.*/ & /'); then
		die "something is mounted at or below $1; unmount it first"
	fi
	chmod -R u+w "$1" 2>/dev/null || true
	rm -rf --one-file-system "$1"
}

# verdict STATUS NAME: tells and counts one check of a script that has several;
# summary is its last line.
passed=0 failed=0
verdict() {
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		say "  ok      $2"
	else
		failed=$((failed + 1))
		say "  not ok  $2"
	fi
}

summary() {
	printf '%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0))
}
