/**
 * A disk of QEMU over an NBD export, as a virtual machine has one: when its connection breaks it connects again, and sends
 * again what was not answered. Every write that it acknowledged is read back before the next one of the same block.
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { ended } from './command.js';
import type { Scratch } from './scratch.js';

const BLOCK_BYTES = 8 << 10;
/** In flight at a time. */
const DEPTH = 16;
/** So many to a flush. */
const FLUSH_WRITES = 8 * DEPTH;
const END_SECONDS_MAX = 120;
const PROMPT = 'qemu-io> ';

export class QemuDisk {
  /** What fills each block. */
  private readonly patterns: Buffer;
  private readonly qemu: ChildProcessWithoutNullStreams;
  private said = '';
  private hasEnded = false;
  /** That were asked for. */
  writes = 0;

  /** `bytes` of zeros behind a Unix socket, in the export "disk"; `random` is from 0 to below 1. */
  constructor(
    scratch: Scratch,
    socket: string,
    bytes: number,
    private readonly random: () => number,
  ) {
    this.patterns = Buffer.alloc(bytes / BLOCK_BYTES);
    const disk = `driver=nbd,server.type=unix,server.path=${socket},export=disk,reconnect-delay=60`;
    this.qemu = spawn('qemu-io', ['--image-opts', disk]);
    scratch.defer('qemu-io', () => void this.qemu.kill('SIGKILL'));
    this.qemu.stdin.on('error', () => undefined); // it has ended, which is heard of below
    for (const output of [this.qemu.stdout, this.qemu.stderr])
      output.setEncoding('utf8').on('data', (text: string) => {
        this.said = `${this.said}${text}`.replaceAll(PROMPT, '');
      });
    this.qemu.once('close', () => (this.hasEnded = true));
  }

  /** Reads a few blocks from anywhere back, and then writes something else there. */
  async rewriteSome(): Promise<void> {
    const blocks = new Set<number>();
    while (blocks.size < DEPTH) blocks.add(Math.floor(this.random() * this.patterns.length));
    const reads = [...blocks].map((block) => this.readOf(block));
    for (const block of blocks) this.patterns[block] = (this.patternOf(block) % 255) + 1;
    const writes = [...blocks].map(
      (block) => `aio_write -q -P ${this.patternOf(block)} ${block * BLOCK_BYTES} ${BLOCK_BYTES}`,
    );
    this.writes += blocks.size;
    const flush = this.writes % FLUSH_WRITES === 0 ? ['flush'] : [];
    await this.perform([...reads, 'aio_flush', ...writes, 'aio_flush', ...flush]);
  }

  /** Reads all of it back, and lets it go. What QEMU has said against any of it: "", where all is well. */
  async close(): Promise<string> {
    for (let first = 0; first < this.patterns.length; first += DEPTH) {
      const blocks = Array.from({ length: DEPTH }, (_, i) => first + i);
      await this.perform([...blocks.map((block) => this.readOf(block)), 'aio_flush']);
    }
    this.qemu.stdin.end();
    const status = await ended(this.qemu, END_SECONDS_MAX);
    return status === 0 ? this.said : `${this.said}qemu-io ended with ${status}`;
  }

  /** What it holds, unless something was lost. */
  content(): Buffer {
    return Buffer.concat(Array.from(this.patterns, (pattern) => Buffer.alloc(BLOCK_BYTES, pattern)));
  }

  private patternOf(block: number): number {
    return this.patterns[block] ?? 0;
  }

  private readOf(block: number): string {
    return `aio_read -q -P ${this.patternOf(block)} ${block * BLOCK_BYTES} ${BLOCK_BYTES}`;
  }

  /** Resolves when qemu-io is in want of more. They say nothing unless they fail. */
  private async perform(commands: readonly string[]): Promise<void> {
    const isWanting = this.qemu.stdin.write([...commands, ''].join('\n'));
    if (!isWanting && !this.hasEnded)
      await Promise.race([once(this.qemu.stdin, 'drain'), once(this.qemu, 'close')]);
    if (this.hasEnded) throw new Error(`qemu-io has ended: ${this.said}`);
  }
}
