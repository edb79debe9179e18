# pipe: a clone is two programs at the two ends of pipes
export HOME=$PWD GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git config --global user.name name
git config --global user.email name@example
git init -q -b main from
for n in $(seq 1 20); do
	seq 1 "$((n * 100))" >"from/file-$n"
	git -C from add .
	git -C from commit -q -m "commit $n"
done
git clone -q "file://$PWD/from" to
git -C to gc -q
git -C to fsck --full 2>&1
git -C to log --oneline | head -n 3
git -C to count-objects
