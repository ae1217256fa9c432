"""A pool of threads for the library's tasks that stays right whatever exception comes, and whenever.

An exception can come between any two bytecodes of a thread: in the main thread from whatever a signal's handler raises
(KeyboardInterrupt, a timeout), in any thread by PyThreadState_SetAsyncExc(). Two things must not happen then. The
caller must not go on while the library still writes to its arrays. And no exception may come in the Python function
that the library calls to share its tasks, since ctypes can only print what is raised there. Hence:

- A thread of the pool makes the call into the library and shares its tasks with the others. No handlers run there.
- The calling thread hands it over and waits, both within one call of a C function (Threads.run). So exceptions come
  before anything has begun or after everything has ended, as they do where the library works on the calling thread.
- What is raised in the pool nevertheless (no memory, say) is kept, and raised for the caller once all has ended.
- A call owns what the library reads and writes, until it has ended.
- Nothing here has a __del__() or a weak reference's callback in Python, where what is raised is only printed, too; nor
  has threading.Thread, which is why threads are started without it.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import itertools
import operator
import os
import sys
import threading
import weakref
from collections import deque
from queue import SimpleQueue
from typing import Callable, ContextManager, Iterable, Iterator, Optional, Union

import numpy as np

from . import _c

_MAX_COUNT = 4096  # a slip of the keyboard, not a machine

# Locks of the interpreter's C API. threading.Lock.acquire() runs signal handlers while it waits, and raises what they
# raise; PyThread_acquire_lock() does not return before it has the lock. CDLL, unlike pythonapi, releases the GIL.
_allocate_lock = ctypes.pythonapi.PyThread_allocate_lock
_allocate_lock.restype, _allocate_lock.argtypes = ctypes.c_void_p, []
_acquire_lock = ctypes.CDLL(ctypes.pythonapi._name).PyThread_acquire_lock
_acquire_lock.restype, _acquire_lock.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]
_release_lock = ctypes.pythonapi.PyThread_release_lock
_release_lock.restype, _release_lock.argtypes = None, [ctypes.c_void_p]

_gates: list[int] = []  # such locks, all held, for waits to come


def _gate() -> int:
    """A lock that is held: who acquires it waits until it is released."""
    with contextlib.suppress(IndexError):
        return _gates.pop()
    lock = _allocate_lock()
    if not lock:
        raise MemoryError("a lock")
    _acquire_lock(lock, 1)
    return lock


def _waits(gate: int) -> Iterator:
    """Waits until the gate is released, each time that something is taken from it."""
    return map(_acquire_lock, itertools.repeat(gate), itertools.repeat(1))


def _exhaust(iterator: Iterable) -> None:
    """Takes all that an iterator yields. Made of C functions alone it does so without a bytecode in between, where an
    exception could come."""
    deque(iterator, maxlen=0)


class _Tasks:
    """What one call of the runner is to run, by all who help."""

    def __init__(self, task: Callable, argument: Optional[int], count: int):
        self.task, self.argument = task, argument
        self.waiting = deque(range(count))
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Runs tasks until none is waiting: while True: task(argument, waiting.popleft())."""
        try:
            _exhaust(map(self.task, itertools.repeat(self.argument), iter(self.waiting.popleft, None)))
        except IndexError:
            pass
        except BaseException as error:  # for the one who shares the tasks; they are counted in the library
            self.errors.append(error)


class _Help:
    """A request for help, for another thread; it may come too late, and then finds no task waiting."""

    def __init__(self, tasks: _Tasks):
        self.tasks = tasks
        self.inside = threading.Lock()  # held while tasks run

    def work(self, _inbox: SimpleQueue) -> None:
        with self.inside:
            self.tasks.run()

    def end(self, _error: Optional[BaseException]) -> None:
        pass


class _Call:
    """A call into the library, and all that it reads and writes."""

    def __init__(self, function: Callable, arguments: tuple, owned: tuple, count: int):
        self.function, self.arguments, self.owned, self.count = function, arguments, owned, count
        self.status: Optional[int] = None
        self.error: Optional[BaseException] = None
        self.ended = _gate()

    def work(self, inbox: SimpleQueue) -> None:
        def run(_context, count: int, task: Callable, argument: Optional[int]) -> None:
            try:
                self.share(inbox, _Tasks(task, argument, count), count)
            except BaseException as error:
                self.error = error

        callback = _c.RUN(run)
        runner = _c.Runner(callback, None, self.count)
        self.status = self.function(*self.arguments, ctypes.byref(runner))

    def share(self, inbox: SimpleQueue, tasks: _Tasks, count: int) -> None:
        """Runs tasks with the help of other threads, and leaves when nobody runs any."""
        helps: list[_Help] = []
        try:
            for _ in range(count - 1):
                helps.append(_Help(tasks))
                inbox.put(helps[-1])
        finally:
            tasks.run()
            tasks.waiting.clear()  # empty already, unless tasks cannot be run
            for help_ in helps:
                with help_.inside:
                    pass
        if tasks.errors:
            raise tasks.errors[0]

    def end(self, error: Optional[BaseException]) -> None:
        if error is not None:
            self.error = error
        _release_lock(self.ended)

    def result(self) -> int:
        """The library's status, or the exception."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # its traceback knows this call: no cycle
        if self.status is None:
            raise _closed()
        return self.status


def _serve(inbox: SimpleQueue, gone: weakref.ref, begun: int, alive: _thread.LockType) -> None:
    """The life of a thread of the pool, until the inbox brings None, or the reference that tells of the pool's end."""
    _here.serves = True
    _release_lock(begun)
    for item in iter(inbox.get, None):
        if item is gone:
            break
        error = None
        try:
            item.work(inbox)
        except BaseException as raised:
            error = raised
        finally:
            item.end(error)
        item = error = None  # owned by nobody while this thread waits
    inbox.put(None)  # for the next thread
    alive.release()


