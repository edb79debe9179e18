# counter: by Python's own binding
python3 - <<'P'
import os, select, threading

fd = os.eventfd(3)
print(os.eventfd_read(fd))
poll = select.epoll()
poll.register(fd, select.EPOLLIN)
threading.Thread(target=os.eventfd_write, args=(fd, 5)).start()
print([events for _, events in poll.poll(10)], os.eventfd_read(fd))
semaphore = os.eventfd(2, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
print(os.eventfd_read(semaphore), os.eventfd_read(semaphore))
try:
    os.eventfd_read(semaphore)
except BlockingIOError as error:
    print(error)
P
