# pipe: subprocess, asyncio and multiprocessing
python3 - <<'P'
import asyncio, multiprocessing, subprocess

print(subprocess.run(["tr", "a-z", "A-Z"], input="shout", text=True, capture_output=True).stdout)

async def main():
    cat = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await cat.communicate(b"x" * 300000)
    print(len(out))
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, sum, range(1000)))

asyncio.run(main())

def square(queue, n):
    queue.put(n * n)

context = multiprocessing.get_context("fork")
queue = context.Queue()
workers = [context.Process(target=square, args=(queue, n)) for n in range(8)]
for worker in workers:
    worker.start()
print(sorted(queue.get() for _ in workers))
for worker in workers:
    worker.join()
P
