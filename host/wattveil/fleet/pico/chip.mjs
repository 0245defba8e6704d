// A Raspberry Pi Pico in rp2040js, with what the package leaves out before a program that uses USB
// and flash runs at all, and before its timing can be believed. docs/PICO.md says what is emulated.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const HZ = 125e6; // what MicroPython sets; rp2040js counts no other clock
export const FLASH_BYTES = 2 * 1024 * 1024; // a Pico's W25Q16JV
const CYCLE_NS = 1e9 / HZ;
const XIP = 0x10000000; // flash as the processor sees it; its first 256 bytes run first
const ERASE_NS = 45e6; // per 4 KiB sector, and
const PROGRAM_NS = 0.4e6; // per 256-byte page: typical values of the W25Q16JV's data sheet
const RP2040_FAMILY = 0xe48bff56;
const ERRORS = 3; // rp2040js's LogLevel.Error, which it does not export
const HELD_INPUT = 4096; // bytes; beyond that the host's port is left full, as by a busy board

/** The parts of the installed package `folder`/node_modules/rp2040js that are used here. */
export async function loadEmulator(folder) {
  const part = (name) =>
    import(pathToFileURL(path.join(folder, 'node_modules/rp2040js/dist/esm', name)).href);
  // Fix 1 of 5: the clock that counts executed cycles is not exported by the package (which allows
  // only its index by name), so it is imported by path. Any other clock would time the PC.
  const [index, clock] = await Promise.all([
    part('index.js'),
    part('clock/simulation-clock.js'),
  ]);
  return { ...index, SimulationClock: clock.SimulationClock };
}

/** The 2 MiB beside the chip, kept in a file: every erase and program is there when it returns. */
export class Flash {
  /** An empty flash for a new file; firmware is written over what an existing one holds. */
  constructor(file, uf2) {
    this.bytes = new Uint8Array(FLASH_BYTES).fill(0xff);
    this.file = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT);
    const held = fs.readFileSync(this.file);
    this.bytes.set(held.subarray(0, FLASH_BYTES));
    loadUF2(fs.readFileSync(uf2), this.bytes);
    this.save(0, FLASH_BYTES);
  }

  /** Become the flash of `mcu`, which has had another or none. */
  attach(mcu) {
    const seen = mcu.flash.subarray(0, FLASH_BYTES);
    seen.set(this.bytes);
    this.bytes = seen;
  }

  erase(offset, length) {
    this.bytes.fill(0xff, offset, offset + length);
    this.save(offset, length);
  }

  program(offset, data) {
    for (let i = 0; i < data.length; i++) this.bytes[offset + i] &= data[i]; // can only clear bits
    this.save(offset, data.length);
  }

  save(offset, length) {
    fs.writeSync(this.file, this.bytes, offset, length, offset);
  }
}

function loadUF2(uf2, flash) {
  for (let at = 0; at + 512 <= uf2.length; at += 512) {
    const [magic, , flags, address, length, , , family] = Array.from({ length: 8 }, (_, i) =>
      uf2.readUInt32LE(at + 4 * i),
    );
    const ours = !(flags & 0x2000) || family === RP2040_FAMILY;
    const offset = address - XIP;
    if (magic !== 0x0a324655 || !ours || offset < 0 || offset + length > FLASH_BYTES) continue;
    flash.set(uf2.subarray(at + 32, at + 32 + length), offset);
  }
}

/** Offset of a function in the boot ROM, by the two letters of its table. */
function romFunction(rom, letters) {
  const wanted = letters.charCodeAt(0) | (letters.charCodeAt(1) << 8);
  for (let at = rom.getUint16(0x14, true); at + 4 <= rom.byteLength; at += 4) {
    const code = rom.getUint16(at, true);
    if (code === wanted) return rom.getUint16(at + 2, true) & ~1;
    if (!code) break;
  }
  throw new Error(`the boot ROM has no function ${letters}: is it an RP2040's?`);
}

const ERASE = 0x40; // numbers of the breakpoints put into the boot ROM
const PROGRAM = 0x41;

