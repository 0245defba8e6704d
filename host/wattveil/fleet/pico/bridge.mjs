// Runs an emulated Pico behind an open terminal: its USB console is that terminal's.
//
// node bridge.mjs --emulator FOLDER --uf2 FILE --bootrom FILE --flash FILE --console FD --bench JSON
//
// FD is inherited, open for reading and writing without waiting (O_NONBLOCK): the master side of a
// pseudo-terminal. Once a second, a line of JSON on stdout: {"cycles", "emulated_s", "busy_s"}, where
// busy_s is the PC's time that went into executing those cycles.
// Ends when the terminal hangs up. Everything the board holds is in the flash file at any moment,
// so killing this process is cutting the board's power.

import fs from 'node:fs';
import { parseArgs } from 'node:util';

import { Chip, Flash, loadEmulator } from './chip.mjs';

const SLICE = 400_000; // cycles between two looks at the terminal: about 8 ms of a PC's time
const IDLE_NS = 2e6; // the same while the processor waits for an interrupt
const BEHIND_MS = 20; // emulated time that far behind the PC's is not caught up
const HELD_OUTPUT = 65_536; // bytes nobody reads; more are lost, as on a board
const REPORT_MS = 1000;

/** The terminal's descriptor, read and written without ever waiting. */
class Console {
  #pending = [];
  #held = 0;
  #buffer = Buffer.alloc(4096);

  constructor(fd) {
    this.fd = fd;
  }

  /** Bytes that have arrived, empty for none; exits when the other side is gone. */
  read() {
    const count = this.#try(() => fs.readSync(this.fd, this.#buffer));
    return this.#buffer.subarray(0, count);
  }

  write(bytes) {
    if (this.#held + bytes.length > HELD_OUTPUT) return;
    this.#pending.push(Buffer.from(bytes));
    this.#held += bytes.length;
    this.flush();
  }

  flush() {
    while (this.#pending.length) {
      const first = this.#pending[0];
      const count = this.#try(() => fs.writeSync(this.fd, first));
      this.#held -= count;
      if (count < first.length) {
        this.#pending[0] = first.subarray(count);
        return;
      }
      this.#pending.shift();
    }
  }

  #try(call) {
    try {
      return call();
    } catch (error) {
      if (error.code === 'EAGAIN') return 0;
      if (error.code === 'EIO') process.exit(0); // hung up
      throw error;
    }
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms) => Atomics.wait(sleeper, 0, 0, ms); // no event loop: nothing else runs here

/** Holds emulated time to the PC's where the emulation would be faster: while the board waits. */
class Pace {
  #offset = 0;

  /** Sleep until the PC's clock has come to the emulated time. */
  keep(emulatedMs) {
    const ahead = emulatedMs + this.#offset - performance.now();
    if (ahead < -BEHIND_MS) this.#offset -= ahead; // never run faster to catch up
    else if (ahead >= 1) sleep(ahead);
  }
}

/** Counts over every reset of the chip, for the line on stdout. */
class Report {
  cycles = 0;
  emulatedMs = 0;
  busyMs = 0;
  #last = performance.now();

  give() {
    if (performance.now() - this.#last < REPORT_MS) return;
    this.#last = performance.now();
    const seconds = { emulated_s: this.emulatedMs / 1e3, busy_s: this.busyMs / 1e3 };
    fs.writeSync(1, JSON.stringify({ cycles: this.cycles, ...seconds }) + '\n');
  }
}

function run(makeChip, port) {
  const pace = new Pace();
  const report = new Report();
  let chip = makeChip(null);
  for (;;) {
    if (chip.wantsInput) {
      const bytes = port.read();
      if (bytes.length) chip.send(bytes);
    }
    port.flush();
    const started = performance.now();
    const [cycles, nanos] = [chip.cycles, chip.clock.nanos];
    const busy = chip.run(SLICE);
    report.cycles += chip.cycles - cycles;
    report.busyMs += performance.now() - started;
    if (!busy) chip.wait(IDLE_NS);
    report.emulatedMs += (chip.clock.nanos - nanos) / 1e6;
    pace.keep(report.emulatedMs);
    report.give();
    if (chip.resetAsked) chip = makeChip(chip);
  }
}

// rp2040js complains on the console of the second core's mailbox, which it lacks and every reset of
// the firmware touches; what matters ends this process with an error.
console.warn = () => {};

const { values } = parseArgs({
  options: Object.fromEntries(
    ['emulator', 'uf2', 'bootrom', 'flash', 'console', 'bench'].map((name) => [name, { type: 'string' }]),
  ),
});
const emulator = await loadEmulator(values.emulator);
const bootrom = fs.readFileSync(values.bootrom);
const flash = new Flash(values.flash, values.uf2);
const port = new Console(Number(values.console));
const bench = JSON.parse(values.bench);
const onOutput = (bytes) => port.write(bytes);
run((before) => new Chip(emulator, { bootrom, flash, onOutput, bench, before }), port);
