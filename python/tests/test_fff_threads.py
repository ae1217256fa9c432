"""fff.Threads, whatever exception comes: no result half computed, no exception lost, no task that runs on.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/tests/test_fff_threads.py
"""

import _thread
import concurrent.futures
import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
import warnings
from unittest import mock

import numpy as np

import fff
from fff import _threads

WIDTH, DEPTH = 96, 6


def make():
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((2, fff.nodes_per_tree(DEPTH), WIDTH), np.float32)
    return fff.Layer(weights[0] / 10, weights[1], depth=DEPTH), rng.standard_normal((3000, WIDTH), np.float32)


LAYER, X = make()
Y = LAYER(X)


class Stop(Exception):
    """What a handler of the caller's own may raise."""


class Alarm:
    """Raises in the main thread, by a signal, after `delay` and, where given, every `interval` from then on; only in
    the package's functions and what they call, so that it is not this test that is interrupted."""

    PACKAGE = os.path.dirname(fff.__file__)

    def __init__(self, delay, error=KeyboardInterrupt, interval=0.0):
        self.delay, self.error, self.interval, self.hits = delay, error, interval, 0

    def handle(self, _signal, frame):
        while frame is not None and not frame.f_code.co_filename.startswith(self.PACKAGE):
            frame = frame.f_back
        if frame is not None:
            self.hits += 1
            raise self.error

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, self.delay, self.interval)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class NothingIgnored(unittest.TestCase):
    """No exception may end as "Exception ignored in"; no thread may be left over."""

    def setUp(self):
        self.ignored = []
        before, sys.unraisablehook = sys.unraisablehook, lambda event: self.ignored.append(event.exc_value)
        self.addCleanup(setattr, sys, "unraisablehook", before)
        self.threads = _thread._count()

    def tearDown(self):
        deadline = time.monotonic() + 10
        while gc.collect() or _thread._count() > self.threads and time.monotonic() < deadline:
            time.sleep(0.001)
        self.assertEqual(_thread._count(), self.threads)
        self.assertEqual(self.ignored, [])


