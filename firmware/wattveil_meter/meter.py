"""The meter as a state machine: bytes and time in, frames out, no I/O of its own.

Clock, randomness, storage and sensor are arguments, so the same code runs on a board, behind a PTY,
in the host process or under a test's hostile scheduler. States, in order:

    unregistered -> registered -> rows -> prepared -> reported -> rows (next period) ...

The meter asks and the cloud answers; one request is outstanding at a time.
"""

from hashlib import sha256

from wattveil_meter import wire
from wattveil_meter.asking import Asking, Denied
from wattveil_meter.compact import Compact
from wattveil_meter.drbg import Drbg, same
from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.masks import identity_hash, register_mac, registered_mac, u64
from wattveil_meter.noise import Drawn, make_sampler
from wattveil_meter.package import open_tables
from wattveil_meter.seeds import DAY_S, Seeds
from wattveil_meter.yan2024 import Yan2024

SUITES = {"yan2024": Yan2024, "compact": Compact}

_UNFIT_MS = 60000  # between hellos of a meter that failed its self-test
_DRAW_MS = 1000  # longer than the sampler ever takes
_RESYNC_S = 600  # ask the centre for the time at least this often
_FLASH_TRIES = 8  # of a report: they fit into the cloud's usual deadline
_STORE_S = 60  # after the end of a period its report is stored, or never will be


