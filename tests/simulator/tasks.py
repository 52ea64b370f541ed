"""Many processes with many threads each, of which one at a time goes on, in an order that is the same each time: each waits on
a clock that passes only while all of them wait."""

import _thread
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Any

from tests.simulator.world import Killed

Work = Callable[[], None]


class Process:
    """A process: it dies with all its threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: list[Task] = []


class Task:
    """A thread of a process."""

    def __init__(self, process: Process, work: Work) -> None:
        self.process, self.work = process, work
        self.gate = threading.Lock()
        self.gate.acquire()
        self.begun = False
        self.waits = 0
        """How often it has waited: a wake-up is for one of these."""
        self.killed = self.over = False


class Tasks:
    """The clock, and whose turn it is."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the beginning."""
        self.current: Task | None = None
        """Nobody's turn is the turn of the world around."""
        self.broken: BaseException | None = None
        """What a thread ended with that is no death."""
        self.processes: list[Process] = []
        """Every one that ever was."""
        self._gate = threading.Lock()
        self._gate.acquire()
        self._numbers = itertools.count()
        self._coming: list[tuple[float, int, Task | None, int, Work | None]] = []

    def start(self, process: Process, work: Work) -> Task:
        """A new thread of this process: its turn comes."""
        task = Task(process, work)
        if not process.tasks:
            self.processes.append(process)
        process.tasks.append(task)
        self.wake(task)
        return task

    def at(self, when: float, work: Work) -> None:
        """Do this then, in the world around."""
        heapq.heappush(self._coming, (max(when, self.now), next(self._numbers), None, 0, work))

    def wake(self, task: Task, after_s: float = 0.0) -> None:
        """Let a thread's wait end by then."""
        heapq.heappush(self._coming, (self.now + after_s, next(self._numbers), task, task.waits, None))

    def wait(self, seconds: float) -> None:
        """Let others go on; called by a thread. Raises Killed where its process dies meanwhile."""
        task = self.current
        assert task is not None
        task.waits += 1
        self.wake(task, seconds)
        self._gate.release()
        task.gate.acquire()
        if task.killed:
            raise Killed(task.process.name)

    def kill(self, process: Process) -> None:
        """The process is gone. Who kills his own goes on to raise Killed."""
        process.alive = False
        for task in process.tasks:
            if task is not self.current and not task.over:
                task.killed = True
                task.over = not task.begun
                self.wake(task)

    def run(self, until: float) -> None:
        """Let everything go on until then. Raises what a thread ended with."""
        while self._coming and self._coming[0][0] <= until:
            when, _, task, wait, work = heapq.heappop(self._coming)
            self.now = max(self.now, when)
            if work is not None:
                work()
            elif task is not None and not task.over and task.waits == wait:
                self._turn(task)
            if self.broken is not None:
                raise self.broken
        self.now = max(self.now, until)

    def _turn(self, task: Task) -> None:
        self.current = task
        if not task.begun:
            task.begun = True
            _thread.start_new_thread(self._live, (task,))
        else:
            task.gate.release()
        self._gate.acquire()
        self.current = None

    def _live(self, task: Task) -> None:
        try:
            task.work()
        except Killed:
            pass  # that is what became of it
        except BaseException as e:  # noqa: BLE001  it is raised where the simulation is run
            self.broken = self.broken or e
        finally:
            task.over = True
            self._gate.release()


class Event:
    """As threading.Event."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks, self._is_set = tasks, False
        self._waiting: list[Task] = []

    def set(self) -> None:
        """From now on nobody waits."""
        self._is_set = True
        for task in self._waiting:
            self._tasks.wake(task)

    def clear(self) -> None:
        """Let them wait again."""
        self._is_set = False

    def is_set(self) -> bool:
        """Whether nobody waits."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, or for so long."""
        task = self._tasks.current
        if not self._is_set and task is not None:
            self._waiting.append(task)
            try:
                self._tasks.wait(seconds)
            finally:
                self._waiting.remove(task)
        return self._is_set


class Threading:
    """What the scheduler uses of the module `threading`."""

    Lock = staticmethod(threading.Lock)

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def Event(self) -> Event:
        """One that waits on the simulated clock."""
        return Event(self._tasks)

    def Thread(self, *, target: Callable[..., None], args: tuple[Any, ...], **_: object) -> "_Started":
        """A thread of the process whose turn it is."""
        return _Started(self._tasks, lambda: target(*args))


class _Started:
    def __init__(self, tasks: Tasks, work: Work) -> None:
        self._tasks, self._work = tasks, work

    def start(self) -> None:
        """Its turn comes."""
        assert self._tasks.current is not None
        self._tasks.start(self._tasks.current.process, self._work)