class Interrupted(NothingIgnored):
    def one(self, threads):
        start = time.perf_counter()
        for _ in range(5):
            LAYER(X, threads=threads)
        return (time.perf_counter() - start) / 5

    def test_signals(self):
        """At any moment: the exception, after which nothing is written, or the result."""
        choose = random.Random(int(os.environ.get("FFF_TEST_SEED", "1")))
        out = np.empty_like(Y)
        caught = 0
        with fff.Threads(3) as threads:
            duration = self.one(threads)
            for trial in range(200):
                error = choose.choice([KeyboardInterrupt, Stop])
                call = [
                    lambda: LAYER(X, threads=threads),
                    lambda: LAYER(X, out=out, threads=threads),
                    lambda: LAYER.accumulate(*LAYER.route(X, threads=threads), out=out, threads=threads),
                    lambda: LAYER(X, out=out, threads=2),
                ][trial % 4]
                result, alarm = None, Alarm(max(1e-6, 1.5 * duration * choose.random() ** 2), error,
                                            choose.choice([0, 0, 5e-4]))
                try:
                    with alarm:
                        result = call()
                except error:
                    caught += 1
                    out[:] = 7
                    time.sleep(2e-4)
                    self.assertTrue((out == 7).all())
                else:
                    self.assertEqual(alarm.hits, 0)
                if result is not None:
                    np.testing.assert_array_equal(result, Y)
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)
        self.assertGreater(caught, 50)

    def test_all_tasks_end(self):
        """However many interrupts come meanwhile, the caller goes on when the library's call has returned."""
        ended = []

        class Slow(_threads._Call):
            def work(self, inbox):
                super().work(inbox)
                time.sleep(0.1)
                ended.append(self.status)

        with fff.Threads(2) as threads, mock.patch.object(_threads, "_Call", Slow):
            for trial in range(3):
                with self.assertRaises(Stop), Alarm(0.01, Stop, interval=0.003) as alarm:
                    LAYER(X, threads=threads)
                self.assertEqual(ended, [0] * (trial + 1))
                self.assertGreaterEqual(alarm.hits, 1)

    def test_exceptions_of_other_threads(self):
        """PyThreadState_SetAsyncExc() against a thread that calls."""
        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
        raise_in.argtypes = ctypes.c_ulong, ctypes.py_object
        for delay in (0.0, 0.001, 0.003, 0.01):
            with fff.Threads(2) as threads:
                wrong, stopped, going = [], threading.Event(), threading.Event()

                def work():
                    try:
                        while True:
                            result = LAYER(X, threads=threads)
                            going.set()
                            if not np.array_equal(result, Y):
                                wrong.append(result)
                    except Stop:
                        stopped.set()

                thread = threading.Thread(target=work)
                thread.start()
                going.wait()
                time.sleep(delay)
                raise_in(thread.ident, Stop)
                thread.join(10)
                self.assertTrue(stopped.is_set())
                self.assertEqual(wrong, [])
                np.testing.assert_array_equal(LAYER(X, threads=threads), Y)

    def test_exceptions_in_the_pool(self):
        """Whatever is raised where tasks are shared and run reaches the caller, and all tasks end."""
        def fail(*_):
            raise MemoryError("of the test")

        real = _threads._Tasks.run
        first = threading.Lock()

        def fail_once(tasks):
            if first.acquire(blocking=False):
                tasks.errors.append(MemoryError("of the test"))
            real(tasks)

        for where, what in [("_Help.__init__", fail), ("_Tasks.__init__", fail), ("_Call.work", fail),
                            ("_Call.share", fail), ("_Tasks.run", fail_once), ("_exhaust", None)]:
            with self.subTest(where=where), fff.Threads(3) as threads:
                name, _, method = where.partition(".")
                target = getattr(_threads, name) if method else _threads
                if what is None:  # only in the pool: the calling thread uses it, too
                    exhaust = _threads._exhaust
                    what = lambda steps: fail() if _threads._in_pool() else exhaust(steps)
                with mock.patch.object(target, method or name, what), \
                        self.assertRaisesRegex(MemoryError, "of the test"):
                    LAYER(X, threads=threads)
                np.testing.assert_array_equal(LAYER(X, threads=threads), Y)

    def test_tasks_left_out(self):
        """Results are not returned if tasks did not run, even if no exception says so."""
        with fff.Threads(3) as threads, mock.patch.object(_threads._Tasks, "run", lambda _tasks: None):
            with self.assertRaises(fff.Error) as caught:
                LAYER(X, threads=threads)
            self.assertEqual(caught.exception.status, fff.Status.RUNNER)

    def test_memory_lives_on(self):
        """Even where waiting itself fails, which needs an exception of the interpreter's, nothing is written to memory
        that is no longer there."""
        with fff.Threads(2) as threads:
            with mock.patch.object(_threads, "_acquire_lock", lambda *_: 1 / 0), self.assertRaises(ZeroDivisionError):
                LAYER(X, threads=threads)
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)


class Closed(NothingIgnored):
    def test_refused(self):
        nodes, logits = LAYER.route(X)
        for count in (1, 2):
            with fff.Threads(count) as threads:
                self.assertFalse(threads.closed)
                np.testing.assert_array_equal(LAYER(X, threads=threads), Y)
            self.assertTrue(threads.closed)
            out = np.full_like(Y, 7)
            for call in (lambda: LAYER(X, out=out, threads=threads), lambda: LAYER.route(X, threads=threads),
                         lambda: LAYER(X[0], out=out[0], threads=threads), lambda: LAYER(X[:0], threads=threads),
                         lambda: LAYER.accumulate(nodes, logits, out=out, threads=threads), threads.__enter__):
                with self.assertRaisesRegex(RuntimeError, "closed"):
                    call()
            self.assertTrue((out == 7).all())
            threads.close()
            self.assertIn("closed", repr(threads))

    def test_while_calls_run(self):
        """Each call is right or refused, and close() waits for the one that runs."""
        for _ in range(10):
            threads, results, going = fff.Threads(2), [], threading.Event()

            def work():
                with contextlib.suppress(RuntimeError):
                    while True:
                        results.append(np.array_equal(LAYER(X, threads=threads), Y))
                        going.set()

            callers = [threading.Thread(target=work) for _ in range(3)]
            for caller in callers:
                caller.start()
            going.wait()
            threads.close()
            for caller in callers:
                caller.join(10)
                self.assertFalse(caller.is_alive())
            self.assertTrue(all(results))

    def test_by_a_handler(self):
        """A handler that closes the pool just before the call begins; the call is refused."""
        threads = fff.Threads(2)
        make_call = _threads._Call

        def close_first(*arguments):
            threads.close()
            return make_call(*arguments)

        with mock.patch.object(_threads, "_Call", close_first), self.assertRaisesRegex(RuntimeError, "closed"):
            LAYER(X, threads=threads)

    def test_garbage(self):
        for _ in range(20):
            threads = fff.Threads(2)
            LAYER(X[:100], threads=threads)
            threads.itself = threads  # a cycle
        del threads  # tearDown() sees whether their threads end

    def test_finalisers_of_garbage(self):
        """A finaliser may use a layer and a pool that are garbage with it: right, or an exception."""
        results = []

        class Last:
            def __del__(self):
                try:
                    results.append(np.array_equal(self.layer(X, threads=self.threads), Y))
                except RuntimeError:
                    results.append(True)

        for layer in (LAYER, None):
            for _ in range(5):
                last = Last()
                last.layer, last.threads = layer or make()[0], fff.Threads(2)
                last.threads.itself = last.itself = last
                if layer is None:
                    last.layer.itself = last
                del last
            gc.collect()
        self.assertEqual(results, [True] * 10)