/** The boot ROM's words, its two flash functions replaced by breakpoints. */
function patchedRom(image) {
  const rom = new DataView(Uint8Array.from(image).buffer);
  // Fix 3 of 5: the flash chip's bus (SSI) is a stub, so erasing and programming do nothing and no
  // file system can be made. The boot ROM's functions for both become BKPT n; BX LR, and `onBreak`
  // does their work on the arguments in r0 to r2.
  for (const [letters, number] of [['RE', ERASE], ['RP', PROGRAM]]) {
    const at = romFunction(rom, letters);
    rom.setUint16(at, 0xbe00 | number, true);
    rom.setUint16(at + 2, 0x4770, true);
  }
  return new Uint32Array(rom.buffer);
}

/** One chip from power-on to its first reset. */
export class Chip {
  /**
   * onOutput(bytes): what the USB console sends. before: the chip that was reset, to go on from.
   * bench: what is connected to its pins, {"wires": [[from, to], ...], "adc": {channel: {"hz",
   * "mean", "waves": [[number, amplitude, phase], ...]}}}; phases in rad, the rest counts of 12 bits.
   * `resetAsked` becomes true by the watchdog, which is also how MicroPython resets the chip.
   */
  constructor(emulator, { bootrom, flash, onOutput, bench = {}, before = null }) {
    this.clock = new emulator.SimulationClock(HZ);
    this.mcu = new emulator.RP2040(this.clock);
    this.mcu.logger = new emulator.ConsoleLogger(ERRORS, false);
    this.mcu.loadBootrom(patchedRom(bootrom));
    this.flash = flash;
    flash.attach(this.mcu);
    this.mcu.onBreak = (number) => this.#breakpoint(number);
    this.#ringOscillator();
    this.#stateMachines();
    this.#wires(bench.wires ?? []);
    this.#converter(bench.adc ?? {});
    this.#watchdog(before);
    this.#console(emulator, onOutput);
    // Past the boot ROM's own start, which would read flash over the stub bus: to where it ends.
    this.mcu.core.PC = XIP;
  }

  get cycles() {
    return this.mcu.core.cycles;
  }

  /** Execute about that many cycles; less when the processor waits for an interrupt. */
  run(cycles) {
    const { clock } = this;
    const { core } = this.mcu;
    const end = core.cycles + cycles;
    while (core.cycles < end && !core.waiting && !this.resetAsked) {
      clock.tick(core.executeInstruction() * CYCLE_NS);
    }
    return !core.waiting;
  }

  /** Let time pass without executing: to the next alarm of a peripheral, at most `nanos`. */
  wait(nanos) {
    this.clock.tick(this.clock.nextAlarm ? Math.min(this.clock.nanosToNextAlarm, nanos) : nanos);
  }

