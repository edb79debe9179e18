# pipe: a timer's signals, each with a handler, while calls that never end by one are made
python3 - <<'P'
import os, signal, subprocess

failed = 0

def try_all(times, make):
    global failed
    for _ in range(times):
        try:
            make()
        except OSError:
            failed += 1

def make_pipe():
    for end in os.pipe():
        os.close(end)

signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
try_all(400, make_pipe)
try_all(400, lambda: os.close(os.eventfd(0)))
try_all(20, lambda: subprocess.run(["true"], stdout=subprocess.PIPE, check=True))
signal.setitimer(signal.ITIMER_REAL, 0)
print(failed)
P
for i in $(seq 30); do
	dash -c '(:)& (:)& echo a | cat | cat >/dev/null' || echo "wrong in round $i"
done