class FewThreads(NothingIgnored):
    def test_none_can_be_started(self):
        threads = fff.Threads(2)
        size = threading.stack_size(1 << 45)  # more than an address space holds
        try:
            with self.assertRaisesRegex(RuntimeError, "0 of 3 threads"):
                fff.Threads(3)
            out = np.full_like(Y, 7)
            with self.assertRaisesRegex(RuntimeError, "0 of 2 threads"):
                LAYER(X, out=out, threads=2)
            self.assertTrue((out == 7).all())
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)  # has its threads
        finally:
            threading.stack_size(size)
            threads.close()

    def test_some_can_be_started(self):
        start, left = _thread.start_new_thread, [2]

        def limited(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("can't start new thread")
            return start(*arguments)

        with mock.patch.object(_thread, "start_new_thread", limited):
            self.assertRaisesRegex(RuntimeError, "2 of 4 threads", fff.Threads, 4)

    def test_counts(self):
        for wrong, error in [(0, ValueError), (-1, ValueError), (1 << 70, ValueError), (1.5, TypeError),
                             ("2", TypeError)]:
            with self.subTest(wrong=wrong):
                self.assertRaises(error, fff.Threads, wrong)
                self.assertRaises(error, LAYER, X, threads=wrong)
        for wrong in (True, object(), [2]):
            self.assertRaisesRegex(TypeError, "threads is a", LAYER, X, threads=wrong)
        for count in (1, 2, np.int64(3)):
            np.testing.assert_array_equal(LAYER(X, threads=count), Y)
            np.testing.assert_array_equal(LAYER.accumulate(*LAYER.route(X, threads=count), threads=count), Y)


class Shared(NothingIgnored):
    def test_by_many(self):
        with fff.Threads(3) as threads, concurrent.futures.ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda i: np.array_equal(LAYER(X[i:], threads=threads), Y[i:]), range(100)))
        self.assertEqual(results, [True] * 100)

    def test_by_a_handler(self):
        """A handler may use the pool, and the layer, that it has interrupted."""
        results = []

        def handle(*_):
            results.append(np.array_equal(LAYER(X[:2000], threads=threads), Y[:2000]))

        before = signal.signal(signal.SIGALRM, handle)
        try:
            with fff.Threads(2) as threads:
                for i in range(100):
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + 1e-5 * i)
                    self.assertTrue(np.array_equal(LAYER(X, threads=threads), Y))
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.assertGreater(len(results), 10)
        self.assertTrue(all(results))

    def test_by_finalisers_in_the_pool(self):
        """Garbage may be collected in a pool's thread, which must not wait for its own pool."""
        results, first = [], threading.Lock()

        class Last:
            def __del__(self):
                results.append(np.array_equal(LAYER(X, threads=threads), Y))
                threads.close()

        class Collects(_threads._Tasks):
            def run(self):
                if first.acquire(blocking=False):
                    Last()
                super().run()

        threads = fff.Threads(2)
        with mock.patch.object(_threads, "_Tasks", Collects):
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)
        self.assertTrue(results and all(results))

    def test_nothing_is_kept(self):
        """The pool lets go of the arrays of a call that has ended."""
        with fff.Threads(2) as threads:
            result = LAYER(X, threads=threads)
            time.sleep(0.01)
            self.assertEqual(sys.getrefcount(result), 2)


@contextlib.contextmanager
def forking():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: forks where threads run
        yield


def running():
    return len(os.listdir("/proc/self/task"))