  #breakpoint(number) {
    const [r0, r1, r2] = this.mcu.core.registers;
    if (number === ERASE) {
      this.flash.erase(r0, r1);
      this.clock.tick((r1 / 4096) * ERASE_NS);
    } else if (number === PROGRAM) {
      this.flash.program(r0, Uint8Array.from({ length: r2 }, (_, i) => this.mcu.readUint8(r1 + i)));
      this.clock.tick((r2 / 256) * PROGRAM_NS);
    } else {
      throw new Error(`breakpoint ${number}: the firmware crashed`);
    }
  }

  #ringOscillator() {
    // Fix 4 of 5: the ring oscillator is not emulated and its random bit would always read 1, so
    // os.urandom would repeat itself. The PC's generator stands in: this is no evidence about the
    // randomness of a real chip.
    const peripheral = this.mcu.peripherals[0x40060];
    let bits = [];
    peripheral.readUint32 = (offset) => {
      if (offset === 0x18) return 0x80001000; // STATUS: stable and enabled
      if (offset !== 0x1c) return 0;
      if (!bits.length) bits = [...randomBytes(256)].map((byte) => byte & 1);
      return bits.pop();
    };
  }

  #stateMachines() {
    // Fix 5 of 5: PIO is stepped by timers of the PC, whatever its clock divisors and the delays of
    // its instructions say. Each state machine gets an alarm on the chip's clock instead.
    for (const pio of this.mcu.pio) {
      pio.run = () => {};
      const running = new Set();
      const start = (machine) => {
        running.add(machine);
        let spent = machine.cycles;
        const alarm = this.clock.createAlarm(() => {
          if (!machine.enabled) return running.delete(machine);
          // a pin that ends a `wait`, or the processor, may have added cycles since
          if (machine.cycles === spent) {
            machine.step();
            pio.checkChangedPins();
          }
          const cycles = Math.max(1, machine.cycles - spent); // 1: it goes on waiting
          spent = machine.cycles;
          const divisor = (machine.clockDivInt || 65_536) + machine.clockDivFrac / 256;
          alarm.schedule(cycles * divisor * CYCLE_NS);
        });
        alarm.schedule(0);
      };
      const write = pio.writeUint32.bind(pio);
      pio.writeUint32 = (offset, value) => {
        write(offset, value);
        pio.machines.filter((one) => one.enabled && !running.has(one)).forEach(start);
      };
    }
  }

  #wires(wires) {
    const { gpio } = this.mcu;
    for (const [from, to] of wires) {
      gpio[from].addListener((state) => gpio[to].setInputValue(state === 1)); // GPIOPinState.High
    }
  }

  #converter(signals) {
    const { adc } = this.mcu;
    const alarm = this.clock.createAlarm(() => {
      const signal = signals[adc.currentChannel];
      if (!signal) return adc.completeADCRead(0, false);
      const angle = 2 * Math.PI * ((this.clock.nanos * signal.hz) / 1e9);
      const wave = (sum, [n, amplitude, phase]) => sum + amplitude * Math.sin(n * angle + phase);
      const value = Math.round(signal.waves.reduce(wave, signal.mean));
      return adc.completeADCRead(Math.min(Math.max(value, 0), 4095), false);
    });
    adc.onADCRead = (channel) => {
      adc.currentChannel = channel;
      alarm.schedule(adc.sampleTime * 1000);
    };
  }

  #watchdog(before) {
    this.resetAsked = false;
    this.watchdog = this.mcu.peripherals[0x40058];
    this.watchdog.onWatchdogTrigger = () => {
      this.resetAsked = true;
      this.watchdog.alarm.enable = false; // or it would go off again and again at this instant
    };
    if (before) {
      // A reset by the watchdog keeps why it was and the scratch registers (machine.reset_cause).
      this.watchdog.reason = before.watchdog.reason;
      this.watchdog.scratchData.set(before.watchdog.scratchData);
    }
  }

  #console(emulator, onOutput) {
    const usb = this.mcu.usbCtrl;
    this.cdc = new emulator.USBCDC(usb);
    this.cdc.onSerialData = onOutput;
    // The firmware printed its banner while nothing was connected: an empty line gets a prompt.
    this.cdc.onDeviceConnected = () => this.send([13, 10]);
    // Fix 2 of 5: stock USBCDC answers every request for input at once, with an empty packet when
    // there is none; the firmware asks again, an interrupt about every 30 us, and everything runs
    // three times too slow. A real host answers NAK, which the firmware never sees: the request is
    // held until bytes exist.
    usb.onEndpointRead = (endpoint, size) => {
      if (endpoint !== this.cdc.outEndpoint) return;
      this.#asked = size;
      this.#feed();
    };
  }

  #input = []; // bytes the host sent and the firmware has not asked for
  #asked = 0; // size of the transfer the firmware waits for, 0 for none

  #feed() {
    if (!this.#asked || !this.#input.length) return;
    const packet = Uint8Array.from(this.#input.splice(0, this.#asked));
    this.#asked = 0;
    this.mcu.usbCtrl.endpointReadDone(this.cdc.outEndpoint, packet);
  }

  /** Whether `send` should be called with more; not before the host has found the device. */
  get wantsInput() {
    return this.cdc.initialized && this.#input.length < HELD_INPUT;
  }

  /** Bytes for the USB console. */
  send(bytes) {
    this.#input.push(...bytes);
    this.#feed();
  }
}
