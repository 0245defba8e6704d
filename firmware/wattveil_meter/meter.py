"""The meter as a state machine: bytes and time in, frames out, no I/O of its own.

Clock, randomness, storage and sensor are arguments, so the same code runs on a board, behind a PTY,
in the host process or under a test's hostile scheduler. States, in order:

    unregistered -> registered -> rows -> prepared -> reported -> rows (next period) ...

The meter asks and the cloud answers; one request is outstanding at a time.
"""

from hashlib import sha256

from wattveil_meter import wire
from wattveil_meter.compact import Compact
from wattveil_meter.drbg import Drbg, same
from wattveil_meter.fields import Malformed, pack, read_uint, uint, unpack
from wattveil_meter.masks import identity_hash, register_mac, registered_mac, time_mac, u64
from wattveil_meter.noise import Drawn, make_sampler
from wattveil_meter.package import open_tables
from wattveil_meter.utc import Utc
from wattveil_meter.yan2024 import Yan2024

SUITES = {"yan2024": Yan2024, "compact": Compact}

_TIMEOUT_MS = 3000  # first retry of an unanswered request; doubles up to _TIMEOUT_MAX_MS
_TIMEOUT_MAX_MS = 30000
_UNFIT_MS = 60000  # between hellos of a meter that failed its self-test
_DRAW_MS = 1000  # longer than the sampler ever takes
_RESYNC_S = 600  # ask the centre for the time at least this often
_FLASH_MS = 3000  # between tries to write to a flash that refused
_FLASH_TRIES = 8  # of a report: they fit into the cloud's usual deadline


class Denied(Exception):
    """The cloud answered ERROR, or the flash took no write; args[0] names it."""