def in_child(work):
    """The exit status of a child that runs `work`: 0 if it returns True."""
    with forking():
        child = os.fork()
    if child == 0:
        status = 2
        try:
            signal.alarm(20)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Forked(NothingIgnored):
    def test_child(self):
        with fff.Threads(3) as threads:
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)

            def work():
                right = np.array_equal(LAYER(X, threads=threads), Y) and running() == 4
                grandchild = in_child(lambda: np.array_equal(LAYER(X, threads=threads), Y))
                threads.close()
                deadline = time.monotonic() + 5
                while running() > 1 and time.monotonic() < deadline:
                    time.sleep(0.001)
                return right and grandchild == 0 and running() == 1

            self.assertEqual(in_child(work), 0)
            self.assertEqual(in_child(lambda: threads.close() is None), 0)
            np.testing.assert_array_equal(LAYER(X, threads=threads), Y)
        self.assertEqual(in_child(lambda: self.assertRaises(RuntimeError, LAYER, X, threads=threads) is None), 0)

    def test_while_calls_run(self):
        """The child does not wait for locks that the parent's other threads held."""
        done = threading.Event()
        with fff.Threads(2) as threads:
            def work():
                while not done.is_set():
                    LAYER(X, threads=threads)

            caller = threading.Thread(target=work)
            caller.start()
            try:
                statuses = [in_child(lambda: np.array_equal(LAYER(X, threads=threads), Y)) for _ in range(10)]
            finally:
                done.set()
                caller.join()
        self.assertEqual(statuses, [0] * 10)

    def test_multiprocessing(self):
        with fff.Threads(2) as threads, forking():
            global inherited
            inherited = threads
            LAYER(X, threads=threads)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                self.assertEqual(pool.map(of_inherited, range(4)), [True] * 4)


inherited = None


def of_inherited(_):
    return np.array_equal(LAYER(X, threads=inherited), Y)


class Exit(unittest.TestCase):
    """While the interpreter goes down: the right result, or an exception; and it ends."""

    SETUP = """
import atexit, os, threading
import numpy as np, fff
rng = np.random.default_rng(0)
weights = rng.standard_normal((63, 64), np.float32)
layer, x = fff.Layer(weights, weights, depth=5), rng.standard_normal((300, 64), np.float32)
expected = layer(x)
threads = fff.Threads(3)
def work(write=os.write, layer=layer, x=x, threads=threads, expected=expected.tobytes()):
    write(1, b"right\\n" if layer(x, threads=threads).tobytes() == expected else b"wrong\\n")
"""

    def ends(self, script, expected="right\n", errors=""):
        ended = subprocess.run([sys.executable, "-X", "dev", "-c", self.SETUP + script], capture_output=True, text=True,
                               timeout=60, check=False)
        self.assertRegex(ended.stderr, f"^{errors}$")
        self.assertRegex(ended.stdout, f"^{expected}$")
        self.assertEqual(ended.returncode, 0)

    def test_nothing_closed(self):
        self.ends("work()")

    def test_atexit(self):
        self.ends("work(); atexit.register(work)", "right\nright\n")

    def test_new_pool_at_exit(self):
        self.ends("""
def late():
    try:
        work(threads=3)
    except RuntimeError:  # from 3.12 on no thread starts then
        print("right")
atexit.register(late)""")

    def test_finaliser_at_exit(self):
        """The layer is garbage, too, and may have been freed before."""
        self.ends("""
class Last:
    def __del__(self, work=work):
        work()
last = Last()""", "(right\n)?", r"(Exception ignored in.*\n(.*\n)*RuntimeError: .* is freed.*\n)?")

    def test_threads_are_dead(self):
        with fff.Threads(2) as threads, mock.patch.object(sys, "is_finalizing", lambda: True):
            with mock.patch.object(_threads, "_exhaust", lambda _: self.fail("the pool is used")):
                np.testing.assert_array_equal(LAYER(X, threads=threads), Y)

    def test_thread_that_outlives_main(self):
        self.ends("""
def run():
    threading.main_thread().join()
    work()
threading.Thread(target=run).start()""")

    def test_daemon_thread(self):
        self.ends("""
def run():
    while True:
        layer(x, threads=threads)
threading.Thread(target=run, daemon=True).start()
work()""")

    def test_unhandled_interrupt(self):
        self.ends("""
import signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
large = np.tile(x, (2000, 1))
signal.setitimer(signal.ITIMER_REAL, 0.01)
try:
    with threads:
        layer(large, threads=threads)
except KeyboardInterrupt:
    print("right")""")


if __name__ == "__main__":
    unittest.main()