_here = threading.local()


def _in_pool() -> bool:
    """Whether this is a pool's thread, in which a finaliser of the caller's may run: it must not wait for a pool."""
    return hasattr(_here, "serves")


def _closed() -> RuntimeError:
    return RuntimeError("these fff.Threads are closed")


class Threads:
    """A pool of threads that share a layer's work: `with fff.Threads(4) as threads: layer(x, threads=threads)`.

    A call costs some tens of microseconds more with it: it pays for batches of hundreds of tokens. It may be used by
    several threads: their calls wait for one another, as each takes the whole pool. An exception that comes meanwhile,
    such as KeyboardInterrupt, is raised once all tasks have ended; what `out` then holds is undefined. In the child of
    a fork the threads are started anew when they are first used. While the interpreter goes down, when threads no
    longer run, the calling thread works alone. Once closed, a call is a RuntimeError and touches nothing. Copies are
    the pool itself.
    """

    def __init__(self, count: int):
        count = operator.index(count)
        if not 1 <= count <= _MAX_COUNT:
            raise ValueError(f"{count} threads: 1 to {_MAX_COUNT}")
        self._open: list[SimpleQueue] = []  # the inbox; none while there are no threads
        self._count, self._closed = count, False
        self._lock = threading.RLock()  # a handler of this thread may use the pool, too
        self._alive: list[_thread.LockType] = []  # held by the threads
        self._process = _process
        # Dies with the pool and not before: references to what the garbage collector knows, as it does not know arrays,
        # are called before finalisers, and these may still use the pool.
        self._lives = np.empty(0)
        if count > 1:  # one is the calling thread
            self._start()

    def _start(self) -> None:
        """Starts the threads. They do not keep the interpreter from ending, and work until it has run the functions
        registered with atexit."""
        inbox: SimpleQueue = SimpleQueue()
        gone = weakref.ref(self._lives, inbox.put)  # kept by the threads, which do not keep the pool
        locks = [_thread.allocate_lock() for _ in range(self._count)]
        for lock in locks:
            lock.acquire()
        begun = _gate()
        arguments = [(inbox, gone, begun, lock) for lock in locks]
        # For each lock: start a thread, wait until it has begun (else the interpreter may end, and crash, before), and
        # append the lock to self._alive; then the inbox to self._open.
        each = zip(map(_thread.start_new_thread, itertools.repeat(_serve), arguments), _waits(begun),
                   map(self._alive.append, locks))
        try:
            _exhaust(itertools.chain(each, map(self._open.append, (inbox,)), map(_gates.append, (begun,))))
        except RuntimeError as error:
            inbox.put(None)
            raise RuntimeError(f"{len(self._alive)} of {self._count} threads could be started ({error})") from error

    def _renew(self) -> None:
        """In the child of a fork, threads, inbox and lock are the parent's."""
        with _renewing:
            if self._process is not _process:
                self._lock, self._open, self._alive = threading.RLock(), [], []
                self._process = _process

    def _run(self, function: Callable, arguments: tuple, owned: tuple, tokens: int) -> int:
        """function(*arguments, runner) of the library, which uses what `owned` holds: its status."""
        if self._closed:
            raise _closed()
        if self._count == 1 or tokens <= 1 or _in_pool() or sys.is_finalizing():
            return function(*arguments, None)
        self._renew()
        with self._lock:
            if self._closed:
                raise _closed()
            if not self._open:
                self._start()
            call = _Call(function, arguments, owned, self._count)
            # Put the call into the inbox, then wait until it has ended: zip takes from the one iterator, then from the
            # other. There is no inbox if a handler has closed the pool between the lines above and here, and there are
            # two if one has started it.
            puts = map(operator.methodcaller("put", call), itertools.islice(self._open, 1))
            _exhaust(itertools.chain(zip(puts, _waits(call.ended)), map(_gates.append, (call.ended,))))
            return call.result()

    @property
    def count(self) -> int:
        """The number of threads."""
        return self._count

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Ends the threads, after a call that another thread is making."""
        self._renew()
        with contextlib.nullcontext() if _in_pool() else self._lock:
            self._closed = True
            self._stop()
        if not _in_pool():
            for lock in self._alive:
                with lock:
                    pass

    def _stop(self) -> None:
        with contextlib.suppress(IndexError):  # while True: self._open.pop().put(None)
            _exhaust(map(operator.methodcaller("put", None), iter(self._open.pop, None)))

    def __enter__(self) -> Threads:
        if self._closed:
            raise _closed()
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"fff.Threads({self._count}{', closed' if self._closed else ''})"

    def __copy__(self) -> Threads:
        return self

    def __deepcopy__(self, _memo) -> Threads:
        return self

    def __reduce__(self):
        raise TypeError("fff.Threads cannot be pickled: make them in the process that uses them")


_process, _renewing = object(), threading.RLock()


def _forked() -> None:
    global _process, _renewing
    _process, _renewing = object(), threading.RLock()


os.register_at_fork(after_in_child=_forked)


def pool_of(threads: Union[Threads, int, None]) -> ContextManager[Optional[Threads]]:
    """What a call's argument `threads` stands for. A number is a pool for that call."""
    if threads is None or isinstance(threads, Threads):
        return contextlib.nullcontext(threads)
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads is a {type(threads).__name__}, not fff.Threads, a number or None")
    return Threads(threads)
