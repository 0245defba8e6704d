"""Who feeds the watchdog, and what happens to a meter that starts again and again."""

from wattveil_meter.fields import Malformed, read_uint, uint
from wattveil_meter.store import Damaged

UNCLEAN = 5  # starts in a row that ended badly, each within SETTLED_MS: then safe mode
SETTLED_MS = 300000
_SAFE_S = 600  # of safe mode before one more try; doubles with each that fails
_SAFE_MAX_S = 21600


class Supervisor:
    """Feeds the watchdog once every task has run since the last time; one that hangs lets it bite.

    watchdog: has feed(), or None. tasks: their names. note: as hal.note, for who looks after a reset.
    """

    def __init__(self, watchdog, tasks, note=None):
        self._watchdog = watchdog
        self._tasks = tasks
        self._note = note if watchdog else None
        self._ran = {}
        for task in tasks:
            self._ran[task] = False

    def begins(self, task):
        """A task is about to do a step: the one to blame if the watchdog bites now."""
        if self._note:
            self._note(self._tasks.index(task) + 1)

    def ran(self, task):
        """A task has done a step and come back."""
        self._ran[task] = True
        if self._watchdog and all(self._ran.values()):
            self._watchdog.feed()
            for task in self._ran:
                self._ran[task] = False


class Starts:
    """Counts the starts in a row that ended badly soon; on flash, because a reset forgets RAM.

    Power that comes back is no failed start: it begins anew. Nor is Ctrl-C, or SETTLED_MS of work.
    """

    def __init__(self, storage):
        self._storage = storage
        self.unclean = 0

    def begin(self, reason):
        """Call first of all, with hal.reset_reason(): seconds to spend in safe mode, 0 for none."""
        try:
            before = read_uint(self._storage.read("starts.bin"))
        except (Damaged, Malformed, KeyError):  # never written
            before = 0
        self.unclean = 0 if reason == "pwron" else before
        self._write(self.unclean + 1)
        if self.unclean < UNCLEAN:
            return 0
        return min(_SAFE_S << min(self.unclean - UNCLEAN, 8), _SAFE_MAX_S)

    def settled(self):
        """This start was a good one."""
        self._write(0)

    def _write(self, count):
        try:
            self._storage.write("starts.bin", uint(count))
        except OSError:
            pass  # a full flash: then there is no safe mode
