/**
 * What a member must remember across restarts: one small JSON file per group, replaced atomically. Who the member is,
 * which numbers it may never use again, and whether the last stop left anything in doubt.
 *
 *   lastLsn ≤ lsnCeiling                     no LSN above the ceiling was ever used; after a crash the next stream
 *                                            begins above it
 *   durableLsn ≤ lastLsn                     what the receiver is known to hold
 *   clean ⇒ durableLsn = lastLsn             nothing was captured that the receiver lacks, and nothing was written
 *                                            that was not captured
 */
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AfterimageError } from '../proto/errors.js';

export const STATE_VERSION = 1;
/** LSNs are set aside in steps of this size, so that the file is not written for every record. */
export const LSN_CEILING_STEP = 1n << 24n;

const decimal = z
  .string()
  .regex(/^(0|[1-9]\d{0,19})$/)
  .transform((text) => BigInt(text));
const uuid = z
  .string()
  .regex(/^[0-9a-f]{32}$/)
  .transform((text) => Buffer.from(text, 'hex'));

const volumeSchema = z.strictObject({
  number: z.int().min(0).max(63),
  uuid,
  size: decimal,
  backing: z.string(),
  /** What the backing was at the last clean stop (backing.ts); "" when nothing is known. */
  fingerprint: z.string(),
});
const stateSchema = z.strictObject({
  group: uuid,
  member: uuid,
  host: z.string(),
  epoch: decimal,
  generation: decimal,
  lsnCeiling: decimal,
  lastLsn: decimal,
  lastTimeNs: decimal,
  durableLsn: decimal,
  era: z.int().min(1),
  clean: z.boolean(),
  volumes: z.record(z.string(), volumeSchema),
});
const fileSchema = z.strictObject({ version: z.int(), sha256: z.string(), state: z.unknown() });

export type VolumeMemory = z.output<typeof volumeSchema>;
export type MemberMemory = z.output<typeof stateSchema>;

/** The remembered state of one member; every change is on stable storage when its promise resolves. */
export class MemberState {
  private pending: Promise<void> = Promise.resolve();

  private constructor(
    private readonly file: string,
    private present: MemberMemory,
  ) {}

  /**
   * Reads the state of `group`, or makes a new one; nothing is written yet. `newUuid` gives 16 random bytes.
   * Errors: STATE_INVALID.
   */
  static async open(
    directory: string,
    group: string,
    host: string,
    newUuid: () => Buffer,
  ): Promise<MemberState> {
    const file = path.join(directory, `${group}.json`);
    return new MemberState(file, (await readMemory(file)) ?? newMemory(host, newUuid));
  }

  get memory(): Readonly<MemberMemory> {
    return this.present;
  }

  /** Changes some fields. Changes are written one after the other. Errors: IO_ERROR. */
  async update(change: Partial<MemberMemory>): Promise<void> {
    this.present = { ...this.present, ...change };
    assertInvariants(this.present);
    const write = this.pending.then(() => writeMemory(this.file, this.present));
    // The next update must not fail because this one did; its caller is told.
    this.pending = write.catch(() => undefined);
    await write;
  }
}

function newMemory(host: string, newUuid: () => Buffer): MemberMemory {
  return {
    group: newUuid(),
    member: newUuid(),
    host,
    epoch: 0n,
    generation: 0n,
    lsnCeiling: 0n,
    lastLsn: 0n,
    lastTimeNs: 0n,
    durableLsn: 0n,
    era: 1,
    clean: false,
    volumes: {},
  };
}

function assertInvariants(memory: MemberMemory): void {
  const { lastLsn, lsnCeiling, durableLsn, clean } = memory;
  if (lastLsn > lsnCeiling || durableLsn > lastLsn || (clean && durableLsn !== lastLsn)) {
    throw new AfterimageError('INTERNAL', `state: durable ${durableLsn}, last ${lastLsn}, ceiling ${lsnCeiling}`);
  }
}

async function readMemory(file: string): Promise<MemberMemory | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AfterimageError('STATE_INVALID', `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
  try {
    const { version, sha256, state } = fileSchema.parse(JSON.parse(text));
    if (version !== STATE_VERSION) throw new Error(`version ${version}, not ${STATE_VERSION}`);
    if (sha256 !== digest(JSON.stringify(state))) throw new Error('its checksum does not match');
    const memory = stateSchema.parse(state);
    assertInvariants(memory);
    return memory;
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new AfterimageError('STATE_INVALID', `${file}: ${reason}`, { cause });
  }
}

/** Temporary file, fsync, rename, fsync of the directory: after a power loss the file is the old or the new one. */
async function writeMemory(file: string, memory: MemberMemory): Promise<void> {
  const state = JSON.stringify(toJson(memory));
  const directory = path.dirname(file);
  const temporary = `${file}.new`;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.writeFile(`{"version":${STATE_VERSION},"sha256":"${digest(state)}","state":${state}}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
    const parent = await open(directory, 'r');
    try {
      await parent.sync();
    } finally {
      await parent.close();
    }
  } catch (cause) {
    throw new AfterimageError('IO_ERROR', `${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/** u64 as decimal text, UUIDs as hex: JSON's own numbers end at 2^53. */
function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item)]));
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