class Meter:
    """One meter. Call `poll` in a loop, `receive` for every frame that arrives.

    tables: {"h": file, "s": file} (seekable binary); storage: read(name), write(name, bytes) as in
    store.py; sensor: as in sensors/; clock: .ms() monotonic milliseconds; entropy: fresh bytes from the
    hardware (>= 48); about: (runtime, firmware version, self-test result) for the hello message;
    ring: the kernel over the record's n; poll_ms: how often a frozen clock is asked again.
    """

    def __init__(self, package, tables, storage, sensor, clock, entropy, about, ring, poll_ms=200):
        record = package.record
        self.package = package
        self.record = record
        self.state = "unregistered"
        self.clamped = 0  # readings cut to [lo, hi]; stays on the meter
        self.refused = {}  # reason -> count of what was not accepted or did not work
        self._storage = storage
        self._sensor = sensor
        self._clock = clock
        self._about = about
        self._poll_ms = poll_ms
        boot, tau = unpack(storage.read("boot.bin"), 2)
        self._boot = read_uint(boot) + 1
        self._tau = read_uint(tau)
        secret = package.drbg_secret + uint(self._boot)
        self.drbg = Drbg(entropy, secret, b"wattveil meter " + package.id)
        self.ring = ring
        self._combs = {}
        try:
            self._combs = open_tables(record, SUITES[record.suite].tables, tables, ring)
        except Malformed as error:  # the hello message tells the host
            self._about = (about[0], about[1], about[2] or str(error))
        epsilon = (record.epsilon_num, record.epsilon_den)
        self._sampler = make_sampler(record.noise, record.a, *epsilon, record.delta)
        args = (package.number, wire.CLOUD, True, record.fingerprint, self._boot)
        self._channel = wire.Channel(package.link_key, record.fleet, *args)
        self._answer = None
        self._asked = (0, 0)  # counter and start of the request under way
        self._rows = b""  # hash of the one row set accepted for the current period
        self._nonce = b""  # of the TIME request under way
        self.time = Utc(clock)  # by the centre's word
        self._deadline = 0  # clock ms at which the request under way is sent again
        self._shares = None  # drawn for the next period
        start, end, _, report = unpack(storage.read("period.bin"), 4)
        self._busy = read_uint(end)  # end of the newest period ever begun, UTC s: none overlaps it
        self._unsent = (read_uint(start), report) if report else None
        self._interrupted = -1 if report else read_uint(start)
        self._life = self._run()

    def utc(self):
        """UTC s by the centre's clock, None before the first sync."""
        return self.time.known()

    def wake(self):
        """The link is up again: what is unanswered is asked again within half a second."""
        if self._asked[0]:
            soon = self._clock.ms() + self.drbg.below(500)  # not the whole fleet in step
            self._deadline = min(self._deadline, soon)

    def poll(self):
        """The next frame to send (bytes), or milliseconds the caller may wait (0: call again)."""
        return next(self._life)

    def receive(self, frame):
        """Take one frame from the cloud; what is not the answer awaited is counted and dropped."""
        try:
            message = self._channel.open(frame)
            counter, start = self._asked
            if not counter or (message.reply, message.start) != (counter, start):
                raise wire.Refused("replayed")
            self._asked = (0, 0)
            self._answer = message
        except wire.Refused as refusal:
            self._count(refusal.reason)

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
        seeds = (self.package.dealer_seed[1], self.package.center_seed[1])
        shares, self._shares = self._shares, None
        suite = SUITES[record.suite](
            record, self.ring, self._combs, self.drbg, shares, seeds, start
        )
        digest = sha256()
        for slot in range(1, record.gamma + 1):
            payload = (yield from self._ask(wire.ROW, slot.to_bytes(2, "little"), start)).payload
            if len(payload) != 34 + 2 * record.nb or payload[:2] != slot.to_bytes(2, "little"):
                raise Denied("malformed")
            if slot == 1:
                self._rows = payload[2:34]
                self._store_period(start, b"")  # from here on, a restart sits this period out
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
            yield from self._absent(start, wire.OTHER if reason == "flash" else wire.ROWS_REFUSED)

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

    # --- requests, time and storage ---------------------------------------------------------------

    def _ask(self, type, payload, start=0, until=0):
        """Generator: send a request until it is answered; the Message, or Denied by name.

        payload: bytes, or a function that makes them anew for each attempt. until: UTC s at which
        it is `unanswered`, 0 for never.
        """
        timeout = _TIMEOUT_MS
        while True:
            sent = payload if isinstance(payload, bytes) else payload()
            frame = self._channel.seal(type, sent, start)
            self._asked = (self._channel.counter, start)
            self._answer = None
            yield frame
            self._deadline = self._clock.ms() + timeout
            if until and self.time.running:
                self._deadline = min(self._deadline, self.time.ms_at(until))
            while self._answer is None and self._clock.ms() < self._deadline:
                yield self._deadline - self._clock.ms()
            answer, self._asked = self._answer, (0, 0)
            if answer is None:
                if until and self.time.now() >= until:
                    raise Denied("unanswered")
                # jitter, so that a fleet does not come back in step after an outage
                timeout = min(2 * timeout, _TIMEOUT_MAX_MS) + self.drbg.below(500)
                continue
            if answer.type == type | 0x40:
                return answer
            name = "malformed"
            if answer.type == wire.ERROR and len(answer.payload) == 1:
                name = wire.NAMES.get(answer.payload[0], name)
            if name == "unregistered" and type not in (wire.HELLO, wire.TIME, wire.REGISTER):
                yield from self._register_again()  # the cloud forgot us; the request itself stands
            elif name in ("unavailable", "early"):
                yield from self._sleep(self._poll_ms)
                # only with a start: a TIME between TIME and REGISTER would replace the nonce
                back = name == "early" and start and (yield from self._went_back(start))
                if back and type == wire.ROW:
                    raise Denied(name)
            else:
                raise Denied(name)

    def _sync(self, until=0):
        """Generator: ask the centre, through the cloud, for the time; its nonce. until: as in `_ask`."""

        def fresh():  # each time: an old answer must not serve a cloud that holds it back
            self._nonce = self.drbg.bytes(16)
            return self._nonce

        data = (yield from self._ask(wire.TIME, fresh, 0, until)).payload
        if len(data) != 57:
            raise Denied("malformed")
        now, running, center_nonce = int.from_bytes(data[:8], "little"), data[8], data[9:25]
        key, meter_id = self.package.registration_key, self.package.id
        mac = time_mac(key, self.record, meter_id, self._nonce, center_nonce, now, running)
        if not same(mac, data[25:]):
            raise Denied("refused")
        if self.time.set(now, running):
            self._count("clock_jump")
        return center_nonce

    def _went_back(self, start, until=0):
        """Generator: whether the centre's clock, asked again, has not reached `start` (UTC s)."""
        try:
            yield from self._sync(until)
        except Denied as denied:
            self._count(denied.args[0])
        return self.time.now() < start

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

    def _sleep(self, ms):
        deadline = self._clock.ms() + ms
        while self._clock.ms() < deadline:
            yield deadline - self._clock.ms()

    def _draw(self):
        """Noise for the next period, once."""
        if self._shares is None:
            count = self.record.gamma + self.record.own_noise
            self._shares = Drawn(self._sampler, self.drbg, count)

    def _wait_after(self, reason):
        """Generator: count a reason, and give what caused it time."""
        self._count(reason)
        yield from self._sleep(_FLASH_MS if reason == "flash" else self._poll_ms)

    def _store_boot(self):
        self._store("boot.bin", pack(uint(self._boot), uint(self._tau)))

    def _store_period(self, start, report):
        self._busy = start + self.record.period_s
        self._store("period.bin", pack(uint(start), uint(self._busy), self._rows, report))

    def _store(self, name, value):
        """Durably, or Denied `flash`: full or failing, and nothing that rests on it may be sent."""
        try:
            self._storage.write(name, value)
        except OSError:
            raise Denied("flash")

    def _count(self, reason):
        self.refused[reason] = self.refused.get(reason, 0) + 1
