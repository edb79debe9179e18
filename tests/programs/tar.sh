# pipe: a tree through a compressor and back
mkdir tree
for n in $(seq 1 30); do seq 1 "$((n * 300))" >"tree/$n"; done
mkdir copy
tar c tree | zstd -q | zstd -dq | tar x -C copy
diff -r tree copy/tree && find copy -type f | wc -l