class Meter(Asking):
    """One meter. Call `poll` in a loop, `receive` for every frame that arrives.

    tables: {"h": file, "s": file} (seekable binary); storage: read(name), write(name, bytes) as in
    store.py; sensor: as in sensors/; clock: .ms() monotonic milliseconds; entropy: fresh bytes from the
    hardware (>= 48); about: (runtime, firmware version, self-test result) for the hello message;
    ring: the kernel over the record's n; poll_ms: how often a frozen clock is asked again.
    """

    def __init__(self, package, tables, storage, sensor, clock, entropy, about, ring, poll_ms=200):
        record = package.record
        boot, tau = unpack(storage.read("boot.bin"), 2)
        self._boot = read_uint(boot) + 1
        self._tau = read_uint(tau)
        secret = package.drbg_secret + uint(self._boot)
        drbg = Drbg(entropy, secret, b"wattveil meter " + package.id)
        Asking.__init__(self, package, clock, drbg, self._boot, poll_ms)
        self.clamped = 0  # readings cut to [lo, hi]; stays on the meter
        self._storage = storage
        self._sensor = sensor
        self._about = about
        self.ring = ring
        self._combs = {}
        try:
            self._combs = open_tables(record, SUITES[record.suite].tables, tables, ring)
        except Malformed as error:  # the hello message tells the host
            self._about = (about[0], about[1], about[2] or str(error))
        epsilon = (record.epsilon_num, record.epsilon_den)
        self._sampler = make_sampler(record.noise, record.a, *epsilon, record.delta)
        self.seeds = Seeds(storage)
        self._rows = b""  # hash of the one row set accepted for the current period
        self._shares = None  # drawn for the next period
        start, end, _, report = unpack(storage.read("period.bin"), 4)
        self._begun = read_uint(end)  # end of the newest period a row was taken of, UTC s
        self._busy = self._begun  # no period that overlaps it is begun
        self._unsent = (read_uint(start), report) if report else None
        self._interrupted = -1 if report else read_uint(start)
        self._life = self._run()

    def poll(self):
        """The next frame to send (bytes), or milliseconds the caller may wait (0: call again)."""
        return next(self._life)

    def at_stake(self):
        """Whether a reset now would cost a reading: its period is begun, its report not stored yet."""
        now = self.time.known()
        return not self._unsent and now is not None and now < self._begun + _STORE_S

    # --- the life of a meter -----------------------------------------------------------------------

    def _run(self):
        while True:
            try:
                self._store_boot()  # before the first output of DRBG or channel
                break
            except Denied as denied:
                yield from self._wait_after(denied.args[0])
        self._draw()  # before the first frame; later only in waits
        while True:
            yield from self._register_again()
            try:
                while True:
                    yield from self._period()
            except Denied as denied:
                self.state = "unregistered"
                yield from self._wait_after(denied.args[0])

    def _register(self):
        runtime, version, selftest = self._about
        texts = [text.encode() for text in (runtime, version, self.ring.name, selftest)]
        hello = pack(self.package.id, *texts)
        state, self.state = self.state, "unregistered"
        yield from self._ask(wire.HELLO, hello)
        while selftest:  # wrong arithmetic would spoil everyone's total: say so, do nothing else
            self.state = "unfit"
            yield from self._sleep(_UNFIT_MS)
            yield from self._ask(wire.HELLO, hello)
        center_nonce = yield from self._sync()
        self._tau = max(self.time.now(), self._tau + 1)
        self._store_boot()
        key, meter_id = self.package.registration_key, self.package.id
        mac = register_mac(key, self.record, meter_id, self._tau, center_nonce)
        request = u64(self._tau) + identity_hash(meter_id, self._tau) + mac
        answer = yield from self._ask(wire.REGISTER, request)
        expected = registered_mac(key, self.record, meter_id, self._tau, center_nonce)
        if not same(answer.payload, expected):
            raise Denied("refused")
        self.state = "registered" if state == "unregistered" else state

    def _register_again(self):
        """Generator: register, however often it takes (a REGISTER whose answer was lost is refused)."""
        while True:
            try:
                yield from self._register()
                return
            except Denied as denied:
                yield from self._wait_after(denied.args[0])

    def _period(self):
        """One period, or a wait for the next."""
        if self._unsent:  # a power cut came between storing a report and its answer
            start, report = self._unsent
            yield from self._deliver(start, report)
        yield from self._sync()
        start = self.record.start_of(self.time.now())
        yield from self._forget(start)
        if start == self._interrupted:
            yield from self._absent(start, wire.RESTARTED)
            self._interrupted = -1
        if start < self._busy:
            yield from self._until(start + self.record.period_s)
            return
        if self._shares is None:  # there was no wait to draw them in
            end = self._clock.ms() + _DRAW_MS
            self._draw()
            yield from self._sleep(end - self._clock.ms())
        try:
            suite = yield from self._prepare(start)
        except Denied as denied:
            yield from self._sit_out(start, denied.args[0])
            return
        yield from self._until(start + self.record.period_s)
        reading = yield from self._read(start)
        if reading is None:
            self._count("no_reading")
            yield from self._absent(start, wire.NO_READING)
            return
        clamped = min(max(reading, self.record.lo), self.record.hi)
        self.clamped += clamped != reading
        report = suite.report(clamped)
        for _ in range(_FLASH_TRIES):
            try:
                self._store_period(start, report)
                yield from self._deliver(start, report)
                return
            except Denied as denied:
                yield from self._wait_after(denied.args[0])
        yield from self._absent(start, wire.OTHER)  # what is not stored must not be sent

    def _prepare(self, start):
        """Generator: pull the rows of `start`, send up what can go; the suite, ready to report.

        Denied names what went wrong, at the cloud or here.
        """
        self.state = "rows"
        record = self.record
        seeds = yield from self.seeds.of(start // DAY_S)
        if seeds is None:
            raise Denied("expired")
        shares, self._shares = self._shares, None
        args = (self.ring, self._combs, self.drbg, shares, seeds, start)
        suite = SUITES[record.suite](record, *args)
        digest = sha256()
        for slot in range(1, record.gamma + 1):
            payload = (yield from self._ask(wire.ROW, slot.to_bytes(2, "little"), start)).payload
            if len(payload) != 34 + 2 * record.nb or payload[:2] != slot.to_bytes(2, "little"):
                raise Denied("malformed")
            if slot == 1:
                self._rows = payload[2:34]
                self._store_period(start, b"")  # from here on, a restart sits this period out
                yield from self._forget(start)  # so not even this one needs its seeds again
            elif payload[2:34] != self._rows:
                raise Denied("rows_changed")
            data = memoryview(payload)[34:]
            digest.update(data)
            try:
                pair = suite.decode(data)
            except Malformed:
                raise Denied("not_a_ciphertext")
            noise = yield from suite.row(slot, pair)
            if noise is not None:
                yield from self._send_slot(start, slot, noise)
        if digest.digest() != self._rows:
            raise Denied("rows_changed")
        noise = yield from suite.finish()
        if noise is not None:
            yield from self._send_slot(start, 1, noise)
        self._storage.prepare("period.bin")  # for the report: no erasing at the deadline
        self.state = "prepared"
        return suite

    def _sit_out(self, start, reason):
        """Give the period up; whatever was drawn for it is never used again."""
        self._count(reason)
        if reason == "early":  # the centre's clock went back: this period may come again,
            return  # unless a row of it was stored
        self._busy = max(self._busy, start + self.record.period_s)
        if reason not in ("late", "closed"):
            ours = reason in ("flash", "expired")
            yield from self._absent(start, wire.OTHER if ours else wire.ROWS_REFUSED)

    def _forget(self, now):
        """Generator: erase the seeds of days that are over; when the flash refuses, a period later."""
        try:
            yield from self.seeds.erase(self._begun, now)
        except OSError:
            self._count("flash")

    def _send_slot(self, start, slot, noise):
        yield from self._ask(wire.SLOT, slot.to_bytes(2, "little") + noise, start)

    def _read(self, start):
        if not self._sensor.remote:
            return self._sensor.energy(start, self.record.period_s)
        try:
            answer = yield from self._ask(wire.READING, b"", start)
            return self._sensor.open(start, answer.payload)
        except (Denied, Malformed):
            return None

    def _deliver(self, start, report):
        """Send a stored report until the cloud has it or will never take it."""
        self._unsent = (start, report)
        try:
            yield from self._ask(wire.REPORT, report, start)
        except Denied as denied:
            self._count(denied.args[0])
        self._unsent = None
        self.state = "reported"

    def _absent(self, start, reason):
        try:
            yield from self._ask(wire.ABSENT, bytes((reason,)), start)
        except Denied as denied:
            self._count(denied.args[0])
        self.state = "registered"

    # --- waiting and storage ------------------------------------------------------------------------

    def _until(self, when):
        """Generator: wait until the centre's clock has reached `when` (UTC s).

        Noise is drawn here: the wait ends at the same moment however long that takes.
        """
        mark = self._clock.ms()
        if self.time.now() < when:
            self._draw()
        while self.time.now() < when:
            end = mark + self._poll_ms
            if self.time.running:
                end = max(end, min(self.time.ms_at(when), mark + _RESYNC_S * 1000))
            yield from self._sleep(end - self._clock.ms())
            mark = self._clock.ms()
            if self.time.now() < when:
                # refused, or unanswered: no reason to lose what is prepared
                yield from self._went_back(when, when)

    def _draw(self):
        """Noise for the next period, once."""
        if self._shares is None:
            count = self.record.gamma + self.record.own_noise
            self._shares = Drawn(self._sampler, self.drbg, count)

    def _store_boot(self):
        self._store("boot.bin", pack(uint(self._boot), uint(self._tau)))

    def _store_period(self, start, report):
        self._begun = self._busy = start + self.record.period_s
        self._store("period.bin", pack(uint(start), uint(self._busy), self._rows, report))

    def _store(self, name, value):
        """Durably, or Denied `flash`: full or failing, and nothing that rests on it may be sent."""
        try:
            self._storage.write(name, value)
        except OSError:
            raise Denied("flash")
